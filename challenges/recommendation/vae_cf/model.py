"""Mult-VAE and Mult-DAE: autoencoders of whole histories with a multinomial likelihood.

Paper: Liang et al. 2018 (arXiv:1802.05814); initial values as in its authors' notebook.
Deviations: the first layer adds up embeddings where that is quicker, which is the same product; DAE's weights are
decayed by the optimizer instead of an L2 term in the loss. Parameters with 600 and 200 units: 25.2 M on MovieLens 20M's
20,720 items, 24.5 M on the 20,112 (those of training users, rounded up) that NVIDIA's implementation counts.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.training.linear import Linear


class HistoryEncoder(nn.Module):
    """The first layer: a weighted sum of the vectors of a history's items, plus a bias.

    Equals a linear layer on the row of length one that has the same positive number at every item of the history,
    with dropout on that row.
    """

    def __init__(self, num_items: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(num_items, width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, row: Tensor, item: Tensor, num_rows: int) -> Tensor:
        """Histories as entries.

        row, item: (entry,) int64, rows ascending from 0 to num_rows - 1, items different within a row.
        returns:   (row, width)
        """
        lengths = torch.zeros(num_rows, device=row.device).index_add_(0, row, torch.ones_like(row, dtype=torch.float32))
        values = functional.dropout(lengths.rsqrt()[row], self.dropout, self.training)
        if row.device.type == "cuda":  # tensor cores are quicker on the dense row than gradients of a gather
            dense = values.new_zeros(num_rows, len(self.weight)).index_put_((row, item), values)
            return dense @ self.weight + self.bias
        if self.training:  # what was dropped costs nothing
            kept = values.nonzero().squeeze(1)
            item, values = item[kept], values[kept]
            lengths = row[kept].bincount(minlength=num_rows)
        first = (lengths.cumsum(0) - lengths).long()
        total = functional.embedding_bag(item, self.weight, first, mode="sum", per_sample_weights=values)
        return total + self.bias

    def of_marks(self, marks: Tensor) -> Tensor:
        """Histories as (row, item) float, 1 at their items and 0 elsewhere -> (row, width); never with dropout."""
        return marks / marks.sum(1, keepdim=True).clamp(min=1).sqrt() @ self.weight + self.bias


class Autoencoder(nn.Module):
    """History in, unnormalised log-probabilities of all items out, tanh between.

    hidden: widths between the items and the code, in the encoder's order; the decoder mirrors them.
    latent: width of the code: a normal distribution's mean and log-variance ("vae"), or the values of a layer ("dae").
    noise:  factor on the distribution's deviation when a code is drawn; 1 in the paper.
    """

    def __init__(
        self,
        *,
        num_items: int,
        kind: Literal["vae", "dae"] = "vae",
        hidden: tuple[int, ...] = (600,),
        latent: int = 200,
        dropout: float = 0.5,
        noise: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_items, self.kind, self.latent, self.noise = num_items, kind, latent, noise
        code = 2 * latent if kind == "vae" else latent
        first, *others = (*hidden, code)
        self.input = HistoryEncoder(num_items, first, dropout)
        self.encoder = nn.ModuleList(Linear(a, b) for a, b in pairwise((first, *others)))
        self.decoder = nn.ModuleList(Linear(a, b) for a, b in pairwise((latent, *reversed(hidden), num_items)))
        for layer in (self.input, *self.encoder, *self.decoder):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.trunc_normal_(layer.bias, std=0.001, a=-0.002, b=0.002)

    def forward(self, row: Tensor, item: Tensor, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Histories as entries (see HistoryEncoder) -> logits (row, item), mean and log-variance (row, latent).

        In training the code is drawn from its distribution, otherwise it is the mean. A DAE's log-variance is 0.
        """
        mean, log_variance = self.code(self.input(row, item, num_rows))
        code = mean
        if self.kind == "vae" and self.training:
            code = mean + self.noise * torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decode(code), mean, log_variance

    def code(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's sums (row, first width) -> mean and log-variance, both (row, latent) float32."""
        for layer in self.encoder:
            values = layer(values.tanh())
        values = values.float()
        if self.kind == "dae":
            return values.tanh(), torch.zeros_like(values)
        mean, log_variance = values.chunk(2, dim=1)
        return mean, log_variance

    def decode(self, code: Tensor) -> Tensor:
        """(row, latent) -> logits (row, item)."""
        *inner, last = self.decoder
        for layer in inner:
            code = layer(code).tanh()
        logits: Tensor = last(code)
        return logits
