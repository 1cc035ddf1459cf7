"""What the recommenders' tasks share: users judged by rankings, those of the report and those weights are chosen by.

A task of the recipes for one's own data leans on its items' neighbours (leaning.py): they take seconds and are hard to
beat where histories are few; added to a network's scores, they are what the network need not find out.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.item_pairs import LARGEST_CATALOGUE
from challenges.recommendation.histories.leaning import (
    LEANS_BY,
    SPREAD_OF,
    Leaning,
    choose_leaning,
    solved,
    with_all_told,
)
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking import Rankings, nearest_metric
from challenges.recommendation.histories.recipes import EvaluationConfig, RecommendationRecipe
from common.language.telling import english
from common.training.task import Batch, DataModule, Evaluation, HeldOut, Task

NORMAL_95 = 1.96  # standard errors from the middle to an end of a 95 % interval
SHARES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0)
"""How far the neighbours' scores are spread, in units of the model's own spread: to choose from. 0: the model alone."""
USUAL_SHARE = 2.0
"""Where nothing is held out to choose by, which is little data: NDCG@10 of BERT4Rec on 500 users of LastFM .020 alone,
.046 at 1, .049 at 2, .046 at 4; on 1,000 users of Amazon's sports .002, .006, .006, .006. With fading, on cuts of
MovieLens 1M that are not reported: 200 users .018, .067, .065, .064; guessing every next item 1,000 users .062, .101,
.102, .099. Holding an item of half the 200 users out, to choose by, ends at .053."""
RecipeType = TypeVar("RecipeType", bound=RecommendationRecipe)


class RankingTask(Task, Generic[RecipeType]):
    """A task whose model scores all items for a batch of users.

    neighbours: what the items of a user's history add to the model's scores; or None.
    """

    recipe: RecipeType
    split: HistorySplit
    neighbours: Neighbours | None
    leaning: Leaning | None = None
    """Chosen before; None: `settle` chooses."""
    chosen_by = "ndcg@10/full"
    """The metric of the held-out part by which weights are chosen: gains move more smoothly than hits do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_module("neighbours", None)

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Of a validation batch, by the model alone: (batch, item)."""

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """All protocols of ranking.py. Scores are float32 in any precision: half precisions would tie many items."""
        return self.ranked(batches, self.split, self.recipe.evaluation)

    def held_out_value(self, data: DataModule) -> HeldOut | None:
        tuning = data.tuning()
        assert tuning is None or isinstance(tuning, HistoryData)
        return None if tuning is None else self._value(tuning, self.chosen_by)

    def _value(self, tuning: HistoryData, metric: str) -> HeldOut:
        config = replace(self.recipe.evaluation, uniform_negatives=0, popular_negatives=0)
        evaluation = self.ranked(tuning.validation_batches(), tuning.split, config)
        name = nearest_metric(metric, evaluation.metrics)
        low, high = evaluation.intervals[name]
        return HeldOut(evaluation.metrics[name], (high - low) / (2 * NORMAL_95))

    @torch.no_grad()
    def settle(self, data: DataModule) -> str:
        """Lean on the items' neighbours as far as the held-out part is found better so."""
        assert isinstance(data, HistoryData)
        items, tuning = self.split.num_items, data.tuning()
        if self.recipe.neighbours == "none":
            return ""
        if items > LARGEST_CATALOGUE:
            return english(
                "Item-to-item weights are left out: {items:,} items, {largest_catalogue:,} at most.",
                items=items,
                largest_catalogue=LARGEST_CATALOGUE,
            )
        device = next(self.parameters()).device
        leaning = self.leaning or choose_leaning(data.split, device, data.world)
        how = leaning.told()
        if tuning is None:
            self.neighbours = self._weights(data, self.split, leaning, USUAL_SHARE)
            return english(
                "Item-to-item weights ({how}) are added to the model's scores, {usual_share:g} times as spread.",
                how=how,
                usual_share=USUAL_SHARE,
            )
        found = self._by_share(tuning, self._weights(data, self.split, leaning))
        best = max(found, key=lambda share: found[share])
        told = english(
            "{metric} on the held-out part {best:.4f}, the model alone {alone:.4f}",
            metric=LEANS_BY,
            best=found[best],
            alone=found[0.0],
        )
        if not best:
            return english("Item-to-item weights are left out: {told}.", told=told)
        self.neighbours = self._weights(data, with_all_told(self.split), leaning, best)
        return english(
            "Item-to-item weights ({how}) are added to the model's scores, {best:g} times as spread: {told}.",
            how=how,
            best=best,
            told=told,
        )

    def _by_share(self, tuning: HistoryData, weights: Neighbours) -> dict[float, float]:
        """What the held-out part is found by, for every share of the neighbours' weights."""
        self.neighbours, found = None, {}
        seen = Ragged(tuning.split.seen, weights.weights.device)
        told = [(batch["index"], self.scores(batch).float()) for batch in tuning.validation_batches()]
        added = [weights.of_users(seen, index) for index, _ in told]
        config = replace(self.recipe.evaluation, uniform_negatives=0, popular_negatives=0)
        for share in SHARES:
            rankings = Rankings(tuning.split, config, weights.weights.device)
            for (index, scores), more in zip(told, added, strict=True):
                rankings.update(index, scores + share * more)
            metrics = rankings.compute().metrics
            found[share] = metrics[nearest_metric(LEANS_BY, metrics)]
        return found

    def _weights(self, data: HistoryData, split: HistorySplit, leaning: Leaning, share: float = 1.0) -> Neighbours:
        """Item-to-item weights, solved on a split, whose scores differ between items by `share` of the model's."""
        index = np.arange(min(SPREAD_OF, data.num_validation))
        batch = {"index": torch.as_tensor(index).to(next(self.parameters()).device), **data.told(index)}
        scores = self.scores(batch).float()
        weights = solved(split, leaning, Ragged(data.split.seen, scores.device), batch["index"])
        return weights.times(share * scores.std(1).mean().clamp(min=1e-6))

    def ranked(self, batches: Iterable[Batch], split: HistorySplit, config: EvaluationConfig) -> Evaluation:
        """The users of a split in its protocols."""
        device = next(self.parameters()).device
        rankings, seen = Rankings(split, config, device), Ragged(split.seen, device)
        with torch.autocast(device.type, enabled=False):
            for batch in batches:
                scores = self.scores(batch)
                if self.neighbours is not None:
                    scores = scores.float() + self.neighbours.of_users(seen, batch["index"])
                rankings.update(batch["index"], scores)
        return rankings.compute()
