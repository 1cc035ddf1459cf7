"""Numeric columns as a network sees them: as they are, scaled, or as piecewise-linear codes."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from challenges.recommendation.clicks.spec import Dense

SMALLEST_DEVIATION = 1e-6
FAR = 1e4
"""Bins beyond an edge: no number goes on further, and half precision still holds it."""


class PlainNumbers(nn.Module):
    """Numbers as the data has them. width: of the answer."""

    def __init__(self, columns: Sequence[Dense]) -> None:
        super().__init__()
        self.width = len(columns)

    def forward(self, dense: Tensor) -> Tensor:
        """(batch, column) -> (batch, width)."""
        return dense


class ScaledNumbers(PlainNumbers):
    """Numbers of mean 0 and deviation 1 on the training rows; a constant column is 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, columns: Sequence[Dense]) -> None:
        super().__init__(columns)
        self.register_buffer("mean", torch.tensor([column.mean for column in columns]))
        spread = torch.tensor([column.deviation for column in columns])
        self.register_buffer("deviation", torch.where(spread > SMALLEST_DEVIATION, spread, 1.0))

    def forward(self, dense: Tensor) -> Tensor:
        return (dense - self.mean) / self.deviation


class PiecewiseLinearNumbers(PlainNumbers):
    """How far each number has come through each of its column's bins: 1 for passed ones, 0 for later ones, a share
    for its own; the first and the last bin go on beyond their edge, so that no order is lost.

    A column with less than two edges is scaled instead.
    Source: Gorishniy et al. 2022, "On embeddings for numerical features", arXiv:2203.05556, 3.2.
    """

    start: Tensor
    length: Tensor
    low: Tensor
    high: Tensor
    column: Tensor

    def __init__(self, columns: Sequence[Dense]) -> None:
        super().__init__(columns)
        starts: list[float] = []
        lengths: list[float] = []
        lows: list[float] = []
        highs: list[float] = []
        places: list[int] = []
        for place, column in enumerate(columns):
            edges = column.edges
            if len(edges) < 2:
                deviation = column.deviation if column.deviation > SMALLEST_DEVIATION else 1.0
                edges = (column.mean, column.mean + deviation)
            bins = len(edges) - 1
            starts += edges[:-1]
            lengths += [high - low for low, high in pairwise(edges)]
            lows += [-FAR] + [0.0] * (bins - 1)
            highs += [1.0] * (bins - 1) + [FAR]
            places += [place] * bins
        for name, values in (("start", starts), ("length", lengths), ("low", lows), ("high", highs)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        self.register_buffer("column", torch.tensor(places))
        self.width = len(places)

    def forward(self, dense: Tensor) -> Tensor:
        share = (dense.index_select(1, self.column) - self.start) / self.length
        return torch.maximum(torch.minimum(share, self.high), self.low)


NUMBERS = {"plain": PlainNumbers, "scaled": ScaledNumbers, "piecewise-linear": PiecewiseLinearNumbers}
