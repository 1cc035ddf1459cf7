"""What a model brings to the kit's verbs: its data and task, and five roles that each know one thing about it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from rich.console import Console

from common.errors import DataError
from common.export.exported import gives_embedding
from common.machine.distributed import ALONE, World
from common.question import Question
from common.report.elements import Section
from common.run.evidence import Evidence
from common.run.fitting import Fit
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.training.task import DataModule, Task

if TYPE_CHECKING:
    from common.export.parity import Comparison, Judged
    from common.export.runner import Arrays, Runner, TorchRunner
    from common.playground.session import Engine, Session
    from common.run.result import Result
    from common.serving.client import Client
    from common.serving.dialogue import Dialogue
    from common.serving.repository import Exported, ModelRepository

RecipeType = TypeVar("RecipeType", bound=Recipe)
Data = TypeVar("Data", bound=DataModule)
TaskType = TypeVar("TaskType", bound=Task)
RecipeIn = TypeVar("RecipeIn", bound=Recipe, contravariant=True)
DataIn = TypeVar("DataIn", bound=DataModule, contravariant=True)
TaskIn = TypeVar("TaskIn", bound=Task, contravariant=True)
"""What a role is handed: one for all recommenders is one for each."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class CheckedData:
    """A data folder that was looked at: its fingerprint changes whenever any of its files does."""

    root: Path
    fingerprint: str
    summary: dict[str, object]


class Weights(ABC, Generic[RecipeIn, DataIn, TaskIn]):
    """How a task's weights are started from, kept and read again."""

    def start(self, task: TaskIn, data: DataIn, recipe: RecipeIn, console: Console) -> None:
        """Load what a training starts from, where the recipe names any, and say which; most start from nothing."""

    @abstractmethod
    def save(self, task: TaskIn, data: DataIn, recipe: RecipeIn, path: Path) -> None: ...

    @abstractmethod
    def load(self, task: TaskIn, path: Path) -> None:
        """Raises CheckpointError where the file is another model's."""


class Judgement(ABC, Generic[RecipeIn, DataIn]):
    """What a run's figures are held against."""

    primary_metric: str
    """The metric of a result whose recipe has no target."""

    @abstractmethod
    def comparability(self, recipe: RecipeIn, data: DataIn) -> tuple[bool, str]:
        """Whether this data is what the recipe's target was measured on, and why not."""

    @abstractmethod
    def baselines(self, recipe: RecipeIn, data: DataIn) -> Mapping[str, Mapping[str, float]]:
        """What simpler things reach on the validation split, in seconds: name -> metric -> value."""

    def main_metric(self, recipe: RecipeIn, metrics: Mapping[str, float]) -> str:
        """The metric that a result is about: the target's or the primary one, if this data's evaluation reports it."""
        wanted = recipe.target.metric if recipe.target else self.primary_metric
        return wanted if wanted in metrics else next(iter(metrics))

    def evidence(self, run: RunDirectory) -> Evidence:
        """What the run's data tells of why the run is no better."""
        return Evidence()

    def below_baseline(self, result: "Result") -> str:
        """What to do where a baseline beats the model, in a sentence; empty where there is nothing to add."""
        return ""


class Page(ABC, Generic[RecipeIn, DataIn]):
    """What a run's report shows beside what every report does."""

    def keep_samples(self, run: RunDirectory, recipe: RecipeIn, data: DataIn) -> None:
        """Keep what the report is to show of the data, such as a few training samples as the network sees them."""

    @abstractmethod
    def sections(self, run: RunDirectory, recipe: RecipeIn) -> Sequence[Section]: ...


class ServedFace(ABC, Generic[RecipeIn, DataIn]):
    """How an exported model is asked, judged and served."""

    dialogue: "Dialogue"
    """How the model is asked once it is served."""
    judged_samples: int = 2000
    """Validation samples, at most, that every engine answers."""

    def example(self, run: RunDirectory) -> Sequence[str]:
        """Arguments of `kit client` that ask the run's model, with names of its own data where there are any."""
        return self.dialogue.example.split()

    def comparison(self) -> "Comparison":
        """How two engines' answers are held against each other."""
        from common.export.parity import ONE_ANSWER

        return ONE_ANSWER

    @abstractmethod
    def contract(self, recipe: RecipeIn, data: DataIn) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The preprocessing as JSON values, and the class names, that travel with an exported model."""

    @abstractmethod
    def labelled_inputs(self, data: DataIn, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        """Model inputs by name, and the labels to judge the answers by, of the first `limit` samples of a split."""

    @abstractmethod
    def judge(self, runner: "Runner", inputs: "Iterable[tuple[Arrays, Arrays]]", data: DataIn) -> "Judged":
        """The task's metric of an engine's answers, and what it decided for every sample."""

    @abstractmethod
    def add_to_repository(
        self,
        repository: "ModelRepository",
        name: str,
        exported: "Exported",
        class_names: Sequence[str],
        run: RunDirectory,
    ) -> None:
        """Add a run's exported model to Triton's repository, from raw input to final answer."""

    @abstractmethod
    def compare_served(self, client: "Client", name: str, run: RunDirectory, limit: int) -> dict[str, Any]:
        """Send raw inputs to the model that the server has under `name`, and hold its answers against the evaluation's.

        returns: at least sent and sent_unit (files, histories), compared, same and unit (answers, detections), p50_ms,
                 and examples for the report.
        """


class Playground(ABC):
    """What `kit demo` lets people do with a run in a browser."""

    @abstractmethod
    def open(self, trained: "Trained[Any, Any, Any]", engine: "Engine") -> "Session":
        """A run ready to be asked; answers come from the engine, all else from the trained task and its data."""


class PictureSearch(ABC):
    """How a run finds pictures that are like others."""

    @abstractmethod
    def index(
        self, trained: "Trained[Any, Any, Any]", folders: Sequence[Path], console: Console, url: str | None = None
    ) -> None:
        """Bring the run's index up to date with the pictures of folders, and tell how well it finds a class's.

        url: of a server whose answers have the embedding; None: this process computes it.
        """

    @abstractmethod
    def similar(
        self,
        trained: "Trained[Any, Any, Any]",
        images: Sequence[Path],
        top_k: int,
        page: Path | None,
        console: Console,
        url: str | None = None,
    ) -> None:
        """Print the indexed pictures that are most like each image, and write them to an HTML page if one is named."""

    @abstractmethod
    def copies(self, checked: Path, trained: "Trained[Any, Any, Any] | None", console: Console) -> Path:
        """Print which pictures of checked data are there more than once, in one split or in several.

        checked: what the check wrote. trained: a run by whose vectors pairs are proposed.
        returns: a file of those that must not be parted, in `checked`.
        """


class Challenge(ABC, Generic[RecipeType, Data, TaskType]):
    """One model: where its data comes from, what is trained, and who knows the rest about it."""

    model: str
    recipe_class: type[RecipeType]
    recipes: Mapping[str, RecipeType]
    predicts_from: tuple[str, ...] = ("inputs",)
    """The fields of a Question that `predict` answers to; the first one is needed."""
    weights: Weights[RecipeType, Data, TaskType]
    judgement: Judgement[RecipeType, Data]
    page: Page[RecipeType, Data]
    served: ServedFace[RecipeType, Data]
    playground: Playground
    search: PictureSearch | None = None
    """None where there is no layer whose vectors tell pictures apart."""

    @abstractmethod
    def demo_data(self, console: Console) -> Path:
        """Generate the demo data, or find it generated, and return its folder."""

    def sample_data(self, console: Console) -> Path:
        """The same of a little of what the demo is made of, where making all of it takes longer than seconds."""
        return self.demo_data(console)

    @abstractmethod
    def check(self, root: Path, recipe: RecipeType, output: Path, console: Console) -> CheckedData:
        """Scan a data folder and write what training needs into `output`; cheap when nothing changed.

        Raises DataError when nothing can be learnt from the folder.
        """

    def fits(self, recipe: RecipeType, checked: Path) -> Sequence[Fit]:
        """Values for this data, of a recipe that is fitted to it; `checked` holds what the check wrote."""
        return ()

    def lighter(self, recipe: RecipeType, checked: Path) -> Sequence[tuple[tuple[str, ...], float]]:
        """Flags under which a sample takes less work, and the share of it that is left, the heaviest first; only those
        that still see what is in the data whose check is in `checked`.
        """
        way = recipe.lighter()
        return () if way is None else (way,)

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
            "Folders of photographs or scenes are judged, and interactions by recommenders of histories.",
        )

    def own_test(self, run: RunDirectory, output: Path) -> CheckedData | None:
        """The same for the test part of the run's own data; None where it has none."""
        return None

    @abstractmethod
    def open_data(self, recipe: RecipeType, checked: Path, device: torch.device, world: World = ALONE) -> Data:
        """Batches of the data whose check was written to `checked`."""

    @abstractmethod
    def build_task(self, recipe: RecipeType, data: Data) -> TaskType:
        """A freshly initialised task for this data."""

    @abstractmethod
    def predict(
        self,
        trained: "Trained[RecipeType, Data, TaskType]",
        question: Question,
        output: Path,
        device: torch.device,
        console: Console,
    ) -> None:
        """Answer for what the user brings: print a table, write what there is to keep to `output`."""


@dataclass(frozen=True)
class Trained(Generic[RecipeType, Data, TaskType]):
    """A run's weights in a task ready to answer, with its data."""

    challenge: Challenge[RecipeType, Data, TaskType]
    run: RunDirectory
    recipe: RecipeType
    data: Data
    task: TaskType

    @classmethod
    def load(
        cls, challenge: Challenge[RecipeType, Data, TaskType], run: RunDirectory, device: torch.device = CPU
    ) -> "Trained[RecipeType, Data, TaskType]":
        """device: of the data's batches; the task stays on the CPU until it is placed."""
        run.require_weights()
        recipe = run.recipe(challenge.recipe_class)
        data = challenge.open_data(recipe, run.data, device)
        task = challenge.build_task(recipe, data)
        challenge.weights.load(task, run.weights_file)
        task.gives_embedding = gives_embedding(run)
        return cls(challenge, run, recipe, data, task.eval())

    def reference(self, device: torch.device = CPU) -> "TorchRunner":
        """The trained module in float32, whose answers count, on a device."""
        from common.export.runner import TorchRunner
        from common.machine.precision import select_precision

        select_precision("fp32", device)  # which cuDNN takes for TF32 otherwise
        return TorchRunner(self.task.inference_module(), self.task.signature(), device=str(device))

    def inputs(self, split: str, limit: int) -> "Iterator[tuple[Arrays, Arrays]]":
        """Model inputs and labels of the first samples of a split, in batches."""
        return self.challenge.served.labelled_inputs(self.data, split, limit)

    def judge(self, runner: "Runner", limit: int) -> "Judged":
        """An engine's answers for the first `limit` validation samples."""
        return self.challenge.served.judge(runner, self.inputs("val", limit), self.data)
