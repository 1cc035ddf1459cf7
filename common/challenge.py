"""What a challenge gives the command line: its recipes, its data, its task, and what to show of a run."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from rich.console import Console

from common.errors import DataError
from common.machine.distributed import World
from common.report.elements import Section
from common.run.fitting import Fit
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.training.task import DataModule, Task

if TYPE_CHECKING:
    from common.export.artefact import ArtefactSidecar
    from common.export.parity import Comparison, Judged
    from common.export.runner import Arrays, Runner
    from common.run.result import Result
    from common.serving.client import Client
    from common.serving.config import Engine, EngineOptions
    from common.serving.repository import ModelRepository

RecipeType = TypeVar("RecipeType", bound=Recipe)
Data = TypeVar("Data", bound=DataModule)


@dataclass(frozen=True)
class CheckedData:
    """A data folder that was looked at: its fingerprint changes whenever any of its files does."""

    root: Path
    fingerprint: str
    summary: dict[str, object]


@dataclass(frozen=True)
class Question:
    """What `kit predict` was asked; a challenge takes what its `predicts_from` names.

    inputs:    files and folders of the user's.
    history:   items by identifier or title, oldest first.
    user:      a user of the training data, by identifier.
    threshold: lowest score to show; None for the challenge's own.
    """

    inputs: tuple[Path, ...] = ()
    history: tuple[str, ...] = ()
    user: str | None = None
    threshold: float | None = None


class Challenge(ABC, Generic[RecipeType, Data]):
    """One model and everything the kit's verbs need to know about it."""

    model: str
    recipe_class: type[RecipeType]
    recipes: Mapping[str, RecipeType]
    predicts_from: tuple[str, ...] = ("inputs",)
    """The fields of a Question that `predict` answers to; the first one is needed."""

    def comparison(self) -> "Comparison":
        """How two engines' answers are held against each other."""
        from common.export.parity import ONE_ANSWER

        return ONE_ANSWER

    @abstractmethod
    def demo_data(self, console: Console) -> Path:
        """Generate the demo data, or find it generated, and return its folder."""

    @abstractmethod
    def check(self, root: Path, recipe: RecipeType, output: Path, console: Console) -> CheckedData:
        """Scan a data folder and write what training needs into `output`; cheap when nothing changed.

        Raises DataError when nothing can be learnt from the folder.
        """

    def fits(self, recipe: RecipeType, checked: Path) -> Sequence[Fit]:
        """Values for this data, of a recipe that is fitted to it; `checked` holds what the check wrote."""
        return ()

    def check_test(
        self, root: Path, run: RunDirectory, recipe: RecipeType, output: Path, console: Console
    ) -> CheckedData:
        """Scan labelled data that a run is only judged on, and write what `open_data` reads into `output`: all of it as
        validation samples, in the run's own classes.

        summary: samples, unit, own (whether it is part of the run's data) and warnings.
        Raises DataError where the run has not learnt what the data asks for, or nothing can be judged.
        """
        raise DataError(
            f"{self.model} was asked to judge other data.",
            "Folders of photographs or scenes are judged; recommenders are judged on what their own data holds out.",
            "Train on the interactions that are to be judged: the recipe's protocol holds some of each user out.",
        )

    def own_test(self, run: RunDirectory, output: Path) -> CheckedData | None:
        """The same for the test part of the run's own data; None where it has none."""
        return None

    @abstractmethod
    def open_data(
        self,
        recipe: RecipeType,
        checked: Path,
        device: torch.device,
        world: World = World(),  # noqa: B008 (frozen)
    ) -> Data:
        """Batches of the data whose check was written to `checked`."""

    @abstractmethod
    def build_task(self, recipe: RecipeType, data: Data) -> Task:
        """A freshly initialised task for this data."""

    @abstractmethod
    def load_starting_weights(self, task: Task, recipe: RecipeType, console: Console) -> None:
        """Load the weights that a training starts from, where the recipe names any, and say which."""

    @abstractmethod
    def save_weights(self, task: Task, data: Data, recipe: RecipeType, path: Path) -> None: ...

    @abstractmethod
    def load_weights(self, task: Task, path: Path) -> None: ...

    @abstractmethod
    def comparability(self, recipe: RecipeType, data: Data) -> tuple[bool, str]:
        """Whether this data is what the recipe's target was measured on, and why not."""

    @abstractmethod
    def baselines(self, recipe: RecipeType, data: Data) -> Mapping[str, Mapping[str, float]]:
        """What simpler things reach on the validation split, in seconds: name -> metric -> value."""

    @abstractmethod
    def primary_metric(self) -> str:
        """The metric of a result whose recipe has no target."""

    def below_baseline(self, result: "Result") -> str:
        """What to do where a baseline beats the model, in a sentence; empty where there is nothing to add."""
        return ""

    def main_metric(self, recipe: RecipeType, metrics: Mapping[str, float]) -> str:
        """The metric that a result is about: the target's or the challenge's, if this data's evaluation reports it."""
        wanted = recipe.target.metric if recipe.target else self.primary_metric()
        return wanted if wanted in metrics else next(iter(metrics))

    @abstractmethod
    def keep_samples(self, run: RunDirectory, recipe: RecipeType, data: Data) -> None:
        """Keep what the report is to show of the data, such as a few training samples as the network sees them."""

    @abstractmethod
    def report_sections(self, run: RunDirectory, recipe: RecipeType) -> Sequence[Section]: ...

    @abstractmethod
    def predict(
        self, run: RunDirectory, question: Question, output: Path, device: torch.device, console: Console
    ) -> None:
        """Answer for what the user brings: print a table, write what there is to keep to `output`."""

    @abstractmethod
    def contract(self, recipe: RecipeType, data: Data) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The preprocessing as JSON values, and the class names, that travel with an exported model."""

    @abstractmethod
    def labelled_inputs(self, data: Data, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        """Model inputs by name, and the labels to judge the answers by, of the first `limit` samples of a split."""

    @abstractmethod
    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: Data) -> "Judged":
        """The task's metric of an engine's answers, and what it decided for every sample."""

    @abstractmethod
    def add_to_repository(
        self,
        repository: "ModelRepository",
        name: str,
        path: Path,
        sidecar: "ArtefactSidecar",
        engine: "Engine",
        options: "EngineOptions",
        run: RunDirectory,
    ) -> None:
        """Add a run's exported model to Triton's repository, from raw input to final answer."""

    @abstractmethod
    def compare_served(self, client: "Client", run: RunDirectory, limit: int) -> dict[str, Any]:
        """Send raw inputs to the server and hold its answers against the evaluation's.

        returns: at least sent and sent_unit (files, histories), compared, same and unit (answers, detections), p50_ms,
                 and examples for the report.
        """
