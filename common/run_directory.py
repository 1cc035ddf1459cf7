"""The folder that holds everything about one run, under names that never change."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from common import recipe as recipes
from common.errors import CheckpointError, KitError
from common.files import read_json, write_json, write_text

RecipeType = TypeVar("RecipeType", bound=recipes.Recipe)


class RunDirectory:
    """Paths inside a run, and the few files whose content the kit itself reads back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.json"
        self.run_file = path / "run.json"
        self.environment_file = path / "environment.json"
        self.metrics_file = path / "metrics.jsonl"
        self.training_file = path / "training.json"
        self.checkpoints = path / "checkpoints"
        self.weights_file = path / "weights.safetensors"
        self.predictions_file = path / "predictions.npz"
        self.evaluation_file = path / "evaluation.json"
        self.baselines_file = path / "baselines.json"
        self.result_file = path / "result.json"
        self.report_file = path / "report" / "index.html"
        self.data = path / "data"
        self.export = path / "export"
        self.parity_file = path / "export" / "parity.json"
        self.serving = path / "serving"
        self.serving_file = path / "serving.json"
        self.logs = path / "logs"

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run.

        Raises CheckpointError when the folder holds none.
        """
        run = cls(path)
        if not run.run_file.is_file():
            raise CheckpointError(
                f"{path} is not a run directory.",
                f"A run directory holds {run.run_file.name} and {run.recipe_file.name}, written by `kit train`.",
                "Pass the folder that `kit train` printed; `ls runs/` shows what there is.",
            )
        return run

    def create(self, recipe: recipes.Recipe, description: dict[str, Any]) -> None:
        """Write what the run is, or confirm that the folder already holds the very same run."""
        if self.run_file.is_file():
            if self.description()["recipe_digest"] == recipe.digest():
                return
            raise CheckpointError(
                f"{self.path} already holds a run of another recipe or with other overrides.",
                "A run directory belongs to one resolved recipe.",
                "Pass another --run, or delete the folder.",
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.recipe_file, recipes.to_json(recipe) + "\n")
            write_json(self.run_file, {**description, "recipe_digest": recipe.digest()})
        except OSError as error:
            raise self._unwritable(error) from error

    def description(self) -> dict[str, Any]:
        return read_json(self.run_file)

    def recipe(self, recipe_class: type[RecipeType]) -> RecipeType:
        return recipes.from_json(recipe_class, self.recipe_file.read_text())

    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines in order of steps; a step that was repeated after a resume counts once, as it last was."""
        if not self.metrics_file.is_file():
            return []
        latest: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self.metrics_file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # a kill can cut the last line short
                entry = json.loads(line)
                latest[entry["kind"], entry["step"]] = entry
        return sorted(latest.values(), key=lambda entry: (entry["step"], entry["kind"]))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; a second process that trains the same run is told so."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = (self.path / ".lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with opened as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise KitError(
                    f"Another process is training in {self.path}.",
                    "One run directory serves one training at a time.",
                    "Wait for it, stop it, or pass another --run.",
                ) from None
            for leftover in self.path.rglob(".*.part"):  # a kill in the middle of a write leaves its beginning
                leftover.unlink(missing_ok=True)
            yield

    def _unwritable(self, error: OSError) -> KitError:
        return KitError(
            f"The run directory {self.path} cannot be written: {error.strerror}.",
            remedy="Pass --run with a folder on a writable disk with space left.",
        )
