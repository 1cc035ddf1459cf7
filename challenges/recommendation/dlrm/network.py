"""DLRM: numbers through a perceptron to one more vector, products of all pairs of vectors, a perceptron over all.

Naumov et al. 2019, arXiv:1906.00091; sizes of NVIDIA DeepLearningExamples and facebookresearch/dlrm. With `crosses` the
products give way to the low-rank crosses of MLPerf's DLRM-DCNv2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from challenges.recommendation.clicks.layers import (
    LowRankCrosses,
    PairProducts,
    Perceptron,
    padded,
    padded_width,
    started,
)
from common.training.linear import Linear


class Dlrm(nn.Module):
    """From encoded numbers and rows of the tables to a logit.

    numbers: width of the encoded numbers, 0 where there are none; then the network has no bottom.
    columns: with ids.
    width:   of a row of the tables.
    bottom:  widths of the hidden layers before the one that gives the numbers' vector.
    top:     widths of the hidden layers before the one logit.
    crosses: layers and rank of the crosses; None: products of all pairs.
    dropout: after every layer of the top.
    """

    def __init__(
        self,
        *,
        numbers: int,
        columns: int,
        width: int,
        bottom: Sequence[int] = (512, 256),
        top: Sequence[int] = (1024, 1024, 512, 256),
        crosses: tuple[int, int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bottom = Perceptron(numbers, *bottom, width) if numbers else None
        vectors = columns + (1 if numbers else 0)
        own = width if numbers else 0
        self.pairs = PairProducts(vectors) if crosses is None else None
        self.crosses = None if crosses is None else LowRankCrosses(vectors * width, *crosses)
        known = vectors * width if self.pairs is None else padded_width(own + self.pairs.pairs)
        self.top = Perceptron(known, *top, dropout=dropout)
        self.logit = started(Linear(top[-1] if top else known, 1))

    def forward(self, numbers: Tensor, rows: Tensor) -> Tensor:
        """numbers (batch, n) float32, rows (batch, column, width) float32 -> logits (batch,)."""
        vectors, own = rows, []
        if self.bottom is not None:
            own = [self.bottom(numbers)]
            vectors = torch.cat([own[0][:, None], rows.to(own[0].dtype)], 1)
        if self.crosses is not None:
            known = self.crosses(vectors.flatten(1))
        else:
            assert self.pairs is not None
            known = padded([*own, self.pairs(vectors)])
        logit: Tensor = self.logit(self.top(known))
        return logit.squeeze(1)
