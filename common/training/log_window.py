"""Losses and times between two lines of the training log."""

from typing import Any

import torch
from torch import Tensor

from common.machine.distributed import mean_over_ranks


class LogWindow:
    """Losses and times since the last log point; the device is read when the window closes or is kept."""

    def __init__(self) -> None:
        self.streak = 0
        self.bad_names: list[str] = []
        self.restart()

    def restart(self) -> None:
        self._losses: list[dict[str, Tensor]] = []
        self.steps, self.bad_steps, self.seconds, self.waited = 0, 0, 0.0, 0.0

    def add(self, losses: dict[str, Tensor]) -> None:
        self._losses.append({name: value.detach().clone() for name, value in losses.items()})

    def time(self, seconds: float, waited: float) -> None:
        self.seconds += seconds
        self.waited += waited

    def close(self) -> dict[str, float]:
        """Means of the finite values by name (the last value where none is); counts the non-finite steps."""
        names = list(self._losses[0])
        table = self._table(names)
        finite = table.isfinite().all(1)
        self.steps, self.bad_steps = len(table), int((~finite).sum())
        for is_finite in finite.tolist():
            self.streak = 0 if is_finite else self.streak + 1
        means = table[finite].mean(0) if finite.any() else table[-1]
        self.bad_names = [name for name, ok in zip(names, table.isfinite().all(0).tolist(), strict=True) if not ok]
        return dict(zip(names, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The window as a checkpoint keeps it, so that a resumed run's log is an undisturbed one's.

        To be called by every rank: the losses kept are means over the ranks.
        """
        names = list(self._losses[0]) if self._losses else []
        return {
            "names": names,
            "losses": self._table(names) if names else torch.empty(0, 0),  # (step, name)
            "streak": self.streak,
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._losses = [dict(zip(state["names"], row, strict=True)) for row in state["losses"]]
        self.streak, self.seconds, self.waited = state["streak"], state["seconds"], state["waited"]

    def _table(self, names: list[str]) -> Tensor:
        """(step, name) on the CPU, means over the ranks."""
        rows = torch.stack([torch.stack([row[name].float() for name in names]) for row in self._losses])
        return mean_over_ranks(rows).cpu()
