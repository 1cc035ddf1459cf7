"""Histories on a device, cut and gathered there for whole batches of users."""

import torch
from torch import Tensor

from challenges.recommendation.histories.histories import Histories


class Ragged:
    """Items of many users as tensors: offsets (user + 1,) and items (interaction,), both int64."""

    def __init__(self, histories: Histories, device: torch.device) -> None:
        self.offsets = torch.as_tensor(histories.offsets).to(device)
        self.items = torch.as_tensor(histories.items).to(device)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def entries(self, users: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
        """Every item of the given users.

        users:   (batch,) int64
        total:   how many items these are; where it is not known, a GPU is waited for.
        returns: row (entry,) int64, the position within `users`, and item (entry,) int64
        """
        start, lengths = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        row = torch.repeat_interleave(lengths, output_size=total)
        first = start - (lengths.cumsum(0) - lengths)
        return row, self.items[first[row] + torch.arange(len(row), device=row.device)]

    def singles(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The same for users who have one item each."""
        return torch.arange(len(users), device=users.device), self.items[self.offsets[users]]

    def windows(self, start: Tensor, end: Tensor, width: int) -> Tensor:
        """Stretches of `items`, each right-aligned: the newest item in the last column, -1 before the first.

        start, end: (batch,) int64, positions within `items`; of longer stretches the newest `width` items.
        returns:    (batch, width) int64
        """
        position = end[:, None] - width + torch.arange(width, device=end.device)
        filled = position >= start[:, None]
        return torch.where(filled, self.items[position.clamp_(min=0)], -1) if len(self.items) else filled.long() - 1

    def newest(self, users: Tensor, width: int) -> Tensor:
        """(batch, width) int64: the newest `width` items of every user, right-aligned, -1 before the first."""
        return self.windows(self.offsets[users], self.offsets[users + 1], width)


def multi_hot(histories: Ragged, users: Tensor, num_items: int, keep: float = 1.0) -> Tensor:
    """(batch, item) float32: 1 where a user has an item, `keep` times less for each newer item of the user."""
    row, item = histories.entries(users)
    rows = torch.zeros(len(users), num_items, device=users.device)
    if keep == 1:
        rows[row, item] = 1
    else:
        newer = torch.bincount(row, minlength=len(users)).cumsum(0)[row] - 1 - torch.arange(len(row), device=row.device)
        rows[row, item] = keep ** newer.float()
    return rows
