"""Fitting a recipe to its data: values that follow from the data's facts, each with a reason, unless the user chose."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import RecipeError
from common.run.recipe import RecipeType


@dataclass(frozen=True)
class Fit:
    """One field's value for this data.

    field:  dotted, such as model.length; not one that the check of the data reads, which comes before.
    reason: the fact and the rule, as the end of a sentence.
    """

    field: str
    value: Any
    reason: str


def apply(recipe: RecipeType, fits: Sequence[Fit], chosen: Collection[str]) -> tuple[RecipeType, tuple[str, ...]]:
    """The recipe with every fit's value, all at once, and a line about each.

    chosen: fields that the user set (common/run/overrides.py chosen_fields); they stay, and what holds them.
    Raises RecipeError where a fitted value and a chosen one exclude each other.
    """
    told, fresh = [], []
    for fit in fits:
        name, kept = fit.field.replace("_", "-"), _value(recipe, fit.field)
        if any(_covers(field, fit.field) for field in chosen):
            told.append(
                f"fit: {name} stays {_shown(kept)} as given; the data's own is {_shown(fit.value)}, {fit.reason}"
            )
        else:
            told.append(f"fit: {name} {_shown(fit.value)}, {fit.reason}")
            fresh.append(fit)
    try:
        return _replaced(recipe, {fit.field: fit.value for fit in fresh}), tuple(told)
    except RecipeError as error:
        names = ", ".join(fit.field.replace("_", "-") for fit in fresh)
        raise RecipeError(
            f"{error.given} {error.allowed}".strip(),
            f"Fitted to the data were {names}.",
            "Give these fields too, or --fit none for the recipe as it is written.",
        ) from None


def _covers(chosen: str, field: str) -> bool:
    """Whether the user's field is the fitted one, holds it, or lies in it."""
    return chosen == field or field.startswith(f"{chosen}.") or chosen.startswith(f"{field}.")


def _value(recipe: Any, field: str) -> Any:
    for name in field.split("."):
        recipe = getattr(recipe, name)
    return recipe


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _replaced(part: Any, values: Mapping[str, Any]) -> Any:
    """A frozen part with values at dotted fields: every part is made once, so that its checks see all of them."""
    inner: dict[str, dict[str, Any]] = {}
    for field, value in values.items():
        name, _, rest = field.partition(".")
        inner.setdefault(name, {})[rest] = value
    fresh = {name: below[""] if "" in below else _replaced(getattr(part, name), below) for name, below in inner.items()}
    return dataclasses.replace(part, **fresh) if fresh else part
