"""Which items of a sequence are hidden for BERT4Rec to guess."""

import torch
from torch import Tensor


def num_predictions(length: int, share: float) -> int:
    """Most items hidden in one sequence."""
    return max(1, round(length * share))


def hide_items(
    items: Tensor, numbers: Tensor, *, share: float, last_item_share: float, mask_item: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Hide `share` of each sequence's items (at least one), or, in some sequences, its last item alone.

    Every hidden item becomes `mask_item`, never another item. All results have fixed shapes.

    items:   (batch, length) int64, right-aligned, negative where empty.
    numbers: (batch, length + 1) in [0, 1): one per position; the last decides whether only the last item is hidden.
    returns: items with some hidden (batch, length); positions and labels (batch, prediction), label -1 where unused.
    """
    filled = items >= 0
    last_only = numbers[:, -1] < last_item_share
    order = numbers[:, :-1].masked_fill(~filled, 2.0)
    order[:, -1].masked_fill_(last_only, -1.0)
    count = (filled.sum(1) * share).round().clamp(min=1).masked_fill(last_only, 1)
    positions = order.topk(num_predictions(items.shape[1], share), dim=1, largest=False).indices
    used = torch.arange(positions.shape[1], device=items.device) < count[:, None]
    used &= filled.gather(1, positions)
    labels = torch.where(used, items.gather(1, positions), -1)
    hidden = torch.zeros_like(filled).scatter(1, positions, used)
    return items.masked_fill(hidden, mask_item), positions, labels
