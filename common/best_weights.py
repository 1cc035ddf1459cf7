"""The weights that did best on a held-out part of the training data, and when to give up looking for better ones."""

import math
from typing import Any

import torch

from common.checkpoint import CheckpointStore
from common.task import Task


class BestWeights:
    """Keeps the best of the weights that it is shown; what is reported is never looked at for it.

    patience: evaluations without improvement after which the search is over.
    """

    def __init__(self, store: CheckpointStore, patience: int) -> None:
        self._store, self._patience = store, patience
        self.value, self.step, self._since = -math.inf, 0, 0

    @property
    def is_over(self) -> bool:
        return self._since >= self._patience

    def look(self, task: Task, step: int, value: float, *, writes: bool) -> None:
        """Take in an evaluation. writes: this process keeps the file; the others only count."""
        if value > self.value:
            self.value, self.step, self._since = value, step, 0
            if writes:
                self._store.save_chosen({"step": step, "task": task.state_dict()})
        else:
            self._since += 1

    def restore(self, task: Task, device: torch.device) -> None:
        """Load the best weights into `task`. Raises CheckpointError where their file was taken away."""
        task.load_state_dict(self._store.chosen(device)["task"])

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "step": self.step, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.step, self._since = state["value"], state["step"], state["since"]
