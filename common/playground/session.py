"""One run on the page: what it is asked with, what it answers, and what becomes of a person's correction."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from common.errors import KitError
from common.language.telling import english
from common.playground.fields import Example, Field, Option, Values
from common.playground.films import Videos

if TYPE_CHECKING:
    from common.export.runner import Runner
    from common.serving.client import Client


@dataclass(frozen=True)
class Engine:
    """Where answers come from: an engine in this process, or a server.

    label: in English, as the page tells it again. runner: of the exported graph; None where a server answers.
    url:   the server's address. model: the name under which it has the run.
    """

    label: str
    runner: "Runner | None" = None
    url: str = ""
    model: str = ""

    def connect(self) -> "Client":
        """A connection of one's own, to be closed; a client is not shared between threads."""
        from common.serving.client import Client

        return Client(self.url)


@dataclass(frozen=True)
class Verdict:
    """What a person may say about an answer.

    question: in words of the language that is spoken. options: the things that may be right.
    right:    the values taken for right so far.
    """

    question: str
    options: tuple[Option, ...]
    right: tuple[str, ...]


class Session(ABC):
    """A run ready to be asked, by one question at a time.

    name:    of the run, as it stands on the page. about: what it does, as the end of an English sentence.
    fields:  what it is asked with. controls: what changes how an answer is shown, without asking the model again.
    videos:  what it does with videos; None where it takes none.
    verdict_kind: whether one thing or several are right about an answer; None where nobody is asked.
    """

    name: str
    about: str
    fields: tuple[Field, ...]
    controls: tuple[Field, ...] = ()
    videos: Videos | None = None
    verdict_kind: Literal["one", "several"] | None = None

    @abstractmethod
    def examples(self) -> Sequence[Example]:
        """Questions from the run's own validation data, those first that the model finds hard."""

    @abstractmethod
    def example(self, number: int) -> Values:
        """What the fields hold in the example at a place among `examples`."""

    @abstractmethod
    def ask(self, values: Values) -> Any:
        """Ask the model; what comes back is for `show` and `verdict` alone.

        Raises KitError with a sentence for whatever cannot be answered.
        """

    @abstractmethod
    def show(self, answer: Any, controls: Values) -> Markup:
        """An answer as HTML that needs nothing from elsewhere. `button` elements with data-pick add to the picks."""

    def verdict(self, answer: Any, controls: Values) -> Verdict | None:
        """What to ask a person about an answer; None where there is nothing to say."""
        return None

    def keep(self, answer: Any, controls: Values, right: Sequence[str], folder: Path) -> str:
        """Write the question with what was right into a folder that `kit check` reads; returns what was kept, in words.

        right: values of the verdict's options. Raises KitError for others.
        """
        raise KitError(english("{run:s} keeps no corrections.", run=self.name))


def require_options(verdict: Verdict | None, right: Sequence[str]) -> None:
    """Raise KitError where something was called right that is no option."""
    known = {option.value for option in verdict.options} if verdict else set()
    if not set(right) <= known:
        raise KitError(
            english("The correction names what was not asked about."),
            remedy=english("Ask again, then correct the answer."),
        )
