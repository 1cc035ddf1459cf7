"""Items a user has not met: lists to rank a held-out item among, and counter-examples for training."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.histories import Histories, HistorySplit
from common.training.randomness import random_below, random_bits

By = Literal["uniform", "popularity"]
ROUNDS = 3  # of drawing twice as many as needed; users who still lack some are served from a draw over all items
CELLS = 2**22  # numbers drawn at a time: 32 MiB
LISTED = 2**25  # unseen items of all users that are held as a list: 128 MiB


def sample_negatives(split: HistorySplit, count: int, *, by: By, seed: int) -> np.ndarray:
    """Items that were neither seen nor held out, without repetition: (judged user, count) int64.

    Successive draws in proportion to the items' training counts (popularity) or all alike; an item that never occurs in
    training has no popularity and is not drawn by it. Where a user has fewer such items, -1 fills the row.
    The lists depend on the split and the seed alone.
    """
    weights = torch.as_tensor(split.popularity() if by == "popularity" else np.ones(split.num_items, np.int64))
    met = _Pairs(_joined(split.seen, split.targets), split.num_items)
    stream = 1 if by == "popularity" else 0
    lists = torch.full((split.num_judged, count), -1, dtype=torch.int64)
    if not weights.sum():
        return lists.numpy()
    step = max(1, CELLS // (2 * count))
    for begin in range(0, split.num_judged, step):
        users = torch.arange(begin, min(begin + step, split.num_judged))
        lists[users] = _drawn(users, count, weights, met, seed, stream)
    lacking = (lists[:, -1] < 0).nonzero()[:, 0]
    for users in lacking.split(max(1, CELLS // split.num_items)):
        lists[users] = _completed(users, lists[users], weights, met, seed, stream)
    return lists.numpy()


class UnseenItems:
    """Draws uniformly among the items that a training user's history lacks, exactly and without trying again.

    A number is drawn below how many these are, and the item of that rank among them is looked up: in the list of them
    all, or where that is longer than `LISTED`, by one binary search for a whole batch. With a history p_0 < p_1 < ...,
    the item of rank r among the others is r plus the number of p_j with p_j - j <= r; these differences, laid end to
    end over the users, are sorted.
    """

    def __init__(self, histories: Histories, num_items: int, device: torch.device) -> None:
        pairs = _Pairs(histories, num_items)
        users = torch.arange(len(histories) + 1)
        starts = torch.searchsorted(pairs.keys, users * num_items)
        self._num_items = num_items
        self._starts = starts.to(device)
        self._list = self._keys = torch.empty(0, dtype=torch.int64)
        if 0 < len(histories) * num_items - len(pairs.keys) <= LISTED:
            is_unseen = torch.ones(len(histories) * num_items, dtype=torch.bool)
            is_unseen[pairs.keys] = False
            self._list = is_unseen.nonzero()[:, 0].remainder_(num_items).int().to(device)
            self._list_starts = (users * num_items - starts).to(device)
        else:
            user = torch.repeat_interleave(starts.diff())
            rank = pairs.keys - user * num_items - (torch.arange(len(user)) - starts[user])
            self._keys = (user * (num_items + 1) + rank).to(device)

    def draw(self, user: Tensor, count: int, *, seed: int, step: int, row: Tensor) -> Tensor:
        """(batch, count) int64, with repetition; a user who has met every item gets the last one.

        user, row: (batch,) int64; row is the position within the global batch.
        """
        start = self._starts[user][:, None]
        free = self._num_items - (self._starts[user + 1][:, None] - start)
        rank = random_below(free, seed, step, row, count)
        if len(self._list):
            place = (self._list_starts[user][:, None] + rank).clamp_(max=len(self._list) - 1)
            return torch.where(free > 0, self._list[place], self._num_items - 1).long()
        before = torch.searchsorted(self._keys, user[:, None] * (self._num_items + 1) + rank, right=True) - start
        return (rank + before).clamp_(max=self._num_items - 1)


class _Pairs:
    """Which user has which item: sorted keys user * num_items + item, each once."""

    def __init__(self, histories: Histories, num_items: int) -> None:
        self._num_items = num_items
        self.keys = torch.as_tensor(np.unique(histories.users() * num_items + histories.items))

    def contain(self, users: Tensor, items: Tensor) -> Tensor:
        """(user, n) bool for users (user,) and items (user, n)."""
        wanted = users[:, None] * self._num_items + items
        if not len(self.keys):
            return torch.zeros_like(wanted, dtype=torch.bool)
        return self.keys[torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)] == wanted


def _joined(first: Histories, second: Histories) -> Histories:
    """Both histories of every user, one after the other."""
    users = np.concatenate([first.users(), second.users()])
    items = np.concatenate([first.items, second.items])[np.argsort(users, kind="stable")]
    return Histories(first.offsets + second.offsets, items)


def _drawn(users: Tensor, count: int, weights: Tensor, met: _Pairs, seed: int, stream: int) -> Tensor:
    """Draw with repetition and keep what is new and not met; incomplete rows end with -1."""
    cumulative = weights.cumsum(0)
    lists = torch.full((len(users), count), -1, dtype=torch.int64)
    for attempt in range(ROUNDS):
        lacking = (lists[:, -1] < 0).nonzero()[:, 0]
        if not len(lacking):
            break
        drawn = random_below(int(cumulative[-1]), seed, attempt, users[lacking], 2 * count, stream=stream)
        items = torch.searchsorted(cumulative, drawn, right=True)
        items[met.contain(users[lacking], items)] = -1
        lists[lacking] = first_distinct(torch.cat([lists[lacking], items], 1))[:, :count]
    return lists


def _completed(users: Tensor, lists: Tensor, weights: Tensor, met: _Pairs, seed: int, stream: int) -> Tensor:
    """Go on drawing from all items at once: the smallest of exponential times at rates `weights` come first."""
    items = torch.arange(len(weights))
    bits = random_bits(seed, ROUNDS, users, len(weights), stream=stream)
    number = ((bits >> 12).double() + 2.0**51 + 0.5) * 2.0**-52  # in (0, 1)
    times = -number.log() / weights
    times[met.contain(users, items.expand(len(users), -1))] = torch.inf
    rows, columns = (lists >= 0).nonzero(as_tuple=True)
    times[rows, lists[rows, columns]] = torch.inf
    width = min(lists.shape[1], len(weights))
    found, order = times.topk(width, largest=False)
    return first_distinct(torch.cat([lists, torch.where(found.isinf(), -1, order)], 1))[:, : lists.shape[1]]


def first_distinct(items: Tensor) -> Tensor:
    """Every row's items moved to the front in their order, repetitions left out, -1 behind: (row, n) int64."""
    ordered, order = items.sort(dim=1, stable=True)
    repeated = torch.zeros_like(items, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    kept = items.masked_fill(torch.zeros_like(repeated).scatter_(1, order, repeated), -1)
    return kept.gather(1, (kept < 0).sort(dim=1, stable=True).indices)
