"""NCF as a challenge: users of the training data in, items out."""

from collections.abc import Sequence
from pathlib import Path

import torch

from challenges.recommendation.histories.challenge import HistoryChallenge
from challenges.recommendation.histories.data import HistoryData, InteractionData
from challenges.recommendation.histories.fits import training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.judgement import HistoryJudgement
from challenges.recommendation.histories.playground import HistoryPlayground
from challenges.recommendation.histories.questions import ByUser
from challenges.recommendation.histories.serving.face import ServedRecommender
from challenges.recommendation.ncf.recipes import COUNTS, RECIPES, NcfRecipe
from challenges.recommendation.ncf.task import NcfTask
from common.machine.distributed import ALONE, World
from common.run.fitting import Fit


class NcfChallenge(HistoryChallenge[NcfRecipe]):
    """Users of the training data in, items out."""

    model = "ncf"
    recipe_class = NcfRecipe
    recipes = RECIPES
    questions = ByUser()
    judgement = HistoryJudgement("hr@10/full", COUNTS)
    served = ServedRecommender(questions)
    playground = HistoryPlayground(questions)
    predicts_from = ("user",)

    def fits(self, recipe: NcfRecipe, checked: Path) -> Sequence[Fit]:
        return training_fits(recipe, len(HistorySplit.read(checked).train.items), "interaction")[0]

    def open_data(
        self,
        recipe: NcfRecipe,
        checked: Path,
        device: torch.device,
        world: World = ALONE,
    ) -> InteractionData:
        return InteractionData(HistorySplit.read(checked), device=device, world=world, seed=recipe.training.seed)

    def build_task(self, recipe: NcfRecipe, data: HistoryData) -> NcfTask:
        return NcfTask(recipe, data.split)


CHALLENGE = NcfChallenge()
"""The value that the registry names."""
