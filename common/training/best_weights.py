"""The weights that a held-out part of the training data chooses, and when to give up looking for better ones.

Of weights that a held-out part does not tell apart, those near the end of the schedule are the better guess: what is
within a standard error of the best counts as good as the best (Breiman et al. 1984, the one-standard-error rule).
"""

import math
from typing import Any

import torch

from common.training.checkpoint import Checkpoints
from common.training.task import HeldOut, Task


class BestWeights:
    """Keeps the latest weights that do as well as the best; what is reported is never looked at for it.

    patience: evaluations in a row that are worse than the best by more than its standard error: then it is over.
    """

    def __init__(self, store: Checkpoints, patience: int) -> None:
        self._store, self._patience = store, patience
        self._best = HeldOut(-math.inf, 0.0)
        self.value, self.step, self._since = -math.inf, 0, 0

    @property
    def is_over(self) -> bool:
        return self._since >= self._patience

    def look(self, task: Task, step: int, found: HeldOut) -> None:
        """Take in an evaluation."""
        if found.value > self._best.value:
            self._best = found
        if found.value >= self._best.value - self._best.error:
            self.value, self.step, self._since = found.value, step, 0
            self._store.save_chosen({"step": step, "task": task.state_dict()})
        else:
            self._since += 1

    def restore(self, task: Task, device: torch.device) -> None:
        """Load the best weights into `task`. Raises CheckpointError where their file was taken away."""
        task.load_state_dict(self._store.chosen(device)["task"])

    def state_dict(self) -> dict[str, Any]:
        return {"best": tuple(self._best), "value": self.value, "step": self.step, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = HeldOut(*state["best"])
        self.value, self.step, self._since = state["value"], state["step"], state["since"]
