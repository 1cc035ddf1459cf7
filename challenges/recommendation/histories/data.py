"""Histories as batches: interactions for NCF, users for the autoencoders, sequences for the transformers.

The whole split lies on the training device; a batch is gathered there. Every training batch holds `row` (batch,)
int64, the position of each sample within the global batch, from which a task draws its random numbers
(common/training/randomness.py).
"""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor

from challenges.recommendation.histories.device_histories import Ragged
from challenges.recommendation.histories.histories import HistorySplit
from common.machine.device import moved
from common.machine.distributed import ALONE, World
from common.training.randomness import Share, random_bits, shuffled_shares
from common.training.task import Batch, DataModule

SCORES_PER_BATCH = {"cpu": 2**20, "cuda": 2**27}
"""Users x items of one validation batch: 4 MiB of scores on a CPU, which stay in its caches, 512 on a GPU."""
LARGEST_VALIDATION_BATCH = 8192


class HistoryData(DataModule):
    """What the three kinds have in common: the split and its judged users.

    Validation batches hold `index` (batch,) int64, positions of judged users, and what the model is told of them.
    """

    def __init__(
        self,
        split: HistorySplit,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int | None = None,
    ) -> None:
        self._device, self.world, self._seed = device, world, seed
        self.judge_by(split)
        self._tuning: Self | None = None
        fitting = SCORES_PER_BATCH["cuda" if device.type == "cuda" else "cpu"] // split.num_items
        self._evaluation_batch = evaluation_batch or max(1, min(LARGEST_VALIDATION_BATCH, fitting))

    def validation_batches(self) -> Iterable[Batch]:
        mine = np.arange(self.world.rank, self.num_validation, self.world.size)
        for begin in range(0, len(mine), self._evaluation_batch):
            index = mine[begin : begin + self._evaluation_batch]
            yield {"index": self._moved(index), **self.told(index)}

    def judge_by(self, split: HistorySplit) -> None:
        """Take the judged users from `split`; the training stays."""
        self.split, self.num_validation = split, split.num_judged

    def tuning(self) -> Self | None:
        split = self.split.by_tuning()
        if self._tuning is None and split is not None:
            self._tuning = copy.copy(self)
            self._tuning.judge_by(split)
        return self._tuning

    @abstractmethod
    def told(self, index: np.ndarray) -> Batch:
        """What the model is told of the judged users at positions `index` (batch,)."""

    def describe(self) -> dict[str, object]:
        split = self.split
        return {
            **super().describe(),
            "protocol": split.protocol,
            "users": split.num_users,
            "items": split.num_items,
            "interactions": len(split.train.items),
            "judged_users": split.num_judged,
            "fingerprint": split.fingerprint,
            "facts": split.facts,
        }

    def _moved(self, array: np.ndarray) -> Tensor:
        return moved(torch.as_tensor(array), self._device)

    def _shares(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Share]:
        return shuffled_shares(
            self.num_train, batch_size, first_step, seed=self._seed, world=self.world, accumulation=accumulation
        )


class InteractionData(HistoryData):
    """One sample is one interaction of the training histories.

    Training batches: user, item, row (batch,) int64. Validation batches: index, user (batch,) int64; user is -1 for
    judged users that no training user is.
    """

    sample_unit = "interaction"

    def __init__(
        self,
        split: HistorySplit,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int | None = None,
    ) -> None:
        super().__init__(split, device=device, world=world, seed=seed, evaluation_batch=evaluation_batch)
        self.num_train = len(split.train.items)
        self._users = torch.as_tensor(split.train.users()).to(device)
        self._items = torch.as_tensor(split.train.items).to(device)

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        local = batch_size // self.world.size
        micro = local // accumulation
        rows = torch.arange(micro, device=self._device) + self.world.rank * local
        order = _Order(self.num_train, self._seed, self._device)
        step = first_step
        while True:
            for part in range(accumulation):
                begin = step * batch_size + self.world.rank * local + part * micro
                sample = order.stretch(begin, micro)
                yield {"user": self._users[sample], "item": self._items[sample], "row": rows + part * micro}
            step += 1

    def told(self, index: np.ndarray) -> Batch:
        return {"user": self._moved(self.split.users[index])}


class _Order:
    """Endless permutations laid end to end, drawn on the device: 20 million samples on the host take most of a second.

    The order is a pure function of the seed on every kind of device; CPU and GPU draw different ones.
    """

    def __init__(self, count: int, seed: int, device: torch.device) -> None:
        self._count, self._seed, self._device = count, seed, device
        self._permutations: dict[int, Tensor] = {}

    def stretch(self, begin: int, length: int) -> Tensor:
        """(length,) int64: the samples at positions begin to begin + length - 1."""
        parts = []
        while length:
            epoch, position = divmod(begin, self._count)
            parts.append(self._permutation(epoch)[position : position + length])
            begin, length = begin + len(parts[-1]), length - len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            self._permutations = {e: p for e, p in self._permutations.items() if e >= epoch - 1}
            word = int(random_bits(self._seed, epoch, torch.zeros(1, dtype=torch.int64), 1, stream=1))
            generator = torch.Generator(self._device).manual_seed(word)
            self._permutations[epoch] = torch.randperm(self._count, generator=generator, device=self._device)
        return self._permutations[epoch]


class UserData(HistoryData):
    """One sample is one training user with the whole history.

    Batches: user (batch,) int64 with row in training, index in validation, and the histories as entries: `entry_row`
    (entry,) int64, the position within this micro-batch, and `entry_item` (entry,) int64.
    """

    sample_unit = "user"

    def __init__(
        self,
        split: HistorySplit,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int | None = None,
    ) -> None:
        super().__init__(split, device=device, world=world, seed=seed, evaluation_batch=evaluation_batch)
        self.num_train = split.num_users
        self._train = Ragged(split.train, device)

    def judge_by(self, split: HistorySplit) -> None:
        super().judge_by(split)
        self._seen = Ragged(split.seen, self._device)

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        lengths = self.split.train.lengths
        for share in self._shares(first_step, batch_size, accumulation):
            user = self._moved(share.samples)
            row, item = self._train.entries(user, int(lengths[share.samples].sum()))
            yield {"user": user, "row": self._moved(share.rows), "entry_row": row, "entry_item": item}

    def told(self, index: np.ndarray) -> Batch:
        row, item = self._seen.entries(self._moved(index), int(self.split.seen.lengths[index].sum()))
        return {"entry_row": row, "entry_item": item}


class SequenceData(HistoryData):
    """One sample is a window of at most `length` consecutive items of one training user.

    Batches: items (batch, length) int64, right-aligned (the newest in the last column, -1 before the first), with user
    and row (batch,) int64 in training and index in validation, where the items are the newest ones of `seen`.

    length: columns of a training window; validation_length: those of a validation batch, the same unless given.
    stride: None takes the newest window of every user; a number adds windows that begin so many items earlier each,
            down to the first item (Sun et al.'s sliding window).
    """

    sample_unit = "sequence"

    def __init__(
        self,
        split: HistorySplit,
        *,
        length: int,
        validation_length: int | None = None,
        stride: int | None = None,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int | None = None,
    ) -> None:
        super().__init__(split, device=device, world=world, seed=seed, evaluation_batch=evaluation_batch)
        self.length, self._validation_length = length, validation_length or length
        user, start = training_windows(split.train.lengths, length, stride)
        offsets = split.train.offsets
        self.num_train = len(user)
        self._user = torch.as_tensor(user).to(device)
        self._start = torch.as_tensor(offsets[user] + start).to(device)
        self._end = torch.as_tensor(np.minimum(offsets[user] + start + length, offsets[user + 1])).to(device)
        self._train = Ragged(split.train, device)

    def judge_by(self, split: HistorySplit) -> None:
        super().judge_by(split)
        self._seen = Ragged(split.seen, self._device)

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        for share in self._shares(first_step, batch_size, accumulation):
            sample = self._moved(share.samples)
            items = self._train.windows(self._start[sample], self._end[sample], self.length)
            yield {"items": items, "user": self._user[sample], "row": self._moved(share.rows)}

    def told(self, index: np.ndarray) -> Batch:
        return {"items": self._seen.newest(self._moved(index), self._validation_length)}


def training_windows(lengths: np.ndarray, width: int, stride: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The windows of `SequenceData`: user (window,) and first item within the history (window,), both int64.

    lengths: (user,) int64; users without items have no window.
    """
    excess = np.maximum(lengths - width, 0)
    more = np.zeros_like(lengths) if stride is None else -(-excess // stride)
    counts = np.where(lengths > 0, 1 + more, 0)
    user = np.repeat(np.arange(len(lengths), dtype=np.int64), counts)
    earlier = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    return user, np.maximum(excess[user] - earlier * (stride or 0), 0)
