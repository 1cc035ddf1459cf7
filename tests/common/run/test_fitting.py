"""Recipes fitted to data: the user's choices stay, every value has a reason, and the parts' own checks hold."""

from dataclasses import dataclass, field

import pytest
from rich.console import Console

from common.errors import RecipeError
from common.run import fitting
from common.run.fitting import Fit
from common.run.overrides import apply_overrides, chosen_fields
from common.run.recipe import Recipe, from_json, to_json
from common.stages.request import Request, fitted


@dataclass(frozen=True, kw_only=True)
class Span:
    first: int = 1
    last: int = 5
    mirrored: bool = True

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise RecipeError(f"span.first {self.first} is above span.last {self.last}.")


@dataclass(frozen=True, kw_only=True)
class SpanRecipe(Recipe):
    span: Span = field(default_factory=Span)
    width: int = 64


RECIPE = SpanRecipe(summary="spans")
FITS = (Fit("span.first", 7, "the data begins at 7"), Fit("span.last", 9000, "the data ends at 9,000"))


def test_all_values_are_set_at_once_and_told_with_their_reasons():
    recipe, told = fitting.apply(RECIPE, (*FITS, Fit("width", 32, "few items")), chosen=())
    assert (recipe.span, recipe.width) == (Span(first=7, last=9000), 32)
    assert told[0] == "fit: span.first 7, the data begins at 7"
    assert told[1] == "fit: span.last 9,000, the data ends at 9,000"
    assert from_json(SpanRecipe, to_json(recipe)) == recipe


def test_what_the_user_chose_stays_and_the_line_says_what_the_data_would_have():
    arguments = ["--span.last", "20", "--span.no-mirrored"]
    given = apply_overrides(RECIPE, arguments, "kit")
    recipe, told = fitting.apply(given, FITS, chosen_fields(arguments))
    assert recipe.span == Span(first=7, last=20, mirrored=False)
    assert told[1] == "fit: span.last stays 20 as given; the data's own is 9,000, the data ends at 9,000"


@pytest.mark.parametrize("chosen", [("span",), ("span.first",)])
def test_a_part_counts_as_chosen_with_any_of_its_fields(chosen):
    recipe, _ = fitting.apply(RECIPE, (Fit("span", Span(first=2), "it begins at 2"),), chosen)
    assert recipe == RECIPE


def test_a_chosen_value_that_excludes_a_fitted_one_is_told_with_the_way_out():
    given = apply_overrides(RECIPE, ["--span.last", "6"], "kit")
    with pytest.raises(RecipeError, match=r"span.first 7 is above span.last 6(.|\n)*span.first(.|\n)*--fit none"):
        fitting.apply(given, FITS, chosen_fields(["--span.last=6"]))


def test_switches_and_underscores_name_the_same_fields():
    chosen = chosen_fields(["--span.no-mirrored", "--span.first=3", "--optimizer.peak_lr", "-1", "left"])
    assert {"span.mirrored", "span.first", "optimizer.peak_lr"} <= chosen


class Spans:
    """As much of a challenge as fitting asks."""

    def fits(self, recipe, checked):
        return (Fit("width", int((checked / "width").read_text()), "the data says so"),)


@pytest.mark.parametrize(
    ("mode", "given", "expected"), [("none", (), 64), ("data", (), 8), ("data", ("--width", "4"), 4)]
)
def test_a_request_is_fitted_where_its_recipe_asks_for_it(tmp_path, mode, given, expected):
    (tmp_path / "width").write_text("8")
    recipe = apply_overrides(SpanRecipe(summary="spans", fit=mode), given, "kit")
    request = Request(Spans(), "own", recipe, overrides=given)
    assert fitted(request, tmp_path, Console(quiet=True)).recipe.width == expected
