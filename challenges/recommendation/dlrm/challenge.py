"""DLRM as a challenge: rows of a click log in, probabilities out."""

from challenges.recommendation.clicks.challenge import ClickChallenge
from challenges.recommendation.dlrm.recipes import RECIPES, DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask


class DlrmChallenge(ClickChallenge[DlrmRecipe, DlrmTask]):
    """Rows of a click log in, probabilities out, by products of embeddings."""

    model = "dlrm"
    recipe_class = DlrmRecipe
    recipes = RECIPES
    task_class = DlrmTask


CHALLENGE = DlrmChallenge()
"""The value that the registry names."""
