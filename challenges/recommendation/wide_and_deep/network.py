"""Wide & Deep: a linear model over ids, crosses and numbers, and a perceptron over their embeddings, added up.

Cheng et al. 2016, arXiv:1606.07792; NVIDIA DeepLearningExamples, WideAndDeep (TensorFlow 2). Every column has rows of
one width, where NVIDIA's have 19 to 128 numbers by column.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from challenges.recommendation.clicks.layers import Perceptron, started
from challenges.recommendation.clicks.spec import FeatureSpec
from common.errors import RecipeError
from common.training.linear import Linear

FIELDS = ((1021, 517, 331), (1019, 739, 857))
"""Primes, each with a base and a factor of every part: no number on the way to a hash is above 2**21."""
MOST_BUCKETS = FIELDS[0][0] * FIELDS[1][0]


class WideAndDeep(nn.Module):
    """From encoded numbers and rows of both tables to a logit.

    numbers: width of the encoded numbers.
    columns: with ids, of which the deep part has rows of `width`; the wide part has a weight for each id instead.
    hidden:  widths of the deep part's hidden layers.
    """

    def __init__(
        self,
        *,
        numbers: int,
        columns: int,
        width: int,
        hidden: Sequence[int] = (1024,) * 5,
        dropout: float = 0.1,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        known = numbers + columns * width
        self.deep = Perceptron(known, *hidden, dropout=dropout, batch_norm=batch_norm)
        self.logit = started(Linear(hidden[-1] if hidden else known, 1))
        self.wide = nn.Linear(numbers, 1, bias=False) if numbers else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)

    def forward(self, numbers: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        """numbers (batch, n), rows (batch, column, width), weights (batch, wide column, 1) -> logits (batch,)."""
        deep = self.logit(self.deep(torch.cat([numbers, rows.flatten(1)], 1)))
        wide = weights.sum(1)
        if self.wide is not None:
            wide = wide + self.wide(numbers)
        logit: Tensor = deep + wide
        return logit.squeeze(1)


class Crosses(nn.Module):
    """Ids of several columns as one, by the crosses that a spec declares.

    A cross whose columns have no more combinations than it has buckets gets one for each; else combinations share.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        places = {column.name: place for place, column in enumerate(spec.categorical)}
        self.rows = tuple(cross.buckets for cross in spec.crosses)
        if max(self.rows, default=0) > MOST_BUCKETS:
            raise RecipeError(f"A cross has {max(self.rows):,} buckets.", f"It has {MOST_BUCKETS:,} at most.")
        self._columns = [[places[name] for name in cross.columns] for cross in spec.crosses]
        self._sizes = [[spec.categorical[place].cardinality for place in columns] for columns in self._columns]

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, column) -> (batch, cross) int64; nothing on the way leaves the 24 bits that OpenVINO divides."""
        crossed = []
        for columns, sizes, buckets in zip(self._columns, self._sizes, self.rows, strict=True):
            parts = [ids[:, place].long() for place in columns]
            code = _numbered(parts, sizes) if _combinations(sizes) <= buckets else _hashed(parts) % buckets
            crossed.append(code)
        return torch.stack(crossed, 1)


def _numbered(parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Another number for every combination."""
    code = parts[0]
    for part, size in zip(parts[1:], sizes[1:], strict=True):
        code = code * size + part
    return code


def _hashed(parts: Sequence[Tensor]) -> Tensor:
    """A number below MOST_BUCKETS, of polynomials modulo two primes."""
    high, low = (_polynomial(parts, *field) for field in FIELDS)
    return high * FIELDS[1][0] + low


def _polynomial(parts: Sequence[Tensor], prime: int, base: int, factor: int) -> Tensor:
    code = torch.zeros_like(parts[0])
    for part in parts:
        code = (code * base + part % prime * factor) % prime
    return code


def _combinations(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
