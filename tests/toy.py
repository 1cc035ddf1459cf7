"""A task and data small enough to train in milliseconds, for tests of everything that is not a model."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from common.export.signature import Signature, TensorSpec
from common.machine.distributed import ALONE, World
from common.machine.precision import Precision
from common.run.recipe import OptimizerConfig, Recipe, TrainingConfig
from common.run.run_directory import RunDirectory
from common.training.metrics import Accuracy, Mean, reduce_metrics
from common.training.observers import Observer
from common.training.optimizers import scheduled_optimizer
from common.training.randomness import shuffled_shares
from common.training.schedules import build_schedule
from common.training.task import Batch, DataModule, Evaluation, ScheduledOptimizer, Task
from common.training.trainer import Trainer

FP32 = Precision("fp32", None)
CPU = torch.device("cpu")


class ToyTask(Task):
    """Two linear layers with a normalisation between, on eight numbers and three classes."""

    def __init__(self, recipe: Recipe, normalised: bool = True) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16) if normalised else nn.Identity(), nn.ReLU(), nn.Linear(16, 3)
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.model(batch["features"]), batch["label"])}

    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]:
        config = self.recipe.optimizer
        return [scheduled_optimizer(self.model, config, build_schedule(config, total_steps, steps_per_epoch))]

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        accuracy, loss = Accuracy((1,)), Mean()
        for batch in batches:
            logits = self.model(batch["features"])
            accuracy.update(logits, batch["label"])
            loss.update(nn.functional.cross_entropy(logits, batch["label"]), len(batch["label"]))
        reduce_metrics(accuracy, loss)
        return Evaluation({**accuracy.compute(), "loss": loss.compute()})

    def inference_module(self) -> nn.Module:
        return self.model

    def signature(self) -> Signature:
        return Signature((TensorSpec("input", "float32", (8,)),), (TensorSpec("logits", "float32", (3,)),))


class ToyData(DataModule):
    """Points around three centres; `seen` records every training sample handed out."""

    sample_unit = "point"

    def __init__(self, world: World = ALONE, num_train: int = 50, num_validation: int = 23) -> None:
        generator = torch.Generator().manual_seed(7)
        centres = torch.randn(3, 8, generator=generator)
        self._label = torch.randint(0, 3, (num_train + num_validation,), generator=generator)
        self._features = centres[self._label] + 0.5 * torch.randn(len(self._label), 8, generator=generator)
        self.num_train, self.num_validation, self._world = num_train, num_validation, world
        self.seen: list[int] = []

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        for share in shuffled_shares(
            self.num_train, batch_size, first_step, seed=0, world=self._world, accumulation=accumulation
        ):
            self.seen += share.samples.tolist()
            yield self._batch(torch.from_numpy(share.samples))

    def validation_batches(self) -> Iterable[Batch]:
        rows = torch.arange(self._world.rank, self.num_validation, self._world.size) + self.num_train
        return [self._batch(part) for part in rows.split(5)]

    def _batch(self, rows: Tensor) -> Batch:
        return {"features": self._features[rows], "label": self._label[rows], "index": rows}


class StopAfter(Observer):
    """Sends a signal to this process after a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def on_step(self, step: int) -> None:
        if step == self.step:
            assert signal.getsignal(self.number) != signal.SIG_DFL, "the trainer listens for the signal"
            os.kill(os.getpid(), self.number)


def toy_recipe(**training: object) -> Recipe:
    fields: dict[str, object] = {
        "epochs": 4, "batch_size": 8, "checkpoint_every": 3, "log_every": 2, "evaluate_every": 1,
        "checkpoint_seconds": 0, **training,
    }  # fmt: skip
    return Recipe(
        summary="toy",
        optimizer=OptimizerConfig(peak_lr=0.1, warmup_epochs=1),
        training=TrainingConfig(**fields),  # type: ignore[arg-type]
    )


def toy_trainer(folder: Path, recipe: Recipe | None = None, **parts: object) -> Trainer:
    recipe = recipe or toy_recipe()
    torch.manual_seed(recipe.training.seed)
    arguments: dict[str, object] = {
        "task": ToyTask(recipe), "data": ToyData(), "device": CPU, "precision": FP32, **parts
    }  # fmt: skip
    return Trainer(recipe=recipe, run=RunDirectory(folder), **arguments)  # type: ignore[arg-type]
