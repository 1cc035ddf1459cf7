"""Training loops as others write them, for the same network and the same batches as ours."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

LR = 0.01


class PeerBatch(NamedTuple):
    """dense (batch, number) float32, ids (batch,) int64 for every column, label (batch,) float32."""

    dense: Tensor
    ids: list[Tensor]
    label: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> "PeerBatch":
        return cls(batch["dense"], list(batch["categorical"].long().t().contiguous()), batch["label"])


class RowsInMemory(Dataset[tuple[np.ndarray, np.ndarray, np.float32]]):
    """A row at a time out of arrays, as facebookresearch/dlrm, FuxiCTR and DeepCTR-Torch read their data."""

    def __init__(self, files: Sequence[Path]) -> None:
        table = pq.read_table(list(files), columns=["dense", "categorical", "label"]).combine_chunks()
        self.dense, self.ids = (
            table[name].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1).copy()
            for name in ("dense", "categorical")
        )
        self.label = table["label"].to_numpy().astype(np.float32)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray, np.float32]:
        return self.dense[place], self.ids[place], self.label[place]


def dataset_batches(files: Sequence[Path], batch: int) -> Iterator[PeerBatch]:
    """Shuffled batches of a DataLoader without workers, epoch after epoch."""
    loader = DataLoader(RowsInMemory(files), batch_size=batch, shuffle=True, drop_last=True)
    while True:
        for dense, ids, label in loader:
            yield PeerBatch(dense, list(ids.long().t().contiguous()), label)


class PerTableDlrm(nn.Module):
    """DLRM with an EmbeddingBag for every column, as facebookresearch/dlrm lays it out (arXiv:1906.00091).

    is_sparse: whether the tables' gradients name the rows that were read, or are as large as the tables.
    """

    def __init__(
        self, rows: int, columns: int, numbers: int, width: int, bottom: tuple[int, ...], top: tuple[int, ...],
        *, is_sparse: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum", sparse=is_sparse) for _ in range(columns))
        self.bottom = _layers(numbers, *bottom, width)
        vectors = columns + 1
        self.top = _layers(width + vectors * (vectors - 1) // 2, *top).append(nn.Linear(top[-1], 1))
        self.row, self.column = torch.tril_indices(vectors, vectors, -1)

    def forward(self, dense: Tensor, ids: list[Tensor], starts: Tensor) -> Tensor:
        """dense (batch, number), ids (batch,) for every column, starts (batch,): 0, 1, ... -> logits (batch,)."""
        own = self.bottom(dense)
        vectors = torch.stack([own, *(table(one, starts) for table, one in zip(self.tables, ids, strict=True))], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2))
        logits: Tensor = self.top(torch.cat([own, products[:, self.row, self.column]], 1))
        return logits.squeeze(1)


class PeerStep:
    """One step after the other in float32: Adagrad with sparse gradients, or Adam with dense ones."""

    def __init__(self, model: PerTableDlrm, batches: Iterator[PeerBatch], *, is_sparse: bool) -> None:
        self._model, self._batches = model, batches
        kind = torch.optim.Adagrad if is_sparse else torch.optim.Adam
        self._optimizer: torch.optim.Optimizer = kind(model.parameters(), lr=LR)

    def __call__(self) -> int:
        batch = next(self._batches)
        logits = self._model(batch.dense, batch.ids, torch.arange(len(batch.label)))
        loss = functional.binary_cross_entropy_with_logits(logits, batch.label)
        self._optimizer.zero_grad()
        loss.backward()
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # torch warns of its own Adagrad else
            self._optimizer.step()
        return len(logits)


def _layers(*widths: int) -> nn.Sequential:
    layers = nn.Sequential()
    for wide, narrow in pairwise(widths):
        layers.append(nn.Linear(wide, narrow)).append(nn.ReLU())
    return layers
