"""How a model leans on item-to-item weights: on what stands together, on what follows what, or on both.

Together: EASE (Steck 2019), or pairs of the same histories where the catalogue is too large for it. What is leant on
and how fast items fade are chosen without the model, in seconds: by the part of the data that is held out for choosing
where those are whole users, else by the last item of each user that no reported figure is about.
"""

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.baselines import item_gram, solved_ease
from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.item_pairs import COMPANIONS, FOLLOWERS
from challenges.recommendation.histories.neighbours import Neighbours
from challenges.recommendation.histories.ranking import Rankings, nearest_metric
from challenges.recommendation.histories.recipes import EvaluationConfig
from common.language.telling import english
from common.machine.distributed import ALONE, World
from common.positions import evenly_spread

RIDGES = (500.0, 125.0)
"""EASE's strength of regularisation: the author's and, for little data of long histories, a quarter of it."""
KEEPS = (1.0, 0.9, 0.8, 0.6)
"""How much an item counts of what the next newer one does. Tried on cuts of MovieLens 1M that are not reported: NDCG@10
of EASE on 200 users .036 at 1, .070 at .9, .069 at .8, on 1,000 users .045, .090 and .096, and .098 at .6."""
BLENDS = ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
"""How far the scores of what stands together and of what follows are spread. NDCG@10 on cuts that are not reported,
fading by .8: 6,040 users of MovieLens 1M .128, .153 and .150, MovieLens 100K .121, .130 and .126, LastFM .044, .053 and
.044; with pairs for EASE, Amazon's toys .059, .074 and .076, Yelp .025, .026 and .023."""
LARGEST_EASE = 5000  # items, whose weights take 100 MB
LEANS_BY = "ndcg@100/full"  # a few hundred users tell little by their first ten places
JUDGED_BY = EvaluationConfig(cutoffs=(100,), uniform_negatives=0, popular_negatives=0)
SPREAD_OF = 200  # users by whom spreads are told
MOST_JUDGED = 1000  # users that choose, evenly spread
AT_ONCE = 2**22  # users x items scored at a time
SHORTEST = 3  # items of a user whose last one is held out


@dataclass(frozen=True)
class Leaning:
    """What was chosen.

    ridge: of EASE; None where pairs of the same histories stand for it.
    together, following: how far the scores of what stands together and of what follows are spread.
    """

    ridge: float | None
    keep: float
    together: float
    following: float

    def told(self) -> str:
        """In words, for the line that says what a model leans on."""
        parts = []
        if self.together:
            alike = english("items of the same histories")
            parts.append(alike if self.ridge is None else english("EASE of ridge {ridge:g}", ridge=self.ridge))
        if self.following:
            parts.append(english("items that follow one another"))
        fading = english(", an item {keep:g} of the next newer", keep=self.keep) if self.keep < 1 else ""
        return " + ".join(parts) + fading


@torch.no_grad()
def choose_leaning(split: HistorySplit, device: torch.device, world: World = ALONE) -> Leaning:
    """The best of what can be leant on, alone, by users whom no reported figure is about; a process asks for some."""
    judged = choosing_part(split)
    seen = Ragged(judged.seen, device)
    users = torch.arange(judged.num_judged, device=device)[world.rank :: world.size]
    some = torch.arange(min(SPREAD_OF, judged.num_judged), device=device)
    following, together = following_weights(judged, device), _together(judged, device)
    found: dict[Leaning, Rankings] = {}
    for keep in KEEPS:
        after = following.fading_by(keep).even(seen, some)
        beside = {ridge: weights.fading_by(keep).even(seen, some) for ridge, weights in together.items()}
        for index in users.split(max(1, AT_ONCE // judged.num_items)):
            options, later = {}, after.of_users(seen, index)
            for ridge, weights in beside.items():
                alike = weights.of_users(seen, index)
                for share, more in BLENDS:
                    leaning = Leaning(ridge if share else None, keep, share, more)
                    options[leaning] = share * alike + more * later
            for leaning, scores in options.items():
                if leaning not in found:
                    found[leaning] = Rankings(judged, JUDGED_BY, device)
                found[leaning].update(index, scores)
    values = {leaning: _value(rankings) for leaning, rankings in found.items()}
    return max(values, key=lambda leaning: values[leaning])


def _value(rankings: Rankings) -> float:
    metrics = rankings.compute().metrics
    return metrics[nearest_metric(LEANS_BY, metrics)]


def following_weights(split: HistorySplit, device: torch.device) -> Neighbours:
    return Neighbours.of_pairs(split.train, split.num_items, FOLLOWERS, device)


def _together(split: HistorySplit, device: torch.device) -> dict[float | None, Neighbours]:
    """By ridge; None: the pairs of the same histories, for a catalogue that EASE is too large for."""
    if split.num_items > LARGEST_EASE:
        return {None: together_weights(split, None, device)}
    gram = item_gram(split, device, "EASE")
    return {ridge: Neighbours(solved_ease(gram, ridge)) for ridge in RIDGES}


def together_weights(split: HistorySplit, ridge: float | None, device: torch.device) -> Neighbours:
    if ridge is not None:
        return Neighbours(solved_ease(item_gram(split, device, "EASE"), ridge))
    return Neighbours.of_pairs(split.train, split.num_items, COMPANIONS, device)


@torch.no_grad()
def solved(split: HistorySplit, leaning: Leaning, seen: Ragged, users: Tensor) -> Neighbours:
    """Weights of a split whose scores spread by 1 over the items, so that a model's shares compare.

    users: (batch,) int64, histories in `seen` to tell the spread by.
    """
    parts = []
    if leaning.together:
        parts.append((leaning.together, together_weights(split, leaning.ridge, users.device)))
    if leaning.following:
        parts.append((leaning.following, following_weights(split, users.device)))
    even = [weights.fading_by(leaning.keep).even(seen, users).times(share) for share, weights in parts]
    return reduce(Neighbours.plus, even).even(seen, users)


def choosing_part(split: HistorySplit) -> HistorySplit:
    """What weights are chosen by: users set aside for it, else the last item but the judged one of those with enough.

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
    return users[evenly_spread(len(users), MOST_JUDGED)]
