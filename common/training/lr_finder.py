"""The learning-rate finder: one short sweep over rising rates, stopped when the loss runs away."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import TrainingError
from common.machine.precision import Precision
from common.run.recipe import Recipe
from common.training.schedules import exponential_range
from common.training.step import build_step
from common.training.task import Batch, DataModule, StepSettings, Task

RANGE = 1e-5, 10.0  # first and last rate
SMOOTHING = 0.9  # of the running mean over losses
RUNAWAY = 4.0  # a loss this many times the lowest ends the sweep


@dataclass(frozen=True)
class Sweep:
    """Rates tried and the smoothed loss at each; `suggestion` is where the loss falls steepest."""

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def suggestion(self) -> float:
        if len(self.losses) < 3:
            raise TrainingError(
                f"The loss ran away within three steps, at learning rates of {self.rates[0]:.0e} and little more.",
                remedy="Check the data and the starting weights.",
            )
        until = int(self.losses.argmin()) + 1
        slopes = np.gradient(self.losses[: max(until, 2)], np.log(self.rates[: max(until, 2)]))
        return float(self.rates[int(slopes.argmin())])


def find_lr(
    task: Task,
    data: DataModule,
    recipe: Recipe,
    device: torch.device,
    precision: Precision,
    steps: int,
) -> Iterator[tuple[int, Sweep]]:
    """Train for `steps` steps on rising rates, yielding the sweep so far after each; the task is used up by it.

    Source: Smith 2015, arXiv:1506.01186, section 3.3.
    """
    task = task.place(device, channels_last=recipe.training.channels_last).train()
    schedule = exponential_range(*RANGE, steps)
    optimizers = [replace(scheduled, schedule=schedule) for scheduled in task.optimizers(steps, steps)]
    step = build_step(task, optimizers, StepSettings(precision, device, clip_norm=recipe.optimizer.clip_norm))
    accumulation = recipe.training.accumulation(1)
    batches: Iterator[Batch] = data.train_batches(0, recipe.training.batch_size, accumulation)
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for index in range(steps):
        loss = float(step([next(batches) for _ in range(accumulation)], index)["loss"])
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth = mean / (1 - SMOOTHING ** (index + 1))
        if not np.isfinite(smooth) or (losses and smooth > RUNAWAY * min(losses)):
            return
        rates.append(schedule(index))
        losses.append(smooth)
        yield index + 1, Sweep(np.array(rates), np.array(losses))
