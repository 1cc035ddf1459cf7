"""Overrides of a recipe's fields on the command line: typed, listed by --help, misspellings answered in three lines."""

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import TypeVar

import tyro

from common.errors import RecipeError
from common.run.recipe import Recipe

RecipeType = TypeVar("RecipeType", bound=Recipe)


def apply_overrides(recipe: RecipeType, arguments: Sequence[str], program: str) -> RecipeType:
    """The recipe with `--field value` arguments applied; a target cannot be overridden.

    Raises RecipeError on an unknown field (with the nearest spelling) or a value of the wrong type.
    """
    screen = io.StringIO()
    try:
        with contextlib.redirect_stderr(screen):
            return tyro.cli(type(recipe), default=recipe, args=list(arguments), prog=program)
    except SystemExit:
        problem, hint = _condense(screen.getvalue())
        raise RecipeError(problem, hint, f"See `{program} --help` for every field.") from None


def chosen_fields(arguments: Sequence[str]) -> frozenset[str]:
    """The dotted fields that `--field value`, `--field=value` and `--part.no-field` set."""
    options = (argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--"))
    return frozenset(name for option in options for name in (option, _positive(option)))


def _positive(option: str) -> str:
    """The field that a switch such as training.no_compile turns off."""
    part, dot, name = option.rpartition(".")
    return part + dot + name.removeprefix("no_")


def print_overrides(recipe: Recipe, program: str) -> None:
    """Print every field that can be overridden, with its meaning and default."""
    with contextlib.suppress(SystemExit):
        tyro.cli(type(recipe), default=recipe, args=["--help"], prog=program)


def _condense(screen: str) -> tuple[str, str]:
    """The problem and the nearest spelling, from the framed page that tyro prints."""
    rows = [row for row in screen.splitlines() if not row.startswith("╭")]
    body = list(itertools.takewhile(lambda row: "──" not in row, rows))
    problem = " ".join(row.strip("│ ") for row in body)
    near = [row.strip("│ ").split()[0] for row in rows[len(body) :] if row.strip("│ ").startswith("--")]
    return problem, f"Nearest spelling: {near[0]}." if near and problem.startswith("Unrecognized") else ""
