"""A recipe's training step as the trainer runs it, made ready to be timed."""

import torch

from common.machine.precision import Precision
from common.run.recipe import Recipe
from common.training.step import build_step
from common.training.task import Step, StepSettings, Task

SCHEDULED_STEPS = 1_000_000  # the learning rate hardly moves during a benchmark


def ready_step(
    task: Task, recipe: Recipe, precision: Precision, device: torch.device, world_size: int = 1, *, plain: bool = False
) -> Step:
    """The task's step on that device, without an average of the weights; plain: neither compiled nor captured."""
    training = recipe.training
    task.place(device, channels_last=training.channels_last).train()
    optimizers = task.optimizers(SCHEDULED_STEPS, SCHEDULED_STEPS / 100)
    task.set_trainable(0)
    if training.compile and not plain:
        task.compile()
    graphs = training.cuda_graphs and not plain
    settings = StepSettings(precision, device, world_size, recipe.optimizer.clip_norm, None, graphs)
    return build_step(task, optimizers, settings)
