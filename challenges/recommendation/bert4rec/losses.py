"""Cross-entropy over large catalogues without keeping a (prediction, item) table in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_BYTES = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}  # of float32 probabilities at a time: what a CPU's cache holds
SMALLEST = 1e-38  # a probability whose logarithm is finite in float32


def catalogue_cross_entropy(states: Tensor, weights: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of `states @ weights.T + bias`, whose table of probabilities never exists as a whole.

    The gradients are made along with the loss, chunk by chunk, while the chunk lies in the cache. Products are in
    autocast's type, probabilities in float32.

    states:  (prediction, width)
    weights: (item, width)
    bias:    (item,)
    labels:  (prediction,) int64; negative ones do not count.
    """
    loss: Tensor = _CatalogueCrossEntropy.apply(states, weights, bias, labels)  # type: ignore[no-untyped-call]  # torch's
    return loss


def sampled_cross_entropy(states: Tensor, weights: Tensor, bias: Tensor, labels: Tensor, candidates: Tensor) -> Tensor:
    """Mean cross-entropy against an estimate of the whole catalogue's sum from items drawn evenly.

    The label's own term is exact; the others' is the mean over the drawn items that are not the label, times their
    number. With every item drawn once this is the exact cross-entropy.

    states:     (prediction, width); weights (item, width); bias (item,)
    labels:     (prediction,) int64; negative ones do not count.
    candidates: (candidate,) int64
    Source:     importance sampling of the softmax, Bengio and Senecal 2008, with an even proposal.
    """
    counted = labels >= 0
    label = labels.clamp(min=0)
    own = (states * weights[label]).sum(1) + bias[label]
    others = functional.linear(states, weights[candidates], bias[candidates]).float()
    is_label = candidates == label[:, None]
    others = others.masked_fill(is_label, -torch.inf)
    rivals = (~is_label).sum(1, keepdim=True).clamp(min=1)
    scale = ((len(weights) - 1) / rivals).log()
    losses = torch.cat([own.float()[:, None], others + scale], 1).logsumexp(1) - own.float()
    return (losses * counted).sum() / counted.sum().clamp(min=1)


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weights: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weights.dtype
        with torch.autocast(device, enabled=False):
            loss, *gradients = _loss_and_gradients(states, weights, bias, labels, dtype)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        return (*(gradient * factor.to(gradient.dtype) for gradient in ctx.saved_tensors), None)


def _loss_and_gradients(
    states: Tensor, weights: Tensor, bias: Tensor, labels: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    counted = (labels >= 0).to(dtype)
    share = 1 / counted.sum(dtype=torch.float32).clamp(min=1)
    factors, offsets, inputs = weights.to(dtype), bias.to(dtype), states.to(dtype)
    losses = torch.empty(len(states), device=states.device)
    by_state, by_weight, by_bias = torch.empty_like(states), torch.zeros_like(weights), torch.zeros_like(bias)
    rows = max(1, CHUNK_BYTES[states.device.type] // (4 * len(weights)))
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        own = labels[part].clamp(min=0)[:, None]
        error = functional.linear(inputs[part], factors, offsets).softmax(1, dtype=torch.float32)
        losses[part] = error.gather(1, own)[:, 0].clamp(min=SMALLEST).log()
        error = error.scatter_add_(1, own, -torch.ones_like(own, dtype=torch.float32)).to(dtype)
        by_state[part] = (error @ factors) * counted[part, None]
        by_weight += error.t() @ (inputs[part] * counted[part, None])
        by_bias += counted[part] @ error
    return -(losses @ counted.float()) * share, by_state * share, by_weight * share, by_bias * share
