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

QUICK = 20_000_000  # pairs, which are scored in some seconds
COSTLY = 50  # pairs of a look for each interaction; an epoch learns from 5, forwards and backwards


def brief_looks(split: HistorySplit, recipe: NcfRecipe) -> list[Fit]:
    """Looks at lists alone, where every user with every item takes several times as long as the training."""
    pairs, config = split.num_judged * split.num_items, recipe.evaluation
    has_lists = split.protocol == "leave-one-out" and (config.uniform_negatives or config.popular_negatives)
    if not has_lists or pairs <= max(QUICK, COSTLY * len(split.train.items)):
        return []
    reason = f"every user with every item are {pairs:,} pairs, more than it trains on"
    return [Fit("evaluation.lists_while_training", True, reason)]


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
        split = HistorySplit.read(checked)
        fits, _ = training_fits(recipe, len(split.train.items), "interaction")
        return [*fits, *brief_looks(split, recipe)]

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
