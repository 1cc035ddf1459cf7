"""A training step in its parts: what data, compute and both together reach, for any challenge."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.measure import Clock, CudaClock, HostClock, Interleaved, Step, interleave
from benchmarks.record import DataKind, ProtocolUsed, Record, Workload, environment_of, new_record, split_of
from benchmarks.validity import judge
from common.errors import KitError
from common.machine.device import DeviceChoice
from common.machine.precision import Precision
from common.machine.processes import usable_cores
from common.run.recipe import Recipe
from common.training.step import build_step
from common.training.task import Batch, DataModule, StepSettings, Task

PROTOCOL_NAME, PROTOCOL_VERSION = "interleaved", 1
SCHEDULED_STEPS = 1_000_000  # the learning rate hardly moves during a benchmark


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What to measure, and for how long."""

    data: Path | None = None
    """The data set's folder; generated data where none is given."""
    batch: int | None = None
    """Samples per step; the default depends on the device."""
    workers: int | None = None
    """DALI's threads; by default one per core."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    device: DeviceChoice = "auto"
    rounds: int = 10
    block_seconds: float = 5.0
    """Time of one work in one round; at least one step."""
    warmup_seconds: float = 5.0
    settle_seconds: float = 1.0
    """Untimed time at the start of a block, in which queues that filled meanwhile are emptied."""
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""

    def threads(self) -> int:
        return self.workers or usable_cores()


class TrainingWork:
    """The kit's training step on one device, as the trainer runs it."""

    def __init__(self, task: Task, recipe: Recipe, device: torch.device, precision: Precision) -> None:
        task.place(device, channels_last=recipe.training.channels_last).train()
        optimizers = task.optimizers(SCHEDULED_STEPS, SCHEDULED_STEPS / 100)
        task.set_trainable(0)
        if recipe.training.compile:
            task.compile()
        settings = StepSettings(
            precision, device, clip_norm=recipe.optimizer.clip_norm, use_cuda_graphs=recipe.training.cuda_graphs
        )
        self._step = build_step(task, optimizers, settings)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._done = 0

    def __call__(self, batch: Batch) -> int:
        losses = self._step([batch], self._done)
        self._done += 1
        self._finite &= losses["loss"].isfinite()
        return len(batch["images"])

    @property
    def losses_were_finite(self) -> bool:
        return bool(self._finite)


@dataclass(frozen=True)
class TrainingBench(ABC):
    """What the measurements of a challenge's training share."""

    settings: TrainingSettings
    recipe: Recipe
    data: DataModule
    dataset: str
    data_kind: DataKind
    device: torch.device
    precision: Precision
    workers: int
    command: tuple[str, ...]

    @abstractmethod
    def task(self) -> Task:
        """A task with untrained weights, the same ones every time."""

    @abstractmethod
    def workload(self, engine: str, precision: str) -> Workload: ...

    @abstractmethod
    def details(self) -> dict[str, float]:
        """What the figures depend on besides the workload."""

    @property
    def batch_size(self) -> int:
        return self.recipe.training.batch_size

    @property
    def clock(self) -> Clock:
        return CudaClock() if self.device.type == "cuda" else HostClock()

    def batches(self) -> Iterator[Batch]:
        return self.data.train_batches(0, self.batch_size, 1)

    def fixed_batch(self) -> Batch:
        """One batch that stays in the device's memory."""
        return {name: value.clone() for name, value in next(self.batches()).items()}

    def environment(self) -> dict[str, Any]:
        return environment_of(device=str(self.device), precision=self.precision.name)

    def protocol(self) -> ProtocolUsed:
        chosen = self.settings
        return ProtocolUsed(
            name=PROTOCOL_NAME,
            version=PROTOCOL_VERSION,
            warmup_seconds=chosen.warmup_seconds,
            windows=chosen.rounds,
            window_seconds=chosen.block_seconds,
        )

    def measure(self, steps: Mapping[str, Step], *, settle: bool) -> Interleaved:
        chosen = self.settings
        return interleave(
            steps,
            warmup_seconds=chosen.warmup_seconds,
            rounds=chosen.rounds,
            block_seconds=chosen.block_seconds,
            settle_seconds=chosen.settle_seconds if settle else 0.0,
            clock=self.clock,
        )


def loading(batches: Iterator[Batch]) -> Step:
    """A step that takes the next batch and does nothing with it."""
    return lambda: len(next(batches)["images"])


def measure_training(bench: TrainingBench) -> Record:
    """Data-only, compute-only and end-to-end, in turns."""
    work, fixed = TrainingWork(bench.task(), bench.recipe, bench.device, bench.precision), bench.fixed_batch()
    batches = bench.batches()
    found = bench.measure(
        {
            "data_only": loading(bench.batches()),
            "compute_only": lambda: work(fixed),
            "end_to_end": lambda: work(next(batches)),
        },
        settle=True,
    )
    overlap = found.ratio("end_to_end", "data_only", "compute_only")
    sides = found.sides
    environment = bench.environment()
    return new_record(
        kind="train",
        name="train",
        workload=bench.workload("torch", bench.precision.name),
        protocol=bench.protocol(),
        measurements=sides,
        split=split_of(sides["data_only"], sides["compute_only"], sides["end_to_end"], overlap),
        details=bench.details(),
        validity=judge(sides, environment=environment, data=bench.data_kind, losses_finite=work.losses_were_finite),
        command=bench.command,
        environment=environment,
    )


def require_batch(data: DataModule, batch_size: int, root: Path) -> None:
    """Raises KitError where the data has fewer training images than a batch."""
    if data.num_train < batch_size:
        raise KitError(
            f"A batch of {batch_size} was asked for, and {root} has {data.num_train} training images.",
            remedy="Give a smaller --batch or more images.",
        )
