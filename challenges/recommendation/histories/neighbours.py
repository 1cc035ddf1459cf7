"""Item-to-item weights that a model leans on: EASE (Steck 2019), the newest items of a history counting most.

Its ridge and how fast items fade are chosen by EASE alone, which is solved in seconds: by the part of the data that is
held out for choosing where those are whole users, else by the last item of each user that no reported figure is about.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.baselines import ease_weights, item_gram, multi_hot, solved_ease
from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.ranking import Rankings, nearest_metric
from challenges.recommendation.histories.recipes import EvaluationConfig

RIDGES = (500.0, 125.0)
"""EASE's strength of regularisation: the author's and, for little data of long histories, a quarter of it."""
KEEPS = (1.0, 0.9, 0.8, 0.6)
"""How much an item counts of what the next newer one does. Tried on cuts of MovieLens 1M that are not reported: NDCG@10
of EASE on 200 users .036 at 1, .070 at .9, .069 at .8, on 1,000 users .045, .090 and .096, and .098 at .6."""
LEANS_BY = "ndcg@100/full"  # a few hundred users tell little by their first ten places
MOST_JUDGED = 1000  # users that choose, evenly spread
AT_ONCE = 2**22  # users x items scored at a time
SHORTEST = 3  # items of a user whose last one is held out


@dataclass(frozen=True)
class Leaning:
    """What was chosen, and the metric that it reached."""

    ridge: float
    keep: float
    value: float


@torch.no_grad()
def choose_leaning(split: HistorySplit, device: torch.device) -> Leaning:
    """The best ridge and fading of EASE alone, by users whom no reported figure is about."""
    judged = choosing_part(split)
    config = EvaluationConfig(cutoffs=(100,), uniform_negatives=0, popular_negatives=0)
    seen, users = Ragged(judged.seen, device), torch.arange(judged.num_judged, device=device)
    gram, found = item_gram(judged, device, "EASE"), {}
    for ridge in RIDGES:
        weights = solved_ease(gram, ridge)
        for keep in KEEPS:
            rankings = Rankings(judged, config, device)
            for index in users.split(max(1, AT_ONCE // judged.num_items)):
                rankings.update(index, multi_hot(seen, index, judged.num_items, keep) @ weights)
            metrics = rankings.compute().metrics
            found[ridge, keep] = metrics[nearest_metric(LEANS_BY, metrics)]
    ridge, keep = max(found, key=lambda pair: found[pair])
    return Leaning(ridge, keep, found[ridge, keep])


def choosing_part(split: HistorySplit) -> HistorySplit:
    """What EASE is chosen by: users set aside for it, else the last item but the judged one of those who have enough.

    The users are at most `MOST_JUDGED`; where nobody has enough items, everyone's last one is found by what is before.
    """
    aside = split.by_tuning()
    if aside is not None and (aside.users < 0).any():
        kept = _spread(np.arange(aside.num_judged))
        return replace(aside, users=aside.users[kept], seen=aside.seen.select(kept), targets=aside.targets.select(kept))
    train = with_all_told(split).train
    lengths = train.lengths
    asked = np.flatnonzero(lengths >= min(SHORTEST, int(lengths.max())))
    last = train.offsets[asked + 1] - 1
    kept_items = np.ones(len(train.items), bool)
    kept_items[last] = False
    offsets = np.concatenate([[0], np.cumsum(kept_items)])[train.offsets]
    before = Histories(offsets, train.items[kept_items])
    users = _spread(asked)
    return replace(
        split,
        protocol="leave-one-out",
        train=before,
        users=users,
        seen=before.select(users),
        targets=Histories(np.arange(len(users) + 1), train.items[train.offsets[users + 1] - 1]),
        negatives=None,
        tuning=None,
    )


def with_all_told(split: HistorySplit) -> HistorySplit:
    """Training with what was kept out of it to choose by, where every training user is judged and so is told of it."""
    everyone = np.array_equal(split.users, np.arange(split.num_users))
    return replace(split, train=split.seen) if everyone else split


def _spread(users: np.ndarray) -> np.ndarray:
    return users[np.unique(np.linspace(0, len(users) - 1, min(len(users), MOST_JUDGED)).astype(np.int64))]


def scaled_weights(split: HistorySplit, leaning: Leaning, seen: Ragged, index: Tensor, scores: Tensor) -> Tensor:
    """(item, item) weights whose scores are spread over the items as far as a model's are, so that shares compare.

    split: to solve EASE on. index: (batch,) int64, histories in `seen` to tell the spread by. scores: (batch, item),
    the model's for these.
    """
    weights = ease_weights(split, scores.device, l2=leaning.ridge)
    spread = (multi_hot(seen, index, len(weights), leaning.keep) @ weights).std(1).mean()
    return weights * (scores.float().std(1).mean() / spread.clamp(min=1e-12)).clamp(min=1e-6)
