"""What no recommender's recipe takes is refused, not passed over."""

import pytest

from challenges.registry import MODELS
from common.errors import RecipeError
from common.run.overrides import apply_overrides


@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if entry.challenge == 3])
def test_a_recommender_computes_no_blocks_again(model):
    recipe = MODELS[model].recipes()["demo"]
    with pytest.raises(RecipeError, match="gradient-checkpointing was chosen for a recommender"):
        apply_overrides(recipe, ["--training.gradient-checkpointing"], "kit train")
