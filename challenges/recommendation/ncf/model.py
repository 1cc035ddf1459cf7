"""NeuMF: a generalised matrix factorisation and a multilayer perceptron that share their last layer.

He et al. 2017, "Neural Collaborative Filtering", arXiv:1708.05031. Deviations:
- The first layer of the perceptron is kept as its user half and its item half. On a concatenation it does the same sum,
  but each half is computed once per user and once per item instead of once per pair.
- The shared last layer is kept as one per tower, with a bias each, and their outputs are added: so a tower that was
  trained alone brings its own, and the mix of section 3.4.1 multiplies the two by alpha and 1 - alpha.
- The layers' weights start as in the authors' code and NVIDIA's (Glorot uniform, LeCun uniform for the last), where the
  paper draws all from N(0, 0.01^2); embeddings follow the paper.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from challenges.recommendation.histories.embedding_rows import rows_of
from common.training.linear import Linear

Tower = Literal["neumf", "gmf", "mlp"]
PAIR_CELLS = 2**20
"""Numbers of one perceptron layer while whole rows are scored on a CPU: 4 MiB, to stay in its caches."""
BYTES_PER_CELL = 64
"""Of a GPU's free memory: some four layers in float32 are alive at once, and three quarters are left to others."""


class NeuMF(nn.Module):
    """Scores of users for items, as logits.

    factors: width of the factorisation's embeddings.
    layers:  widths of the perceptron: the joined user and item embeddings first, then every hidden layer.
    dropout: after every hidden layer's ReLU.
    tower:   which part answers, "neumf" both; may be changed between batches.
    """

    def __init__(
        self,
        *,
        num_users: int,
        num_items: int,
        factors: int = 8,
        layers: tuple[int, ...] = (32, 16, 8),
        dropout: float = 0.0,
        tower: Tower = "neumf",
    ) -> None:
        super().__init__()
        self.tower: Tower = tower
        self.gmf = Factorisation(num_users, num_items, factors)
        self.mlp = Perceptron(num_users, num_items, layers, dropout)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Score pairs. user: (batch,) int64; item: (batch, n) int64; returns (batch, n) logits."""
        if self.tower == "gmf":
            logits: Tensor = self.gmf(user, item)
        elif self.tower == "mlp":
            logits = self.mlp(user, item)
        else:
            logits = self.gmf(user, item) + self.mlp(user, item)
        return logits

    def score_all(self, user: Tensor) -> Tensor:
        """Score every item. user: (batch,) int64; returns (batch, item) logits; memory stays bounded."""
        first_items = self.mlp.first_items()
        at_once = max(1, pair_cells(user.device) // first_items.numel())
        return torch.cat([self.score_with(first_items, part) for part in user.split(at_once)])

    def score_with(self, first_items: Tensor, user: Tensor) -> Tensor:
        """(batch, item) logits, all at once, given `mlp.first_items()`."""
        if self.tower == "gmf":
            return self.gmf.score_all(user)
        if self.tower == "mlp":
            return self.mlp.score_with(first_items, user)
        return self.gmf.score_all(user) + self.mlp.score_with(first_items, user)

    @torch.no_grad()
    def mix(self, alpha: float) -> None:
        """Join two towers that were trained apart: the last layers count alpha and 1 - alpha."""
        for share, layer in ((alpha, self.gmf.predict), (1 - alpha, self.mlp.predict)):
            for parameter in layer.parameters():
                parameter.mul_(share)


def pair_cells(device: torch.device) -> int:
    """Numbers of one perceptron layer to be scored at once."""
    if device.type != "cuda":
        return PAIR_CELLS
    return torch.cuda.mem_get_info(device)[0] // BYTES_PER_CELL


class Factorisation(nn.Module):
    """GMF: a weighted product of two embeddings."""

    def __init__(self, num_users: int, num_items: int, factors: int) -> None:
        super().__init__()
        self.user, self.item = _embedding(num_users, factors), _embedding(num_items, factors)
        self.predict = _last_layer(factors)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Score pairs. user: (batch,); item: (batch, n); returns (batch, n) logits."""
        logits: Tensor = self.predict(_rows(self.user, user)[:, None] * _rows(self.item, item))
        return logits.squeeze(-1)

    def score_all(self, user: Tensor) -> Tensor:
        """(batch, item) logits by one matrix product."""
        weighted: Tensor = self.user(user) * self.predict.weight
        return weighted @ self.item.weight.T + self.predict.bias


class Perceptron(nn.Module):
    """MLP: hidden layers over two embeddings laid side by side."""

    def __init__(self, num_users: int, num_items: int, layers: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        if len(layers) < 2 or layers[0] % 2:
            raise ValueError(f"layers {layers} must hold an even width to split and at least one hidden layer")
        half = layers[0] // 2
        self.dropout = dropout
        self.user, self.item = _embedding(num_users, half), _embedding(num_items, half)
        self.first_user, self.first_item = Linear(half, layers[1]), Linear(half, layers[1], bias=False)
        bound = math.sqrt(6 / (layers[0] + layers[1]))  # Glorot's, of both halves together
        nn.init.uniform_(self.first_user.weight, -bound, bound)
        nn.init.uniform_(self.first_item.weight, -bound, bound)
        nn.init.zeros_(self.first_user.bias)
        self.hidden = nn.Sequential()
        for wide, narrow in pairwise(layers[1:]):
            layer = Linear(wide, narrow)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            self.hidden.append(layer)
        self.predict = _last_layer(layers[-1])

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Score pairs. user: (batch,); item: (batch, n); returns (batch, n) logits."""
        users, items = _half(self.first_user, self.user, user), _half(self.first_item, self.item, item)
        return self._later_layers(users[:, None] + items)

    def first_items(self) -> Tensor:
        """The item half of the first layer for the whole catalogue, (item, width)."""
        halves: Tensor = self.first_item(self.item.weight)
        return halves

    def score_with(self, first_items: Tensor, user: Tensor) -> Tensor:
        """(batch, item) logits, given `first_items()`; holds (batch, item, width) at once."""
        return self._later_layers(self.first_user(self.user(user))[:, None] + first_items)

    def _later_layers(self, first: Tensor) -> Tensor:
        """From the sum of both halves of the first layer, (..., width), to logits, (...)."""
        state = functional.dropout(first.relu(), self.dropout, self.training)
        for layer in self.hidden:
            state = functional.dropout(layer(state).relu(), self.dropout, self.training)
        logits: Tensor = self.predict(state)
        return logits.squeeze(-1)


def _half(layer: nn.Linear, table: nn.Embedding, index: Tensor) -> Tensor:
    """`layer` of the table's rows that `index` names; of the whole table first where that is less work."""
    if table.num_embeddings > index.numel():
        half: Tensor = layer(rows_of(table.weight, index))
        return half
    halves: Tensor = layer(table.weight)
    return rows_of(halves if gathers_half(table.weight.device) else halves.float(), index)


def _rows(table: nn.Embedding, index: Tensor) -> Tensor:
    """The table's rows, which cost more to be read than the whole table to be rounded where `index` is longer."""
    weight: Tensor = table.weight
    if gathers_half(weight.device) and index.numel() >= table.num_embeddings:
        weight = weight.to(torch.bfloat16)
    return rows_of(weight, index)


def gathers_half(device: torch.device) -> bool:
    """Whether rows are read as bfloat16, in half the time: on a GPU that trains so.

    It still adds up their gradients, of hundreds of pairs each, in float32; a CPU would round after every pair.
    """
    kind = device.type
    return kind == "cuda" and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16


def _embedding(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.01)
    return table


def _last_layer(width: int) -> nn.Linear:
    layer = nn.Linear(width, 1)
    nn.init.uniform_(layer.weight, -math.sqrt(3 / width), math.sqrt(3 / width))  # LeCun's
    nn.init.zeros_(layer.bias)
    return layer
