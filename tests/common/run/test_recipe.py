"""Recipes and their overrides: typed, restorable, and with targets that stay where they are."""

import pytest

from challenges.classification.recipes import RECIPES, ClassificationRecipe
from common.errors import RecipeError
from common.run.overrides import apply_overrides
from common.run.recipe import TrainingConfig, from_json, to_json


@pytest.mark.parametrize("name", RECIPES)
def test_a_resolved_recipe_round_trips(name):
    recipe = apply_overrides(RECIPES[name], ["--weights", "some/file.pt", "--training.epochs", "2.5"], "kit")
    assert from_json(ClassificationRecipe, to_json(recipe)) == recipe


def test_the_digest_changes_with_any_field():
    base = RECIPES["photos"]
    changed = apply_overrides(base, ["--optimizer.weight-decay", "0.123"], "kit")
    assert base.digest() != changed.digest()
    assert base.digest() == apply_overrides(base, [], "kit").digest()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--optimizer.peek-lr", "1"], "Nearest spelling: --optimizer.peak-lr"),
        (["--optimizer.peak-lr", "fast"], "could not convert"),
        (["--optimizer.name", "adm"], "adamw"),
        (["--target.value", "0.1"], "--target.value"),
        (["--training.batch-size", "0"], "start at 1"),
    ],
)
def test_a_wrong_override_is_answered_in_three_lines(arguments, expected):
    with pytest.raises(RecipeError, match=expected) as refused:
        apply_overrides(RECIPES["imagenet-90e"], arguments, "kit train resnet50/imagenet-90e")
    assert len(str(refused.value).splitlines()) <= 3


def test_a_recipe_of_another_version_is_refused():
    text = to_json(RECIPES["photos"]).replace('"label_smoothing"', '"label_softening"')
    with pytest.raises(RecipeError, match="does not fit"):
        from_json(ClassificationRecipe, text)


@pytest.mark.parametrize(("world", "micro", "expected"), [(1, 256, 8), (8, 256, 1), (4, 256, 2), (1, None, 1)])
def test_accumulation_keeps_the_global_batch_at_any_world_size(world, micro, expected):
    assert TrainingConfig(batch_size=2048, micro_batch=micro).accumulation(world) == expected


def test_published_targets_are_the_published_ones():
    assert {name: recipe.target.value for name, recipe in RECIPES.items() if name.startswith("imagenet")} == {
        "imagenet-50e": 0.7581, "imagenet-90e": 0.7712, "imagenet-250e": 0.7843
    }  # fmt: skip
