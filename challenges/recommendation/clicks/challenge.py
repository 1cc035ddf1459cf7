"""What DLRM and Wide & Deep have in common: rows of a click log in, probabilities out."""

from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.judgement import ClickJudgement
from challenges.recommendation.clicks.page import ClickPage
from challenges.recommendation.clicks.recipes import ClickRecipe
from challenges.recommendation.clicks.serving.face import ServedClicks
from challenges.recommendation.clicks.spec import FILE as SPEC_FILE
from challenges.recommendation.clicks.task import ClickTask
from challenges.recommendation.clicks.vocabulary import FOLDER as VOCABULARY
from common.challenge import Challenge, CheckedData, Trained, Weights
from common.errors import CheckpointError, DataError
from common.files import cache_folder, copy_file, write_json
from common.machine.distributed import ALONE, World
from common.question import Question
from common.run.run_directory import RunDirectory
from common.storage.weight_files import read_weights, save_weights, weights_metadata

RecipeType = TypeVar("RecipeType", bound=ClickRecipe)
TaskType = TypeVar("TaskType", bound="ClickTask[Any]")
DEMO_ROWS, SAMPLE_ROWS = 500_000, 20_000


class ClickWeights(Weights[ClickRecipe, ClickData, "ClickTask[Any]"]):
    """Tables belong to one vocabulary, so that a training starts from nothing."""

    def save(self, task: "ClickTask[Any]", data: ClickData, recipe: ClickRecipe, path: Path) -> None:
        columns = [column.name for column in data.spec.looked_up]
        save_weights(task.state_dict(), path, weights_metadata((), {"columns": columns}))

    def load(self, task: "ClickTask[Any]", path: Path) -> None:
        """Raises CheckpointError where the file is another model's or another vocabulary's."""
        try:
            task.load_state_dict(read_weights(path).tensors)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit this model: {str(error).splitlines()[-1].strip()}.",
                "Weights belong to one model and one vocabulary.",
            ) from error


class ClickChallenge(Challenge[RecipeType, ClickData, TaskType], Generic[RecipeType, TaskType]):
    """DLRM or Wide & Deep: they differ in their networks alone."""

    task_class: type[TaskType]
    weights = ClickWeights()
    judgement = ClickJudgement()
    page = ClickPage()
    served = ServedClicks()

    def demo_data(self, console: Console) -> Path:
        from challenges.recommendation.clicks import demo

        return demo.generate(cache_folder() / "demo" / "clicks", DEMO_ROWS, console)

    def sample_data(self, console: Console) -> Path:
        from challenges.recommendation.clicks import demo

        return demo.generate(cache_folder() / "demo" / "few-clicks", SAMPLE_ROWS, console)

    def check(self, root: Path, recipe: RecipeType, output: Path, console: Console) -> CheckedData:
        """Keeps the spec and the vocabulary, with which rows of anywhere else can be read, and where the rows are."""
        from challenges.recommendation.clicks.opening import open_log
        from challenges.recommendation.clicks.prepare.command import tell

        log = open_log(root, console)
        prepared = log.prepared
        tell(prepared, console)
        copy_file(prepared.folder / SPEC_FILE, output / SPEC_FILE)
        for path in sorted((prepared.folder / VOCABULARY).glob("*.parquet")):
            copy_file(path, output / VOCABULARY / path.name)
        record = {
            "root": str(root.resolve()),
            "understood": dict(log.understood),
            "prepared": str(prepared.folder.resolve()),
            "name": prepared.name,
            "rows": dict(prepared.rows),
            "positives": dict(prepared.positives),
            "judged": prepared.judged,
            "facts": dict(prepared.facts),
            "warnings": [],
        }
        write_json(output / "check.json", record)
        summary: dict[str, object] = {"name": prepared.name, "rows": dict(prepared.rows)}
        return CheckedData(root, prepared.fingerprint(), summary)

    def check_test(
        self, root: Path, run: RunDirectory, recipe: RecipeType, output: Path, console: Console
    ) -> CheckedData:
        raise DataError(
            f"{self.model} was asked to judge other data.",
            "A click model is judged on the test or validation rows of the data that it was trained with.",
            f"For the probabilities of other rows: kit predict {run.path} ROWS.csv",
        )

    def open_data(self, recipe: RecipeType, checked: Path, device: torch.device, world: World = ALONE) -> ClickData:
        return ClickData.of_check(checked, device=device, world=world, seed=recipe.training.seed)

    def build_task(self, recipe: RecipeType, data: ClickData) -> TaskType:
        return self.task_class(recipe, data.spec, world=data.world)

    def predict(
        self,
        trained: Trained[RecipeType, ClickData, TaskType],
        question: Question,
        output: Path,
        device: torch.device,
        console: Console,
    ) -> None:
        from challenges.recommendation.clicks.predict import predict

        predict(trained, question.inputs, output, device, console)
