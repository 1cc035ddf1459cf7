"""Every recipe of every model is read back as it was written, and names what it trains."""

import pytest

from challenges.registry import MODELS
from common.run.recipe import from_json, to_json

RECIPES = [(model, name) for model, entry in MODELS.items() for name in entry.recipes()]


@pytest.mark.parametrize(("model", "name"), RECIPES)
def test_a_recipe_goes_through_json_and_back(model, name):
    recipe = MODELS[model].recipes()[name]
    assert from_json(type(recipe), to_json(recipe)) == recipe


@pytest.mark.parametrize("model", MODELS)
def test_the_recipes_that_data_and_weights_call_for_are_there(model):
    entry = MODELS[model]
    assert {"demo", entry.recipe_for_data, entry.recipe_for_weights} <= entry.recipes().keys()
