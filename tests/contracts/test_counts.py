"""No model's step or graph grows unseen: exact counts, held against those that are committed with their reason."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.counts import FILE, Counts, bytes_of, count_operators, difference, nodes_of, packages_of_help
from common.files import read_json
from common.machine.precision import DeviceScaler, Precision
from common.training.step import build_step
from common.training.task import StepSettings
from tests.contracts.line import BATCH, CPU, Line


def counted_step(line: Line, spoil: bool = False) -> tuple[int, int, int]:
    """Operators and reads of a model's second step, as under a GPU's loss scaler, and the bytes of a sample."""
    torch.manual_seed(0)
    data = line.data()
    task = line.challenge.build_task(line.recipe, data).train()
    batch: Any = next(data.train_batches(0, BATCH, 1))
    settings = StepSettings(Precision("fp32", None), CPU, clip_norm=line.recipe.optimizer.clip_norm)
    step = build_step(task, task.optimizers(10, 10), settings)
    step.scaler = DeviceScaler("cpu", init_scale=1.0, growth_interval=2**31 - 1)
    step([batch], 0)

    def second() -> None:
        loss = step([batch], 1)["loss"]
        if spoil:
            loss.item()

    return *count_operators(second), bytes_of(batch) // BATCH


def test_the_counts_of_a_model_are_those_committed(line: Line) -> None:
    operators, reads, size = counted_step(line)
    now = Counts(operators, reads, size, nodes_of(line.graph))
    told = difference(line.challenge.model, now)
    assert not told, told


def test_a_stray_read_of_the_loss_is_told(line_of: Callable[[str], Line]) -> None:
    line = line_of("ncf")
    operators, reads, size = counted_step(line, spoil=True)
    told = difference("ncf", Counts(operators, reads, size, nodes_of(line.graph)))
    assert "reads 0 -> 1" in told
    assert "Undo what made them change" in told


def test_help_imports_no_package_more() -> None:
    assert packages_of_help() == read_json(FILE)["kit --help imports"]
