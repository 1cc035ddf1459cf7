"""Wide & Deep as a challenge: rows of a click log in, probabilities out."""

from challenges.recommendation.clicks.challenge import ClickChallenge
from challenges.recommendation.wide_and_deep.recipes import RECIPES, WideAndDeepRecipe
from challenges.recommendation.wide_and_deep.task import WideAndDeepTask


class WideAndDeepChallenge(ClickChallenge[WideAndDeepRecipe, WideAndDeepTask]):
    """Rows of a click log in, probabilities out, by crosses and by layers."""

    model = "wide_and_deep"
    recipe_class = WideAndDeepRecipe
    recipes = RECIPES
    task_class = WideAndDeepTask


CHALLENGE = WideAndDeepChallenge()
"""The value that the registry names."""
