"""Learning rates as pure functions of the step: nothing to save, nothing to get out of step after a resume."""

import math
from collections.abc import Callable

from common.run.recipe import OptimizerConfig

Schedule = Callable[[int], float]
"""step (0-based) -> learning rate"""

ONE_CYCLE_START, ONE_CYCLE_RISE = 1 / 25, 0.3  # fraction of the peak to start from, fraction of the run spent rising


def build_schedule(config: OptimizerConfig, total_steps: int, steps_per_epoch: float) -> Schedule:
    """The schedule of a run of `total_steps` steps; epochs become steps here and nowhere else."""
    peak = config.peak_lr
    warmup = round(config.warmup_epochs * steps_per_epoch)
    milestones = [round(epoch * steps_per_epoch) for epoch in config.milestones]

    def warm(step: int) -> float:
        return peak * (step + 1) / warmup if step < warmup else peak

    def cosine(step: int) -> float:
        if step < warmup:
            return warm(step)
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * peak * (1 + math.cos(math.pi * min(1.0, progress)))

    def multistep(step: int) -> float:
        return warm(step) * 0.1 ** sum(step >= milestone for milestone in milestones)

    def one_cycle(step: int) -> float:
        rise = max(1, round(ONE_CYCLE_RISE * total_steps))
        if step < rise:
            low = peak * ONE_CYCLE_START
            return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * step / rise))
        progress = (step - rise) / max(1, total_steps - rise)
        return 0.5 * peak * (1 + math.cos(math.pi * min(1.0, progress)))

    def polynomial(step: int) -> float:
        first, last = milestones
        left = (last - step) / max(1, last - first)
        return warm(step) * min(1.0, max(0.0, left)) ** 2

    return {
        "cosine": cosine, "one-cycle": one_cycle, "multistep": multistep, "polynomial": polynomial, "constant": warm,
    }[config.schedule]  # fmt: skip


def exponential_range(low: float, high: float, steps: int) -> Schedule:
    """From `low` to `high` in equal ratios: the learning-rate finder's sweep (Smith 2015, arXiv:1506.01186)."""
    return lambda step: low * (high / low) ** (step / max(1, steps - 1))
