"""Item-to-item weights counted from pairs within histories: what follows what, and what stands together.

The pairs of sequential rules (Ludewig and Jannach 2018) under the damped cosine of item k-NN: counted in seconds, and
held as a few strong ones for each item, so that a catalogue may be large.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
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
LARGEST_CATALOGUE = 100_000  # items, whose weights take 120 MB
ENTRIES = 2**22  # pairs counted at a time


@torch.no_grad()
def strongest_pairs(histories: Histories, num_items: int, pairs: Pairs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whom each item speaks for, (item, strongest) int64, and how strongly, (item, strongest) float32; 0 fills up."""
    told = Ragged(histories, device)
    owners = torch.repeat_interleave(told.offsets.diff())
    counts = torch.bincount(told.items, minlength=num_items)
    by_item, ends = told.items.argsort(stable=True), counts.cumsum(0)
    width = min(STRONGEST, num_items)
    others = torch.zeros(num_items, width, dtype=torch.int64, device=device)
    weights = torch.zeros(num_items, width, device=device)
    for first, last in _stretches(ends.tolist(), max(1, ENTRIES // (2 * pairs.window))):
        places = by_item[ends[first] - counts[first] : ends[last - 1]]
        row, whom, count = _counted(_pairs(places, told.items, owners, pairs), num_items)
        strength = count / ((counts[row] * counts[whom]).sqrt() + SHRINKAGE)
        order = strength.argsort(descending=True)
        order = order[row[order].argsort(stable=True)]
        row, whom, strength = row[order], whom[order], strength[order]
        found = torch.bincount(row - first, minlength=last - first)
        place = torch.arange(len(row), device=device) - (found.cumsum(0) - found)[row - first]
        kept = place < width
        others[row[kept], place[kept]] = whom[kept]
        weights[row[kept], place[kept]] = strength[kept]
    return others, weights


def _stretches(ends: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Items of `most` interactions or fewer, or one item; ends: how many interactions the items up to each have."""
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(first + 1, bisect_right(ends, before + most))
        yield first, last
        first = last


def _counted(found: Iterable[tuple[Tensor, Tensor, float]], num_items: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each pair once, with the sum of its counts; an item that comes again says nothing for itself."""
    keys, values = [], []
    for item, whom, count in found:
        other = item != whom
        keys.append(item[other] * num_items + whom[other])
        values.append(torch.full((len(keys[-1]),), count, device=item.device))
    pairs, at = torch.unique(torch.cat(keys), return_inverse=True)
    counts = torch.zeros(len(pairs), device=at.device).index_add_(0, at, torch.cat(values))
    return pairs // num_items, pairs % num_items, counts


def _pairs(places: Tensor, items: Tensor, owners: Tensor, pairs: Pairs) -> Iterator[tuple[Tensor, Tensor, float]]:
    """The items of places among all interactions, those that they speak for, and how much it counts."""
    for distance in range(1, pairs.window + 1):
        for step, share in ((distance, 1.0), (-distance, pairs.backwards)):
            there = places + step
            near = there.clamp(0, len(owners) - 1)
            same = (near == there) & (owners[near] == owners[places])
            yield items[places[same]], items[there[same]], share * pairs.decay ** (distance - 1)
