"""The exercises, from the files beside this one: their texts and commands as written, their figures from records."""

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from challenges.exercises.checks import CHECKS
from challenges.exercises.commanded import Commanded
from challenges.exercises.exercise import Exercise
from challenges.exercises.recorded import Outcome, read_outcomes, records_of
from challenges.registry import find_recipe
from common.errors import DataError, KitError

FILES = tuple(sorted(Path(__file__).parent.glob("*.toml")))


def load(files: Sequence[Path], outcomes: Sequence[Outcome]) -> tuple[Exercise, ...]:
    """Raises KitError where a file is no list of exercises, or one of them cannot be as it is written."""
    from pydantic import TypeAdapter, ValidationError

    found: list[Exercise] = []
    for file in files:
        try:
            rows: Any = tomllib.loads(file.read_text(encoding="utf-8"))["exercise"]
            found += TypeAdapter(list[Exercise]).validate_python(rows, extra="forbid")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise _refused(file, f"{where}: {first['msg']}") from None
        except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
            raise _refused(file, str(error)) from None
    return tuple(_completed(exercise, outcomes) for exercise in found)


def _completed(exercise: Exercise, outcomes: Sequence[Outcome]) -> Exercise:
    asked = exercise.asked
    unknown = [name for name in exercise.checks if name not in CHECKS]
    if unknown or asked.model != exercise.model:
        told = f"asks for {', '.join(unknown)}" if unknown else f"is of {exercise.model} and trains {asked.model}"
        raise KitError(
            f"The exercise {exercise.name} {told}.",
            f"It trains its own model, and there are the checks {', '.join(CHECKS)}.",
            "Mend its file.",
        )
    is_held = not asked.overrides or not {"reached", "beat_target"}.isdisjoint(exercise.checks)
    return replace(exercise, records=records_of(asked, outcomes), promise=_promise(asked) if is_held else "")


def _promise(asked: Commanded) -> str:
    """What the recipe's target asks for; with other settings only where the exercise is held to it."""
    target = find_recipe(f"{asked.model}/{asked.recipe}")[2].target
    return "" if target is None else f"{target.metric} {'≥' if target.higher_is_better else '≤'} {target.value:g}"


def _refused(file: Path, reason: str) -> KitError:
    return KitError(
        f"{file} is no list of exercises: {reason}.",
        "Each has the fields of challenges/exercises/exercise.py, its texts in every language.",
        "Mend the file.",
    )


EXERCISES = load(FILES, read_outcomes())
"""In the order of the challenges, from the easiest on."""


def find(name: str) -> Exercise:
    """Raises DataError with the nearest spelling."""
    names = [exercise.name for exercise in EXERCISES]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise DataError(
            f"There is no exercise {name!r}.",
            f"There are: {', '.join(names)}.",
            f"Did you mean {near[0]}?" if near else "See kit exercise list",
        )
    return EXERCISES[names.index(name)]
