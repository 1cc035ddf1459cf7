"""How a served model is asked, and how its answer is shown: every challenge brings its own way."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from rich.console import Console

from common.question import Question

if TYPE_CHECKING:
    from common.export.runner import Arrays


class Dialogue(ABC):
    """What `kit client` and `kit load` know about served models of one kind."""

    takes: tuple[str, ...]
    """The fields of a Question that such a model answers to; the first one is needed."""
    example: str
    """The same as an example for the command line, where no run's own names are at hand."""

    @abstractmethod
    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        """Whether a model whose tensors have these names is of this kind."""

    def with_inputs(self, inputs: AbstractSet[str]) -> "Dialogue":
        """The same with one served model of this kind, whose inputs have these names."""
        return self

    @abstractmethod
    def requests(self, question: Question, batch: int) -> "Iterable[Arrays]":
        """The tensors of every request, each (sample, ...) with at most `batch` samples."""

    def classes(self, question: Question) -> int:
        """How many of the best classes to ask for by name, as `Client.infer` does; 0 for the outputs as they are."""
        return 0

    @abstractmethod
    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        """Print what came back, the outputs of each request."""
