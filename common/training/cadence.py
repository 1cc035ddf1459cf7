"""When a training evaluates and saves: the recipe's epochs as steps."""

import time
from dataclasses import dataclass

import torch

from common.machine.distributed import World, any_rank
from common.run.recipe import TrainingConfig


@dataclass(frozen=True)
class Cadence:
    """The recipe's epochs as steps: the only clock of a run."""

    total: int
    per_epoch: float
    evaluate_every: int

    @classmethod
    def of(cls, training: TrainingConfig, num_train: int) -> "Cadence":
        per_epoch = num_train / training.batch_size
        total = max(1, round(training.epochs * per_epoch))
        return cls(total, per_epoch, max(1, min(total, round(training.evaluate_every * per_epoch))))

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows once `step` steps are done; leftovers shorter than half a period are merged."""
        if step == self.total:
            return True
        return step % self.evaluate_every == 0 and self.total - step >= self.evaluate_every / 2


class SavingClock:
    """When a checkpoint is due: at the recipe's steps, unless the main rank's last one is too young."""

    def __init__(self, training: TrainingConfig, world: World, device: torch.device) -> None:
        self._steps, self._seconds, self._world, self._device = (
            training.checkpoint_every, training.checkpoint_seconds, world, device
        )  # fmt: skip
        self.restart()

    def restart(self) -> None:
        self._last = time.monotonic()

    def is_due(self, step: int) -> bool:
        """The same on every rank; to be called by all."""
        if step % self._steps:
            return False
        is_old = time.monotonic() - self._last >= self._seconds
        return any_rank(self._world.is_main and is_old, self._device)
