"""VAE-CF as a challenge: any histories in, items out."""

from collections.abc import Sequence
from pathlib import Path

import torch

from challenges.recommendation.histories.challenge import HistoryChallenge
from challenges.recommendation.histories.data import HistoryData, UserData
from challenges.recommendation.histories.fits import training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.judgement import HistoryJudgement
from challenges.recommendation.histories.playground import HistoryPlayground
from challenges.recommendation.histories.questions import ByHistory
from challenges.recommendation.histories.serving.face import ServedRecommender
from challenges.recommendation.vae_cf.recipes import COUNTS, METRIC, RECIPES, VaeCfRecipe
from challenges.recommendation.vae_cf.task import VaeCfTask
from common.machine.distributed import ALONE, World
from common.run.fitting import Fit

ANNEALED = 0.25
"""Share of the steps in which the weight of the divergence rises, as in the recipe of MovieLens 1M."""


class VaeCfChallenge(HistoryChallenge[VaeCfRecipe]):
    """Whole histories in, what else belongs to them out."""

    model = "vae_cf"
    recipe_class = VaeCfRecipe
    recipes = RECIPES
    questions = ByHistory()
    judgement = HistoryJudgement(METRIC, COUNTS)
    served = ServedRecommender(questions)
    playground = HistoryPlayground(questions)

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
        world: World = ALONE,
    ) -> UserData:
        return UserData(HistorySplit.read(checked), device=device, world=world, seed=recipe.training.seed)

    def build_task(self, recipe: VaeCfRecipe, data: HistoryData) -> VaeCfTask:
        return VaeCfTask(recipe, data.split)


CHALLENGE = VaeCfChallenge()
"""The value that the registry names."""
