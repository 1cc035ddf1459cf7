"""Embedding tables: the rows of all categorical columns in one matrix, whose gradient names only rows it read."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from challenges.recommendation.clicks.placement import Placement

INT32_ROWS = 2**31 - 1
"""As far as 32 bits count; sorting and gathering by these takes half as long."""
DRAWN_ROWS = 1 << 16
"""Of a column's rows, so many are drawn at a time."""
STRETCH = 1 << 18
"""Numbers of rows that a CPU works on at a time: a megabyte, which stays in a core's cache meanwhile."""


class Bag(NamedTuple):
    """A multi-hot column of a batch: values (value,) and offsets (batch + 1,), where each sample's values start."""

    values: Tensor
    offsets: Tensor


class Tables(nn.Module, ABC):
    """Rows for all columns with ids: in one process below, over several in clicks/row_wise.py and clicks/placed.py.

    columns:   how many there are, columns of one id first.
    width:     numbers in a row.
    is_apart:  whether the rows are left out of the module's state, since checkpoints keep them by their shards.
    placement: which process has what of each column; None: the rows of all are dealt out in turn.
    is_rounded: whether under a CPU's autocast single ids' rows may be given in its type, since only products take them.
                Their gradient has that type then, too; an update sums it in float32. torch adds up none of two passes.
    """

    columns: int
    width: int
    is_apart = False
    is_rounded = False
    placement: Placement | None = None

    @abstractmethod
    def forward(self, ids: Tensor, bags: Sequence[Bag] | Tensor = ()) -> Tensor:
        """Rows of single ids, and the mean row of every bag, zero where it is empty.

        ids:  (batch, column) integers, each below its column's rows.
        bags: one for every multi-hot column, or all as (batch, bag, longest), padded with -1.
        returns: (batch, column, width) float32, or in a CPU's autocast type where `is_rounded`
        """

    @abstractmethod
    def whole(self) -> "Tables":
        """The rows in the main process, to be saved or exported; every process takes part, and trains no more."""

    def own_optimizer(self, lr: float) -> torch.optim.Optimizer | None:
        """Updates the rows where the module's parameters are not these."""
        return None

    def kept(self) -> dict[str, dict[int, Tensor]]:
        """This process's rows ("") and their optimizer's sums (".sum") by column, where it updates them itself."""
        return {}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if not self.is_apart:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Raises KeyError where rows are given that would have to be cut."""
        if not self.is_apart:
            super()._load_from_state_dict(state_dict, prefix, *arguments)
        elif f"{prefix}weight" in state_dict:
            raise KeyError(f"{prefix}weight is whole, where the processes' shards of it are expected.")


class FusedTable(Tables):
    """One matrix with the rows of all columns, one column after the other.

    rows:      of every column, those of bags last.
    bags:      how many of the columns are multi-hot.
    is_sparse: whether the weight's gradient is a sparse tensor with an entry for every read, or a dense one.
    spread:    rows start evenly in ± spread; None: ± sqrt(1 / rows) of their column (NVIDIA's and the authors' DLRM).
    """

    offsets: Tensor

    def __init__(
        self,
        rows: Sequence[int],
        width: int,
        *,
        bags: int = 0,
        is_sparse: bool = True,
        spread: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.rows, self.bags, self.columns, self.width, self.is_sparse = tuple(rows), bags, len(rows), width, is_sparse
        starts = np.concatenate([[0], np.cumsum(self.rows, dtype=np.int64)])
        self.register_buffer("offsets", torch.as_tensor(starts[:-1]), persistent=False)
        self.weight = nn.Parameter(self._started(spread, dtype))
        # means over a batch are too small for float16; entries of a sparse gradient have the type that was read
        self.weight.grad_dtype = None if is_sparse else torch.float32

    def forward(self, ids: Tensor, bags: Sequence[Bag] | Tensor = ()) -> Tensor:
        if isinstance(bags, Tensor) or torch.compiler.is_compiling():
            return self._padded(ids, bags)
        batch, singles = ids.shape
        single = (ids + self.offsets[:singles]).flatten()
        if not bags:
            return self._read(single, None).view(batch, singles, self.width)
        index, starts = _joined(single, bags, self.offsets[singles:])
        sums = self._read(index, starts)
        counts = torch.stack([bag.offsets.diff() for bag in bags], 1).clamp_(min=1)
        rows, several = sums[: len(single)], sums[len(single) :].view(self.bags, batch, self.width).transpose(0, 1)
        return torch.cat([rows.view(batch, singles, self.width), several / counts[..., None]], 1)

    def _padded(self, ids: Tensor, bags: Sequence[Bag] | Tensor) -> Tensor:
        """What exported graphs hold."""
        singles = ids.shape[1]
        parts = [functional.embedding(ids + self.offsets[:singles], self.weight).float()] if singles else []
        if isinstance(bags, Tensor):
            there = (bags >= 0)[..., None].float()
            index = bags.clamp(min=0) + self.offsets[singles:, None]
            sums = (functional.embedding(index, self.weight).float() * there).sum(2)
            parts.append(sums / there.sum(2).clamp(min=1))
        return torch.cat(parts, 1)

    def whole(self) -> "FusedTable":
        self.is_apart = False
        return self

    def _started(self, spread: float | None, dtype: torch.dtype) -> Tensor:
        """(row, width), as they are before training."""
        weight = torch.empty(sum(self.rows), self.width, dtype=dtype)
        for first, values in drawn(self.rows, self.width, spread, dtype):
            weight[first : first + len(values)] = values
        return weight

    def _read(self, index: Tensor, starts: Tensor | None) -> Tensor:
        """(bag, width) float32: the sum of the rows of every bag; of one row each without `starts`."""
        if self.is_sparse:
            read: Tensor = _Read.apply(self.weight, index, starts, self._read_as())  # type: ignore[no-untyped-call]  # torch's
            return read
        if starts is None:
            return functional.embedding(index, self.weight).float()
        return functional.embedding_bag(index, self.weight, starts, mode="sum").float()

    def _read_as(self) -> torch.dtype:
        is_mixed = self.is_rounded and self.weight.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        return torch.get_autocast_dtype("cpu") if is_mixed else torch.float32


def drawn(rows: Sequence[int], width: int, spread: float | None, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Stretches of all columns' rows as they start, and the row that each begins with: the same for any taker."""
    first = 0
    for count in rows:
        bound = math.sqrt(1 / count) if spread is None else spread
        for taken in range(0, count, DRAWN_ROWS):
            size = min(DRAWN_ROWS, count - taken)
            yield first + taken, torch.empty(size, width, dtype=dtype).uniform_(-bound, bound)
        first += count


def _joined(single: Tensor, bags: Sequence[Bag], offsets: Tensor) -> tuple[Tensor, Tensor]:
    """All rows to read and where each sum of them starts; a single id is a sum of one."""
    index, starts, read = [single], [torch.arange(len(single), device=single.device)], len(single)
    for bag, offset in zip(bags, offsets, strict=True):
        index.append(bag.values + offset)
        starts.append(bag.offsets[:-1] + read)
        read += len(bag.values)
    return torch.cat(index), torch.cat(starts)


class _Read(torch.autograd.Function):
    """Sums of rows; the gradient is a sparse tensor with an entry for every row that was read."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, index: Tensor, starts: Tensor | None, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(index, *(() if starts is None else (starts,)))
        ctx.shape = weight.shape
        return gather(weight, index, dtype) if starts is None else sums_of_rows(weight, index, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor, None, None, None]:
        index, *starts = ctx.saved_tensors
        if starts:
            errors = for_each(errors, starts[0], len(index))
        return torch.sparse_coo_tensor(index[None], errors, ctx.shape, check_invariants=False), None, None, None


def for_each(errors: Tensor, starts: Tensor, rows: int) -> Tensor:
    """(row, width): the errors (bag, width) of each row's bag, which begins at one of `starts` and ends at the next."""
    return errors.repeat_interleave(torch.cat([starts, starts.new_tensor([rows])]).diff(), 0)


def gather(weight: Tensor, index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows of a matrix in a type: index (n,) -> (n, width).

    On a CPU by the kernel for sums of rows, which fetches ahead: 10 ms where `index_select` takes 23 (16,384 samples of
    26 rows, 16 wide); and in stretches where the type is another, so that the rows are never there in both.
    """
    if weight.device.type != "cpu" or dtype == weight.dtype != torch.float32:
        return weight.index_select(0, index).to(dtype)
    if dtype == weight.dtype:
        return sums_of_rows(weight, index, torch.arange(len(index)))
    index, rows = narrow(index, len(weight)), weight.new_empty(len(index), weight.shape[1], dtype=dtype)
    for part, into in zip(*(tensor.split(stretch(weight.shape[1])) for tensor in (index, rows)), strict=True):
        into.copy_(gather(weight, part, weight.dtype))
    return rows


def stretch(width: int) -> int:
    """How many rows are worked on at a time."""
    return max(1, STRETCH // width)


def sums_of_rows(weight: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    """(bag, width) float32: the sum of weight[index] from each start to the next one."""
    if weight.dtype != torch.float32:  # the kernel would round the sums
        weight, index = gather(weight, index), torch.arange(len(index), device=index.device)
    most = max(len(weight), len(index))
    return functional.embedding_bag(narrow(index, most), weight, narrow(starts, most), mode="sum")


def equal_together(index: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers below `rows`, each once and in order, and the order and starts by which `sums_of_rows` adds up equals."""
    ordered, order = torch.sort(narrow(index, rows), stable=True)
    is_first = torch.ones(len(ordered), dtype=torch.bool, device=ordered.device)
    torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
    starts = is_first.nonzero().squeeze(1)
    return ordered[starts], order, starts


def narrow(index: Tensor, rows: int) -> Tensor:
    """The numbers in 32 bits where these count as far as `rows`."""
    return index.int() if rows <= INT32_ROWS else index.long()
