"""VAE-CF as a challenge: any histories in, items out."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from challenges.recommendation.challenge import RecommendationChallenge, padded_histories
from challenges.recommendation.data import HistoryData, UserData
from challenges.recommendation.histories import HistorySplit
from challenges.recommendation.predict import positions_of
from challenges.recommendation.vae_cf.recipes import COUNTS, METRIC, RECIPES, VaeCfRecipe
from challenges.recommendation.vae_cf.task import VaeCfTask
from common.challenge import Question
from common.distributed import World

if TYPE_CHECKING:
    from common.export.runner import Arrays


class VaeCfChallenge(RecommendationChallenge[VaeCfRecipe]):
    model = "vae_cf"
    recipe_class = VaeCfRecipe
    recipes = RECIPES
    metric = METRIC
    counts = COUNTS

    def open_data(
        self,
        recipe: VaeCfRecipe,
        checked: Path,
        device: torch.device,
        world: World = World(),  # noqa: B008
    ) -> UserData:
        return UserData(HistorySplit.read(checked), device=device, world=world, seed=recipe.training.seed)

    def build_task(self, recipe: VaeCfRecipe, data: HistoryData) -> VaeCfTask:
        return VaeCfTask(recipe, data.split)

    def inputs_of(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        return {"history": padded_histories(split.seen, rows)}

    def asked(self, split: HistorySplit, question: Question) -> "Arrays":
        return {"history": positions_of(split, question.history)}


CHALLENGE = VaeCfChallenge()
"""The value that the registry names."""
