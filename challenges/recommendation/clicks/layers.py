"""What the click networks are made of: perceptrons, the interaction of all pairs, and low-rank crosses."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from common.training.linear import Linear

PADDED_TO = 8
"""Matrix products are quickest where widths are a multiple of it: DLRM's 479 becomes 480."""


class Perceptron(nn.Sequential):
    """Linear layers with a ReLU after each.

    widths:     of the input, then of every layer.
    dropout:    after every layer.
    batch_norm: before every ReLU.
    """

    def __init__(self, *widths: int, dropout: float = 0.0, batch_norm: bool = False) -> None:
        super().__init__()
        for wide, narrow in pairwise(widths):
            self.append(started(Linear(wide, narrow)))
            if batch_norm:
                self.append(nn.BatchNorm1d(narrow))
            self.append(nn.ReLU())
            if dropout:
                self.append(nn.Dropout(dropout))


def started(layer: nn.Linear) -> nn.Linear:
    """The layer with weights from N(0, 2 / (in + out)), biases from N(0, 1 / out): NVIDIA's and the authors' DLRM."""
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_features + layer.out_features)))
    nn.init.normal_(layer.bias, std=math.sqrt(1 / layer.out_features))
    return layer


class PairProducts(nn.Module):
    """The product of every pair of a sample's vectors: the lower triangle of their Gram matrix."""

    lower: Tensor
    both: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        self.pairs = vectors * (vectors - 1) // 2
        row, column = torch.tril_indices(vectors, vectors, -1)
        pair = torch.arange(self.pairs)
        both = torch.full((vectors, vectors), self.pairs)  # the diagonal: one past the pairs
        both[row, column] = both[column, row] = pair
        self.register_buffer("lower", row * vectors + column, persistent=False)
        self.register_buffer("both", both.flatten(), persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(batch, vector, width) -> (batch, pair)."""
        if torch.compiler.is_compiling():
            return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.lower)
        kind = vectors.device.type
        if torch.is_autocast_enabled(kind):
            vectors = vectors.to(torch.get_autocast_dtype(kind))
        products: Tensor = _PairProducts.apply(vectors, self.lower, self.both)  # type: ignore[no-untyped-call]  # torch's
        return products


class _PairProducts(torch.autograd.Function):
    """Both directions read whole matrices by one gather: the gradient's matrix is symmetric, and its diagonal zero."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, lower: Tensor, both: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, both)
        return _columns(torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1), lower)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor, None, None]:
        vectors, both = ctx.saved_tensors
        whole = _columns(functional.pad(errors, (0, 1)), both)
        return torch.bmm(whole.unflatten(1, (vectors.shape[1], -1)), vectors), None, None


def _columns(values: Tensor, index: Tensor) -> Tensor:
    """values[:, index]. On a CPU, 16-bit numbers are gathered as integers: 3.7 ms where bfloat16 takes 9.1."""
    if values.dtype == torch.bfloat16 and values.device.type == "cpu":
        return values.view(torch.int16).gather(1, index.expand(len(values), -1)).view(torch.bfloat16)
    return values.gather(1, index.expand(len(values), -1))


class LowRankCrosses(nn.Module):
    """Layers x -> x0 * (V U x + b) + x, each of which raises the degree of the polynomial by one.

    Source: Wang et al. 2021, DCN V2, arXiv:2008.13535, 3.2 to 3.4; MLPerf's DLRM-DCNv2 has 3 layers of rank 512.
    """

    def __init__(self, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(Linear(width, rank, bias=False) for _ in range(layers))
        self.up = nn.ModuleList(Linear(rank, width) for _ in range(layers))
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.xavier_normal_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, width) -> (batch, width)."""
        state = inputs
        for down, up in zip(self.down, self.up, strict=True):
            state = inputs * up(down(state)) + state
        return state


def padded(parts: Sequence[Tensor]) -> Tensor:
    """The parts (batch, n) side by side, with zeros up to the next multiple of PADDED_TO."""
    missing = -sum(part.shape[1] for part in parts) % PADDED_TO
    return functional.pad(torch.cat(list(parts), 1), (0, missing))


def padded_width(width: int) -> int:
    return -(-width // PADDED_TO) * PADDED_TO
