"""When a training evaluates: the recipe's epochs as steps."""

from dataclasses import dataclass

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
