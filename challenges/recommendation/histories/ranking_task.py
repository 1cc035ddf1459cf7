"""What the recommenders' tasks share: users judged by rankings, those of the report and those weights are chosen by."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.ranking import Rankings, nearest_metric
from challenges.recommendation.histories.recipes import EvaluationConfig, RecommendationRecipe
from common.training.task import Batch, DataModule, Evaluation, HeldOut, Task

NORMAL_95 = 1.96  # standard errors from the middle to an end of a 95 % interval
RecipeType = TypeVar("RecipeType", bound=RecommendationRecipe)


class RankingTask(Task, Generic[RecipeType]):
    """A task whose model scores all items for a batch of users."""

    recipe: RecipeType
    split: HistorySplit
    chosen_by = "ndcg@10/full"
    """The metric of the held-out part by which weights are chosen: gains move more smoothly than hits do."""

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Of a validation batch: (batch, item)."""

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """All protocols of ranking.py. Scores are float32 in any precision: half precisions would tie many items."""
        return self.ranked(batches, self.split, self.recipe.evaluation)

    def held_out_value(self, data: DataModule) -> HeldOut | None:
        tuning = data.tuning()
        if tuning is None:
            return None
        config = replace(self.recipe.evaluation, uniform_negatives=0, popular_negatives=0)
        split = tuning.split  # type: ignore[attr-defined]  # HistoryData: what its tasks are trained on
        evaluation = self.ranked(tuning.validation_batches(), split, config)
        name = nearest_metric(self.chosen_by, evaluation.metrics)
        low, high = evaluation.intervals[name]
        return HeldOut(evaluation.metrics[name], (high - low) / (2 * NORMAL_95))

    def ranked(self, batches: Iterable[Batch], split: HistorySplit, config: EvaluationConfig) -> Evaluation:
        """The users of a split in its protocols."""
        device = next(self.parameters()).device
        rankings = Rankings(split, config, device)
        with torch.autocast(device.type, enabled=False):
            for batch in batches:
                rankings.update(batch["index"], self.scores(batch))
        return rankings.compute()
