"""What the items of a history add to the scores of others, after all of a model's training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from challenges.recommendation.histories.device_histories import Ragged, multi_hot
from challenges.recommendation.histories.histories import Histories
from challenges.recommendation.histories.item_pairs import Pairs, strongest_pairs
from challenges.recommendation.histories.top_items import faded


class Neighbours(nn.Module):
    """Item-to-item weights: all of a small catalogue, of a large one those of a few others for each item.

    weights: (item, item) float32: what an item of a history, the row, adds to another one's score; or (item, strongest)
    others:  (item, strongest) int64, to whose scores these are added; None where they are all items'
    keep:    how much an item counts of what the next newer one of a history does
    """

    weights: Tensor
    others: Tensor | None
    fading: Tensor

    def __init__(self, weights: Tensor, others: Tensor | None = None, keep: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("others", others)
        self.register_buffer("fading", torch.tensor(keep, device=weights.device))
        self.keep = keep

    @classmethod
    def of_pairs(cls, histories: Histories, num_items: int, pairs: Pairs, device: torch.device) -> "Neighbours":
        """The strongest pairs of histories, the newest item counting as every other."""
        others, weights = strongest_pairs(histories, num_items, pairs, device)
        return cls(weights, others)

    @classmethod
    def kept(cls, tensors: Mapping[str, Tensor], prefix: str) -> "Neighbours | None":
        """Those of a task's state, under the names that begin so; None where there are none."""
        if prefix + "weights" not in tensors:
            return None
        keep = float(tensors[prefix + "fading"])
        return cls(tensors[prefix + "weights"], tensors.get(prefix + "others"), keep)

    @property
    def num_items(self) -> int:
        return len(self.weights)

    def forward(self, history: Tensor) -> Tensor:
        """(batch, item) float32.

        history: (batch, any width) int64, oldest first; what is no item fills up, and a repeated one counts once.
        """
        marks = faded(history, self.num_items, self.keep)
        if self.others is None:
            return marks @ self.weights
        is_known = (history >= 0) & (history < self.num_items)
        items, nothing = torch.where(is_known, history, 0), torch.zeros_like(marks)
        times = nothing.scatter_add(1, items, is_known.float()).gather(1, items).clamp(min=1)
        counted = torch.where(is_known, marks.gather(1, items) / times, 0)
        added = self.weights[items] * counted[..., None]
        return nothing.scatter_add(1, self.others[items].flatten(1), added.flatten(1))

    def of_users(self, seen: Ragged, users: Tensor) -> Tensor:
        """The same for whole histories: (batch, item) float32. users: (batch,) int64, within `seen`."""
        marks = multi_hot(seen, users, self.num_items, self.keep)
        if self.others is None:
            return marks @ self.weights
        row, item = marks.nonzero(as_tuple=True)
        added = self.weights[item] * marks[row, item][:, None]
        cells = row[:, None] * self.num_items + self.others[item]
        scores = torch.zeros_like(marks)
        scores.view(-1).index_add_(0, cells.flatten(), added.flatten())
        return scores

    def even(self, seen: Ragged, users: Tensor) -> "Neighbours":
        """Scaled so that the scores of a user's items have a standard deviation of 1, as a mean over these users."""
        return self.times(1 / self.of_users(seen, users).std(1).mean().clamp(min=1e-12))

    def times(self, factor: float | Tensor) -> "Neighbours":
        return Neighbours(self.weights * factor, self.others, self.keep)

    def fading_by(self, keep: float) -> "Neighbours":
        return Neighbours(self.weights, self.others, keep)

    def plus(self, more: "Neighbours") -> "Neighbours":
        """What both add, fading as the first one does."""
        if self.others is None or more.others is None:
            return Neighbours(self.whole() + more.whole(), keep=self.keep)
        whom = torch.cat([self.others, more.others], 1)
        return Neighbours(torch.cat([self.weights, more.weights], 1), whom, self.keep)

    def whole(self) -> Tensor:
        """(item, item) float32."""
        if self.others is None:
            return self.weights
        nothing = torch.zeros(self.num_items, self.num_items, device=self.weights.device)
        return nothing.scatter_add(1, self.others, self.weights)
