"""Embedding tables: the rows of all categorical columns in one matrix, whose gradient names only rows it read."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

INT32_ROWS = 2**31 - 1
"""As far as 32 bits count; sorting and gathering by these takes half as long."""


class Bag(NamedTuple):
    """A multi-hot column of a batch: values (value,) and offsets (batch + 1,), where each sample's values start."""

    values: Tensor
    offsets: Tensor


class Tables(nn.Module, ABC):
    """Rows for all columns with ids: in one process below, in TorchRec's collection over several.

    columns: how many there are, columns of one id first.
    width:   numbers in a row.
    """

    columns: int
    width: int

    @abstractmethod
    def forward(self, ids: Tensor, bags: Sequence[Bag] | Tensor = ()) -> Tensor:
        """Rows of single ids, and the mean row of every bag, zero where it is empty.

        ids:  (batch, column) integers, each below its column's rows.
        bags: one for every multi-hot column, or all as (batch, bag, longest), padded with -1.
        returns: (batch, column, width) float32
        """

    @abstractmethod
    def whole(self) -> "FusedTable":
        """The rows in one process, to be exported."""


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
        self.weight = nn.Parameter(torch.empty(int(starts[-1]), width, dtype=dtype))
        self.weight.grad_dtype = torch.float32  # means over a batch are too small for half precision
        with torch.no_grad():
            for first, count in zip(starts, self.rows, strict=False):
                bound = math.sqrt(1 / count) if spread is None else spread
                self.weight[first : first + count].uniform_(-bound, bound)

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
        return self

    def _read(self, index: Tensor, starts: Tensor | None) -> Tensor:
        """(bag, width) float32: the sum of the rows of every bag; of one row each without `starts`."""
        if self.is_sparse:
            read: Tensor = _Read.apply(self.weight, index, starts)  # type: ignore[no-untyped-call]  # torch's
            return read
        if starts is None:
            return functional.embedding(index, self.weight).float()
        return functional.embedding_bag(index, self.weight, starts, mode="sum").float()


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
    def forward(ctx: Any, weight: Tensor, index: Tensor, starts: Tensor | None) -> Tensor:
        ctx.save_for_backward(index, *(() if starts is None else (starts,)))
        ctx.shape = weight.shape
        return gather(weight, index) if starts is None else sums_of_rows(weight, index, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor, None, None]:
        index, *starts = ctx.saved_tensors
        if starts:
            end = starts[0].new_tensor([len(index)])
            errors = errors.repeat_interleave(torch.cat([starts[0], end]).diff(), 0)
        return torch.sparse_coo_tensor(index[None], errors, ctx.shape, check_invariants=False), None, None


def gather(weight: Tensor, index: Tensor) -> Tensor:
    """Rows of a matrix as float32: index (n,) -> (n, width).

    On a CPU by the kernel for sums of rows, which fetches ahead: 10 ms where `index_select` takes 23 (16,384 samples of
    26 rows, 16 wide).
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return sums_of_rows(weight, index, torch.arange(len(index)))
    return weight.index_select(0, index).float()


def sums_of_rows(weight: Tensor, index: Tensor, starts: Tensor) -> Tensor:
    """(bag, width) float32: the sum of weight[index] from each start to the next one."""
    if weight.dtype != torch.float32:  # the kernel would round the sums
        weight, index = gather(weight, index), torch.arange(len(index), device=index.device)
    most = max(len(weight), len(index))
    return functional.embedding_bag(narrow(index, most), weight, narrow(starts, most), mode="sum")


def narrow(index: Tensor, rows: int) -> Tensor:
    """The numbers in 32 bits where these count as far as `rows`."""
    return index.int() if rows <= INT32_ROWS else index.long()
