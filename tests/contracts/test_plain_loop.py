"""What the trainer does, without the trainer: the same losses from a bare loop."""

import torch

from common.run.run_directory import RunDirectory
from common.training.observers import JsonLines
from common.training.task import ScheduledOptimizer
from tests.toy import ToyData, ToyTask, toy_recipe, toy_trainer


def bare_losses(steps: int) -> list[float]:
    recipe = toy_recipe()
    torch.manual_seed(recipe.training.seed)
    task, data = ToyTask(recipe), ToyData()
    per_epoch = data.num_train / recipe.training.batch_size
    (scheduled,) = task.optimizers(round(recipe.training.epochs * per_epoch), per_epoch)
    assert isinstance(scheduled, ScheduledOptimizer)
    batches = data.train_batches(0, recipe.training.batch_size, 1)
    losses = []
    for step in range(steps):
        for group in scheduled.optimizer.param_groups:
            group["lr"] = scheduled.schedule(step)
        loss = task.loss(next(batches))["loss"]
        scheduled.optimizer.zero_grad()
        loss.backward()
        scheduled.optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_trainer_gives_the_losses_of_a_bare_loop(tmp_path):
    trainer = toy_trainer(tmp_path, toy_recipe(log_every=1), observers=(JsonLines(),))
    trainer.fit()
    logged = [entry["loss"] for entry in RunDirectory(tmp_path).metrics() if entry["kind"] == "train"]
    assert logged == bare_losses(trainer.cadence.total)
