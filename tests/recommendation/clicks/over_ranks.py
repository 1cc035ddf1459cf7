"""Click models that are trained by several processes on gloo, and by one: what the tests of their tables compare."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import torch

from challenges.recommendation.clicks.challenge import ClickWeights
from challenges.recommendation.clicks.recipes import TablesConfig
from challenges.recommendation.dlrm.recipes import DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from challenges.recommendation.wide_and_deep.recipes import WideAndDeepConfig
from challenges.recommendation.wide_and_deep.task import WideAndDeepTask
from common.errors import InterruptedRunError
from common.machine.distributed import ALONE, World
from common.run.recipe import TrainingConfig
from common.run.run_directory import RunDirectory
from common.training.observers import JsonLines
from common.training.trainer import Trainer
from tests.ranks import on_ranks
from tests.recommendation.clicks.logs import ClickRows, spec
from tests.recommendation.clicks.test_click_task import dlrm, wide_and_deep
from tests.toy import CPU, FP32, StopAfter

SIZES = (2000, 1500, 6)
SPEC = spec(sizes=SIZES, crosses=1100)
TABLES = TablesConfig(width=4, peak_lr=0.1, shard="row")
TRAINING = TrainingConfig(
    epochs=8, batch_size=24, evaluate_every=4, checkpoint_every=60, checkpoint_seconds=0, log_every=1
)
WIDE = replace(wide_and_deep("ftrl", TABLES, TRAINING), model=WideAndDeepConfig(hidden=(16,), dropout=0.0))
CUT = {
    "dlrm": dlrm(TABLES, TRAINING),
    "wide and deep": WIDE,
    "average, a bad row": dlrm(replace(TABLES, unknown_share=0.1), replace(TRAINING, ema_decay=0.9, micro_batch=3)),
}
"""Rows dealt out in turn."""
BY_TABLE, BY_COLUMN, PLANNED = (
    TablesConfig(width=8, peak_lr=0.1, shard="table"),
    TablesConfig(width=8, peak_lr=0.1, shard="column", optimizer="adagrad"),
    TablesConfig(width=8, peak_lr=0.1, shard="auto", unknown_share=0.1),
)
PLACED = {
    "table": replace(WIDE, tables=BY_TABLE),
    "column": dlrm(BY_COLUMN, TRAINING),
    "auto, a bad row": dlrm(PLANNED, replace(TRAINING, ema_decay=0.9)),
}
"""Tables placed by TorchRec."""
RECIPES = CUT | PLACED
LEARNT, STEPS, BAD_ROW = 600, 200, 5


class SharedRows(ClickRows):
    """Clicks cut over the processes, all of the validation on the main one; is_bad: a row has no label."""

    def __init__(self, world: World, is_bad: bool) -> None:
        super().__init__(SPEC, count=LEARNT, held_out=300, world=world)
        if is_bad:
            self.train["label"][BAD_ROW] = torch.nan

    def validation_batches(self):
        return super().validation_batches() if self.world.is_main else []


def task(recipe, world: World = ALONE):
    torch.manual_seed(0)
    return (DlrmTask if isinstance(recipe, DlrmRecipe) else WideAndDeepTask)(recipe, SPEC, world=world)


def train(world: World, folder: Path, name: str, stop: int = 0, weights: Path | None = None) -> None:
    recipe, data = RECIPES[name], SharedRows(world, "bad" in name)
    observers = (JsonLines(), *([StopAfter(stop)] if stop else []))
    trainer = Trainer(
        task(recipe, world), data, recipe, RunDirectory(folder), device=CPU, precision=FP32, world=world,
        observers=observers,
    )  # fmt: skip
    try:
        trained = trainer.fit().task
    except InterruptedRunError:
        assert stop
        return
    trained.gather()
    if world.is_main and weights is not None:
        described = type("Data", (), {"spec": SPEC})()
        ClickWeights().save(trained, described, recipe, weights)


def log(folder: Path, kind: str = "train", value: str = "loss") -> list[float]:
    return [entry[value] for entry in RunDirectory(folder).metrics() if entry["kind"] == kind]


def started(size: int, folder: Path, name: str, *arguments) -> None:
    folder.mkdir(exist_ok=True)
    train(ALONE, folder, name, *arguments) if size == 1 else on_ranks(size, train, folder, name, *arguments)


def opened_weights(name: str, path: Path) -> dict[str, torch.Tensor]:
    model = task(replace(RECIPES[name], tables=replace(RECIPES[name].tables, shard="none")))
    ClickWeights().load(model, path)
    return model.state_dict()


def killed(world: World, folder: Path, name: str, victim: int) -> None:
    """Train; one process is killed at its first flush to the disk in the save of step 120."""
    flush, part = os.fsync, folder / "checkpoints" / "step-00000120"

    def dying(descriptor: int) -> None:
        if part.exists() and world.rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    os.fsync = dying
    train(world, folder, name)
