"""NCF as a challenge: users of the training data in, items out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from challenges.recommendation.histories.challenge import RecommendationChallenge, padded_histories
from challenges.recommendation.histories.data import HistoryData, InteractionData
from challenges.recommendation.histories.fits import training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.ncf.recipes import COUNTS, RECIPES, NcfRecipe
from challenges.recommendation.ncf.task import NcfTask
from common.challenge import Question
from common.errors import DataError
from common.machine.distributed import World
from common.run.fitting import Fit

if TYPE_CHECKING:
    from common.export.runner import Arrays


class NcfChallenge(RecommendationChallenge[NcfRecipe]):
    model = "ncf"
    recipe_class = NcfRecipe
    recipes = RECIPES
    metric = "hr@10/full"
    counts = COUNTS
    predicts_from = ("user",)

    def fits(self, recipe: NcfRecipe, checked: Path) -> Sequence[Fit]:
        return training_fits(recipe, len(HistorySplit.read(checked).train.items), "interaction")[0]

    def open_data(
        self,
        recipe: NcfRecipe,
        checked: Path,
        device: torch.device,
        world: World = World(),  # noqa: B008
    ) -> InteractionData:
        return InteractionData(HistorySplit.read(checked), device=device, world=world, seed=recipe.training.seed)

    def build_task(self, recipe: NcfRecipe, data: HistoryData) -> NcfTask:
        return NcfTask(recipe, data.split)

    def inputs_of(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        return {"user": split.users[rows, None], "seen": padded_histories(split.seen, rows)}

    def asked(self, split: HistorySplit, question: Question) -> "Arrays":
        found = np.flatnonzero(split.user_ids == question.user)
        if not len(found):
            raise DataError(
                f"There is no user {question.user!r} among the {split.num_users:,} that were trained on.",
                "NCF knows its users by an embedding each; others need vae_cf or bert4rec.",
                f"Identifiers look like {split.user_ids[0]}.",
            )
        return {"user": found[:1, None].astype(np.int64), "seen": split.train.select(found[:1]).padded()}


CHALLENGE = NcfChallenge()
"""The value that the registry names."""
