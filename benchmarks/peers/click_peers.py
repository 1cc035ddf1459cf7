"""Training loops as others write them, for the same network and the same batches as ours."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

LR = 0.01


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

    def __init__(self, model: PerTableDlrm, batches: list[dict[str, Tensor]], *, is_sparse: bool) -> None:
        self._model, self._batches, self._done = model, batches, 0
        kind = torch.optim.Adagrad if is_sparse else torch.optim.Adam
        self._optimizer: torch.optim.Optimizer = kind(model.parameters(), lr=LR)
        self._ids = [list(batch["categorical"].long().t().contiguous()) for batch in batches]
        self._starts = torch.arange(len(batches[0]["label"]))

    def __call__(self) -> int:
        place = self._done % len(self._batches)
        batch = self._batches[place]
        logits = self._model(batch["dense"], self._ids[place], self._starts)
        loss = functional.binary_cross_entropy_with_logits(logits, batch["label"])
        self._optimizer.zero_grad()
        loss.backward()
        with torch.sparse.check_sparse_tensor_invariants(enable=False):  # torch warns of its own Adagrad else
            self._optimizer.step()
        self._done += 1
        return len(logits)


def _layers(*widths: int) -> nn.Sequential:
    layers = nn.Sequential()
    for wide, narrow in pairwise(widths):
        layers.append(nn.Linear(wide, narrow)).append(nn.ReLU())
    return layers
