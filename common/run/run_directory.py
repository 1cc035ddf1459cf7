"""The folder that holds everything about one run, under names that never change."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from common.errors import CheckpointError, DamagedFileError
from common.files import naming, read_json, remove_leftovers, write_json, write_text
from common.run import recipe as recipes
from common.storage.run_lock import LOCK, hold, is_note

RecipeType = TypeVar("RecipeType", bound=recipes.Recipe)
Entry = dict[str, Any]
"""A line of the log: kind (train or validation), step, epoch, seconds, and scalars by name."""

DESCRIPTION = ("model", "recipe", "recipe_digest", "command", "data")
TRAINING = ("steps", "epochs", "seconds", "samples_per_s", "sample_unit")
EVALUATION = ("metrics", "intervals", "interval_method", "step", "precision", "weights")
"""What the files that the kit reads back hold at least."""

_BEGUN = re.compile(r"\.(recipe|run)\.json\..*\.part|lr-find-.*\.png|\.lr-find-.*\.part")
"""What a folder may hold beside the lock before it holds a run."""


class RunDirectory:
    """Paths inside a run, and the few files whose content the kit itself reads back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.json"
        self.run_file = path / "run.json"
        self.environment_file = path / "environment.json"
        self.resumes_file = path / "environment-resumes.jsonl"
        self.metrics_file = path / "metrics.jsonl"
        self.training_file = path / "training.json"
        self.forecast_file = path / "forecast.json"
        self.checkpoints = path / "checkpoints"
        self.weights_file = path / "weights.safetensors"
        self.predictions_file = path / "predictions.npz"
        self.evaluation_file = path / "evaluation.json"
        self.baselines_file = path / "baselines.json"
        self.result_file = path / "result.json"
        self.tests = path / "tests"
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
        run.description()
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
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, recipes.to_json(recipe) + "\n")
        write_json(self.run_file, {**description, "recipe_digest": recipe.digest()})

    def description(self) -> dict[str, Any]:
        """What the run is, as `create` wrote it; raises DamagedFileError."""
        return self._record(self.run_file, DESCRIPTION, self._lost())

    def recipe(self, recipe_class: type[RecipeType]) -> RecipeType:
        """The resolved recipe; raises DamagedFileError, and RecipeError where another version of the kit wrote it."""
        self._record(self.recipe_file, ("summary",), self._lost())
        return recipes.from_json(recipe_class, self.recipe_file.read_text(encoding="utf-8"))

    def training(self) -> dict[str, Any]:
        """How the finished training went; raises DamagedFileError."""
        remedy = (
            f"Delete it and run the training's command again: it goes on from the last checkpoint. {self._command()}"
        )
        return self._record(self.training_file, TRAINING, remedy)

    def evaluation(self) -> dict[str, Any]:
        """The weights' metrics; raises DamagedFileError."""
        return self._record(self.evaluation_file, EVALUATION, f"Delete it, then: kit evaluate {self.path}")

    def test_evaluation(self, path: Path) -> dict[str, Any]:
        """An evaluation under `tests`; raises DamagedFileError."""
        remedy = f"Delete the folder {path.parent}, then: kit evaluate {self.path} --data TEST"
        return self._record(path, (*EVALUATION, "test"), remedy)

    def test_evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation on data beside the validation split, that of the data's own test part first."""
        found = [self.test_evaluation(path) for path in sorted(self.tests.glob("*/evaluation.json"))]
        return sorted(found, key=lambda evaluation: not evaluation["test"]["own"])

    def baselines(self) -> dict[str, dict[str, float]]:
        """Name -> metric -> value of what the model is held against; empty before it was computed."""
        if not self.baselines_file.is_file():
            return {}
        return self._record(self.baselines_file, (), f"Delete it, then: kit evaluate {self.path}")

    def record_environment(self, environment: dict[str, Any], when: str) -> None:
        """Keep what the training began on; what it was resumed on is added line by line and replaces nothing."""
        if not self.environment_file.is_file():
            write_json(self.environment_file, environment)
            return
        with naming(self.resumes_file), self.resumes_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"resumed": when, **environment}) + "\n")

    def require_weights(self) -> None:
        """Raise CheckpointError, with the way to get them, where there are no trained weights."""
        if self.weights_file.is_file():
            return
        told = "was trained, but its weights are gone" if self.training_file.is_file() else "has no trained weights yet"
        kept = any(self.checkpoints.glob("step-*"))
        raise CheckpointError(
            f"{self.path} {told}: there is no {self.weights_file.name}.",
            "The training's command goes on from the last checkpoint and writes them." if kept else
            "There is no checkpoint either: the training's command begins anew.",
            f"Run: {self._command()}",
        )  # fmt: skip

    def require_evaluation(self) -> None:
        """Raise CheckpointError where there are no answers of an evaluation, which a server's are held against."""
        missing = [path.name for path in (self.evaluation_file, self.predictions_file) if not path.is_file()]
        if missing:
            raise CheckpointError(
                f"{self.path} has not been evaluated: there is no {' and no '.join(missing)}.",
                "A server's answers are held against those of the evaluation.",
                f"Run: kit evaluate {self.path}",
            )

    def metrics(self) -> list[Entry]:
        """The logged lines in order of steps; a step that was repeated after a resume counts once, as it last was.

        Raises DamagedFileError for a line that is no entry, but for a last one that a kill cut short.
        """
        entries, damaged = self.readable_metrics()
        if damaged:
            raise DamagedFileError(
                self.metrics_file,
                f"line {damaged[0]} is no entry of the log",
                f"Delete that line{f' and {len(damaged) - 1} others like it' if len(damaged) > 1 else ''}; "
                "the curves lack its step, the weights do not depend on it.",
            )
        return entries

    def readable_metrics(self) -> tuple[list[Entry], list[int]]:
        """The entries as `metrics` gives them, and the numbers of the lines that are none."""
        if not self.metrics_file.is_file():
            return [], []
        latest: dict[tuple[str, int], Entry] = {}
        damaged: list[int] = []
        lines = self.metrics_file.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            entry = _entry(line)
            if entry is None:
                damaged.append(number)
            else:
                latest[entry["kind"], entry["step"]] = entry
        last = _entry(lines[-1])  # without an end, since a kill can cut it short
        if last is not None:
            latest[last["kind"], last["step"]] = last
        return sorted(latest.values(), key=lambda entry: (entry["step"], entry["kind"])), damaged

    @contextlib.contextmanager
    def lock(self, verb: str, *, shared: bool = False) -> Iterator[None]:
        """Hold the run for this process, to write it or, shared, to read it only.

        Raises KitError with who else holds it, CheckpointError where the folder holds files that are no run's.
        """
        if not shared:
            self._refuse_foreign()
            self.path.mkdir(parents=True, exist_ok=True)
        with hold(self.path, verb, shared=shared):
            if not shared:
                remove_leftovers(self.path)
            yield

    def _refuse_foreign(self) -> None:
        """A run is not written among files that the kit did not write."""
        if self.run_file.exists() or not self.path.is_dir():
            return
        names = {path.name for path in self.path.iterdir()}
        allowed = {self.recipe_file.name} if LOCK in names else set()
        foreign = sorted(name for name in names - allowed if not (is_note(name) or _BEGUN.fullmatch(name)))
        if foreign:
            raise CheckpointError(
                f"{self.path} holds files and is no run directory: {', '.join(foreign[:3])}"
                f"{' and more' if len(foreign) > 3 else ''}.",
                "A run is written into a new or an empty folder.",
                "Pass another --run.",
            )

    def _record(self, path: Path, fields: tuple[str, ...], remedy: str) -> dict[str, Any]:
        try:
            value = read_json(path)
        except FileNotFoundError:
            raise DamagedFileError(path, "it is missing", remedy) from None
        except DamagedFileError as error:
            raise DamagedFileError(path, remedy=remedy) from error
        if not isinstance(value, dict) or (missing := [name for name in fields if name not in value]):
            reason = f"it lacks {', '.join(missing)}" if isinstance(value, dict) else "it holds no fields"
            raise DamagedFileError(path, reason, remedy)
        return value

    def _lost(self) -> str:
        return f"Restore it from a copy; without it the run cannot be read: delete {self.path} and train again."

    def _command(self) -> str:
        return str(self.description()["command"])


def _entry(line: bytes) -> Entry | None:
    """A line of the log as an entry, or None where it is none."""
    with contextlib.suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str) and isinstance(entry.get("step"), int):
            return entry
    return None
