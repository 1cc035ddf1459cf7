"""What a finished run says of itself, as the checks of exercises read it."""

import dataclasses
from pathlib import Path
from typing import Any

from challenges.exercises.exercise import Exercise
from challenges.registry import find_recipe
from common.errors import CheckpointError, DamagedFileError, KitError
from common.files import read_json
from common.run.result import Result, read_result
from common.run.run_directory import RunDirectory


class NotYetError(KitError):
    """An exercise that a run does not show yet: what the run has, what is asked for, what to do."""


class Facts:
    """A run beside the exercise that it is to show."""

    def __init__(self, run: RunDirectory, exercise: Exercise) -> None:
        self.run, self.exercise = run, exercise
        self.description = run.description()
        self.result = self._result()
        self._used: dict[str, Any] = read_json(run.recipe_file)

    @classmethod
    def of(cls, path: Path, exercise: Exercise) -> "Facts":
        """Raises CheckpointError where there is no run, NotYetError where it is of something else or not finished."""
        run = RunDirectory.open(path)
        description, asked = run.description(), exercise.asked
        if description["model"] != asked.model:
            raise NotYetError(
                f"{path} is a run of {description['model']}.",
                f"{exercise.name} is about {asked.model}.",
                f"Train one: {exercise.lines[0]}",
            )
        facts = cls(run, exercise)
        facts._require_what_was_asked()
        return facts

    def used(self, field: str) -> Any:
        """What the run was trained with, of a field with dots such as optimizer.peak_lr."""
        return _value(self._used, field)

    def own(self, field: str) -> Any:
        """What the run's recipe has by itself."""
        recipe = find_recipe(f"{self.description['model']}/{self.description['recipe']}")[2]
        return _value(dataclasses.asdict(recipe), field)

    def demand(self, holds: bool, given: str, allowed: str, remedy: str = "") -> None:
        """Raise NotYetError unless it holds. remedy: the exercise's own command where it is left out."""
        if not holds:
            raise NotYetError(given, allowed, remedy or f"Try: {self.exercise.lines[0]}")

    @property
    def figure(self) -> str:
        """The run's metric with its interval."""
        result = self.result
        between = f" ({result.interval.low:.4f} – {result.interval.high:.4f})" if result.interval else ""
        return f"{result.metric} {result.value:.4f}{between}"

    def parity(self) -> dict[str, Any]:
        """How the engines answer; raises NotYetError where none was compared."""
        self.demand(
            self.run.parity_file.is_file(),
            f"{self.run.path} was not exported and compared.",
            "An exported model is held against the trained one.",
            f"Run: kit export {self.run.path}, then kit parity {self.run.path}",
        )
        return self.record(self.run.parity_file, "rows", "choice")

    def environment(self) -> dict[str, Any]:
        """What the training began on."""
        return self.record(self.run.environment_file, "precision", "world_size")

    def record(self, file: Path, *fields: str) -> dict[str, Any]:
        """A file of the run's; raises DamagedFileError where it lacks a field."""
        found = read_json(file)
        if not isinstance(found, dict) or any(name not in found for name in fields):
            raise DamagedFileError(file, f"it lacks {' or '.join(fields)}")
        return found

    def _result(self) -> Result:
        if not self.run.result_file.is_file():
            raise NotYetError(
                f"{self.run.path} has no result yet.",
                "An exercise is judged by a finished run.",
                f"Run: kit evaluate {self.run.path}",
            )
        return read_result(self.run.result_file)

    def _require_what_was_asked(self) -> None:
        """The exercise's data set, by the name of a folder that the run's data lay in; and its recipe with it."""
        asked = self.exercise.asked
        if not asked.data:
            return
        root = Path(self.description["data"]["root"])
        self.demand(
            asked.data in {root.name, *(parent.name for parent in root.parents)},
            f"{self.run.path} was trained on {root.name}.",
            f"{self.exercise.name} is about the data set {asked.data}.",
        )
        self.demand(
            self.description["recipe"] == asked.recipe,
            f"{self.run.path} is a run of the recipe {self.description['recipe']}.",
            f"{self.exercise.name} is about {asked.recipe}.",
        )


def _value(fields: Any, path: str) -> Any:
    """Raises CheckpointError where there is no such field: another version of the kit wrote the recipe."""
    for name in path.split("."):
        if not isinstance(fields, dict) or name not in fields:
            raise CheckpointError(
                f"The run's recipe has no {path}.", "Another version of the kit wrote it.", "Train the run again."
            )
        fields = fields[name]
    return fields
