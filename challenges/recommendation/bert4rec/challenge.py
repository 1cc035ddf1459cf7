"""BERT4Rec as a challenge: ordered histories in, the next items out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from challenges.recommendation.bert4rec.recipes import COUNTS, METRIC, RECIPES, Bert4RecRecipe
from challenges.recommendation.bert4rec.task import SequenceTask
from challenges.recommendation.histories.challenge import RecommendationChallenge, padded_histories
from challenges.recommendation.histories.data import HistoryData, SequenceData, training_windows
from challenges.recommendation.histories.fits import longest_window, short_histories, training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.predict import positions_of
from common.challenge import Question
from common.machine.distributed import World
from common.run.fitting import Fit

if TYPE_CHECKING:
    from common.export.runner import Arrays


class Bert4RecChallenge(RecommendationChallenge[Bert4RecRecipe]):
    model = "bert4rec"
    recipe_class = Bert4RecRecipe
    recipes = RECIPES
    metric = METRIC
    counts = COUNTS

    def fits(self, recipe: Bert4RecRecipe, checked: Path) -> Sequence[Fit]:
        split = HistorySplit.read(checked)
        window = longest_window(split, recipe.model.length)
        fitted = replace(recipe, model=replace(recipe.model, length=window.value))
        user, _ = training_windows(split.train.lengths, fitted.window, fitted.stride)
        return [window, *short_histories(split), *training_fits(recipe, len(user), "window")[0]]

    def open_data(
        self,
        recipe: Bert4RecRecipe,
        checked: Path,
        device: torch.device,
        world: World = World(),  # noqa: B008
    ) -> SequenceData:
        return SequenceData(
            HistorySplit.read(checked),
            length=recipe.window,
            validation_length=recipe.told,
            stride=recipe.stride,
            device=device,
            world=world,
            seed=recipe.training.seed,
        )

    def build_task(self, recipe: Bert4RecRecipe, data: HistoryData) -> SequenceTask:
        return SequenceTask(recipe, data.split)

    def inputs_of(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        return {"history": padded_histories(split.seen, rows)}

    def asked(self, split: HistorySplit, question: Question) -> "Arrays":
        return {"history": positions_of(split, question.history)}


CHALLENGE = Bert4RecChallenge()
"""The value that the registry names."""
