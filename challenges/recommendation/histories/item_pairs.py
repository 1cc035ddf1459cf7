"""Item-to-item weights counted from pairs within histories: what follows what, and what stands together.

The pairs of sequential rules (Ludewig and Jannach 2018) under the damped cosine of item k-NN: counted in seconds, and
held as a few strong ones for each item, so that a catalogue may be large.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import Histories


@dataclass(frozen=True)
class Pairs:
    """How much a pair of a history's items counts.

    window: places that they stand apart at most.
    decay: what a pair counts of one that stands a place nearer.
    backwards: what the newer item says for the older one, of what the older says for the newer.
    """

    window: int
    decay: float
    backwards: float


FOLLOWERS = Pairs(window=10, decay=0.8, backwards=0.3)
"""NDCG@10 by the last item but the reported one, older items fading by .8, a damping of 30: 1,000 users of MovieLens
1M, a cut that is not reported, .131; windows of 20 and 1/distance .130, forwards alone .132, both ways alike .114."""
COMPANIONS = Pairs(window=50, decay=1.0, backwards=1.0)
SHRINKAGE = 100.0
"""Added to the cosine's denominator. 30 and 100: MovieLens' 6,040 users .150 and .149, Amazon's sports .038 and .041,
Yelp .020 and .023."""
STRONGEST = 100  # weights of an item. 20, 50, 100 and 200: 6,040 users .138, .147, .150 and .151
LARGEST_CATALOGUE = 100_000  # items, whose pairs are counted in a minute
CELLS = 2**24  # items x items counted at a time


@torch.no_grad()
def strongest_pairs(histories: Histories, num_items: int, pairs: Pairs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whom each item speaks for, (item, strongest) int64, and how strongly, (item, strongest) float32; 0 fills up."""
    told = Ragged(histories, device)
    owners = torch.repeat_interleave(told.offsets.diff())
    counts = torch.bincount(told.items, minlength=num_items)
    by_item, ends = told.items.argsort(stable=True), counts.cumsum(0)
    others, weights = [], []
    for rows in torch.arange(num_items, device=device).split(max(1, CELLS // num_items)):
        first, last = int(rows[0]), int(rows[-1])
        places = by_item[ends[first] - counts[first] : ends[last]]
        found = torch.zeros(len(rows), num_items, device=device)
        cells = found.view(-1)
        for here, there, count in _pairs(places, owners, pairs):
            which = (told.items[here] - first) * num_items + told.items[there]
            cells.index_add_(0, which, torch.full((len(which),), count, device=device))
        found[torch.arange(len(rows)), rows] = 0  # an item that comes again says nothing for itself
        found /= (counts[rows, None] * counts).sqrt() + SHRINKAGE
        best, whom = found.topk(min(STRONGEST, num_items), dim=1)
        others.append(whom)
        weights.append(best)
    return torch.cat(others), torch.cat(weights)


def _pairs(places: Tensor, owners: Tensor, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor, float]]:
    """Places among all interactions, the places of what they speak for, and how much these count."""
    for distance in range(1, pairs.window + 1):
        for step, share in ((distance, 1.0), (-distance, pairs.backwards)):
            there = places + step
            near = there.clamp(0, len(owners) - 1)
            same = (near == there) & (owners[near] == owners[places])
            yield places[same], there[same], share * pairs.decay ** (distance - 1)
