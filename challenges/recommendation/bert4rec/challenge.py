"""BERT4Rec as a challenge: ordered histories in, the next items out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from challenges.recommendation.bert4rec.recipes import COUNTS, METRIC, RECIPES, Bert4RecRecipe
from challenges.recommendation.bert4rec.task import SequenceTask
from challenges.recommendation.histories.challenge import HistoryChallenge
from challenges.recommendation.histories.data import HistoryData, SequenceData, training_windows
from challenges.recommendation.histories.fits import longest_window, short_histories, training_fits
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.judgement import HistoryJudgement
from challenges.recommendation.histories.questions import ByHistory
from challenges.recommendation.histories.serving.face import ServedRecommender
from common.machine.distributed import ALONE, World
from common.run.fitting import Fit


class Bert4RecChallenge(HistoryChallenge[Bert4RecRecipe]):
    """Ordered histories in, the next item out."""

    model = "bert4rec"
    recipe_class = Bert4RecRecipe
    recipes = RECIPES
    questions = ByHistory()
    judgement = HistoryJudgement(METRIC, COUNTS)
    served = ServedRecommender(questions)

    def fits(self, recipe: Bert4RecRecipe, checked: Path) -> Sequence[Fit]:
        split = HistorySplit.read(checked)
        window = longest_window(split, recipe.model.length)
        fitted = replace(recipe, model=replace(recipe.model, length=window.value))
        user, _ = training_windows(split.train.lengths, fitted.window, fitted.stride)
        hidden = short_histories(split) if recipe.model.attention == "bidirectional" else []
        return [window, *hidden, *training_fits(recipe, len(user), "window")[0]]

    def open_data(
        self,
        recipe: Bert4RecRecipe,
        checked: Path,
        device: torch.device,
        world: World = ALONE,
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


CHALLENGE = Bert4RecChallenge()
"""The value that the registry names."""
