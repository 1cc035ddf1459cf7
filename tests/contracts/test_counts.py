"""No model's step or graph grows unseen: exact counts, held against those that are committed with their reason."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.watch.counts import FILE, Counts, difference, packages_of_help
from benchmarks.work import count_work
from common.files import read_json
from common.machine.precision import DeviceScaler, Precision
from common.training.step import build_step
from common.training.task import StepSettings
from tests.contracts.line import BATCH, CPU, Line


def counts_of(line: Line, *, spoil: bool = False) -> Counts:
    """Those of a model's second step, as under a GPU's loss scaler; spoilt by a read of the loss."""
    torch.manual_seed(0)
    data = line.data()
    task = line.challenge.build_task(line.recipe, data).train()
    batch: Any = next(data.train_batches(0, BATCH, 1))
    settings = StepSettings(Precision("fp32", None), CPU, clip_norm=line.recipe.optimizer.clip_norm)
    step: Any = build_step(task, task.optimizers(10, 10), settings)
    step.scaler = DeviceScaler("cpu", init_scale=1.0, growth_interval=2**31 - 1)
    step([batch], 0)

    def second() -> int:
        loss = step([batch], 1)["loss"]
        if spoil:
            loss.item()
        return BATCH

    return Counts.of(count_work(second), batch, BATCH, line.graph)


def test_the_counts_of_a_model_are_those_committed(line: Line) -> None:
    if line.challenge.model not in read_json(FILE)["models"]:
        pytest.skip(f"benchmarks/watch/counts.json has no counts of {line.challenge.model} yet")
    told = difference(line.challenge.model, counts_of(line))
    assert not told, told


def test_a_stray_read_of_the_loss_is_told(line_of: Callable[[str], Line]) -> None:
    told = difference("ncf", counts_of(line_of("ncf"), spoil=True))
    assert "synchronisations 0 -> 1" in told
    assert "Undo what made them change" in told


def test_help_imports_no_package_more() -> None:
    assert packages_of_help() == read_json(FILE)["kit --help imports"]
