"""The answer every exported recommender gives: the best items that the user has not seen."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from common.export.signature import GPU_BATCH, Signature, SizeRange, TensorSpec

SEEN = -1e4
"""The score of a seen item: below any other, and still a float16 number."""

LOWEST = SEEN / 2
"""What scores no more is no recommendation, in any precision."""

LONGEST = 10_000
"""Names in one history that a server is asked with."""


def marked(history: Tensor, num_items: int) -> Tensor:
    """(batch, item) float32: 1 at every item of `history`, 0 elsewhere.

    history: (batch, any width) int64; negative and too large numbers fill up and do not count, nor do repetitions.
    """
    known = torch.where((history >= 0) & (history < num_items), history, num_items)
    marks = torch.zeros(history.shape[0], num_items + 1, device=history.device)
    return marks.scatter(1, known, 1.0)[:, :num_items]


def faded(history: Tensor, num_items: int, keep: float) -> Tensor:
    """The same with 1 for the newest item alone, `keep` times less for each newer one; of a repeated one, any place."""
    if keep == 1:
        return marked(history, num_items)
    is_known = (history >= 0) & (history < num_items)
    newer = is_known.sum(1, keepdim=True) - is_known.to(torch.int64).cumsum(1)
    weights = (newer.float() * math.log(keep)).exp()
    marks = torch.zeros(history.shape[0], num_items + 1, device=history.device)
    return marks.scatter(1, torch.where(is_known, history, num_items), weights)[:, :num_items]


def best_unseen(
    scores: Tensor, seen: Tensor, count: int, neighbours: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Items (batch, count) int64 and their scores (batch, count) float32, best first.

    scores:     (batch, item)
    seen:       (batch, any width) int64, oldest first, padded with -1: items whose score becomes SEEN.
    neighbours: of seen items, what these add to the scores, (batch, item).
    """
    marks, scores = marked(seen, scores.shape[1]), scores.float()
    if neighbours is not None:
        scores = scores + neighbours(seen)
    best, items = torch.where(marks > 0, SEEN, scores).topk(count, dim=1)
    return items, best


def list_sizes(longest: int) -> SizeRange:
    """Of lists of positions up to `longest`, which a server fills up to a power of two."""
    largest = 1 << (longest - 1).bit_length()
    return SizeRange(1, min(64, largest), largest)


def history_signature(count: int) -> Signature:
    """Of a module that takes histories, padded with -1, and answers as `best_unseen` does."""
    return Signature(
        inputs=(TensorSpec("history", "int64", ("history",)),),
        outputs=(TensorSpec("items", "int64", (count,)), TensorSpec("scores", "float32", (count,))),
        free={"history": list_sizes(LONGEST)},
        plan_batch=GPU_BATCH,
    )
