"""VAE-CF as a challenge: any histories in, items out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from challenges.recommendation.histories.challenge import RecommendationChallenge, padded_histories
from challenges.recommendation.histories.data import HistoryData, UserData
from challenges.recommendation.histories.fits import training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.predict import positions_of
from challenges.recommendation.vae_cf.recipes import COUNTS, METRIC, RECIPES, VaeCfRecipe
from challenges.recommendation.vae_cf.task import VaeCfTask
from common.challenge import Question
from common.machine.distributed import World
from common.run.fitting import Fit

if TYPE_CHECKING:
    from common.export.runner import Arrays


ANNEALED = 0.25
"""Share of the steps in which the weight of the divergence rises, as in the recipe of MovieLens 1M."""


class VaeCfChallenge(RecommendationChallenge[VaeCfRecipe]):
    model = "vae_cf"
    recipe_class = VaeCfRecipe
    recipes = RECIPES
    metric = METRIC
    counts = COUNTS

    def fits(self, recipe: VaeCfRecipe, checked: Path) -> Sequence[Fit]:
        fits, steps = training_fits(recipe, HistorySplit.read(checked).num_users, "user")
        rise = max(1, round(steps * ANNEALED / recipe.annealing.cap)) if recipe.annealing.cap else 1
        reason = f"the divergence's weight reaches its cap after {ANNEALED:.0%} of {steps:,} steps"
        return [*fits, Fit("annealing.steps", rise, reason)]

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
