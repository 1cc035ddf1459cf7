"""Every model learns: one batch, seen again and again, costs less and less."""

import torch

from common.machine.precision import Precision
from common.training.step import build_step
from common.training.task import StepSettings
from tests.contracts.line import BATCH, CPU

STEPS = 6  # as long as a whole training by the recipe's schedule


def test_the_loss_falls_on_one_repeated_batch(line):
    torch.manual_seed(0)
    data = line.data()
    task = line.challenge.build_task(line.recipe, data).train()
    batch = next(data.train_batches(0, BATCH, 1))
    settings = StepSettings(Precision("fp32", None), CPU, clip_norm=line.recipe.optimizer.clip_norm)
    optimizers = task.optimizers(STEPS, STEPS / line.challenge.recipes["demo"].training.epochs)
    task.set_trainable(0)
    step = build_step(task, optimizers, settings)
    losses = [step([batch], number)["loss"].item() for number in range(STEPS)]
    assert sum(losses[-3:]) < sum(losses[:3]), losses
