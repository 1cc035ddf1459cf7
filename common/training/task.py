"""What a challenge brings to the trainer: a task that knows its losses and metrics, and data that knows its order."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from common.export.signature import Signature
from common.language.telling import english
from common.machine.precision import Precision
from common.training.averages import MovingAverage
from common.training.checkpoint import Checkpoints
from common.training.schedules import Schedule

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class ScheduledOptimizer:
    """An optimizer and the learning rate of each of its steps; a group's `lr_scale` multiplies it."""

    optimizer: torch.optim.Optimizer
    schedule: Schedule

    def set_lr(self, step: int) -> float:
        """Set every group's learning rate for `step` and return the unscaled one."""
        lr = self.schedule(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr


@dataclass(frozen=True)
class Evaluation:
    """Metrics over every validation sample exactly once, and the predictions they came from.

    intervals:       metric name -> 95 % interval (low, high), where one is known.
    interval_method: what the intervals are, for whoever reads them.
    predictions:     column name -> array, for reports; empty where a task keeps none.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    interval_method: str = english("Wilson score, validation samples")
    predictions: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSettings:
    """What recipe and machine ask of a step.

    clip_norm:       largest norm of an optimizer's gradients together; None leaves them as they are.
    average:         takes in the weights after each update, where a recipe keeps an average of them.
    use_cuda_graphs: record forward and backward once and replay them.
    """

    precision: Precision
    device: torch.device
    world_size: int = 1
    clip_norm: float | None = None
    average: MovingAverage | None = None
    use_cuda_graphs: bool = False


class Step(ABC):
    """How a task trains on one global batch: whether the processes' gradients meet, what updates which weights.

    A step that is not finite changes no weight, on any process; its losses say so.
    """

    @abstractmethod
    def __call__(self, micro_batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """Train on this process's micro-batches of one global batch.

        returns: the losses, means over the micro-batches; scalars, still on the device
        """

    @abstractmethod
    def rebuild(self) -> None:
        """Begin anew with the set of trainable parameters, which changed."""

    @abstractmethod
    def lr(self, step: int) -> float:
        """The learning rate of `step`, for the log."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs besides the task's own state; no name in it is the trainer's."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take in what `state_dict` gave, among other entries."""


class HeldOut(NamedTuple):
    """A value on a held-out part of the training data, higher is better, and its standard error."""

    value: float
    error: float


class Task(nn.Module, ABC):
    """A model with its losses and metrics. `forward` is `loss`, so that data parallelism can wrap the task itself."""

    can_embed: bool = False
    """Whether there is a layer whose vectors tell samples apart."""
    gives_embedding: bool = False
    """Whether `inference_module` and `signature` have these vectors besides the answer; of tasks that can."""

    def place(self, device: torch.device, *, channels_last: bool = True) -> Self:
        """Move to a device, with image weights in the layout its convolutions are fastest in."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return self.to(device=device, memory_format=layout)  # type: ignore[call-overload,no-any-return]  # torch's stubs leave it out

    @property
    def passes_alone(self) -> bool:
        """Whether a pass forward takes no other process, so that it may fail on one alone."""
        return True

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss(batch)

    def set_trainable(self, step: int) -> bool:
        """Choose what trains from `step` on (freezing); True when the set of trainable parameters changed."""
        return False

    def unaveraged(self) -> Iterable[nn.Parameter]:
        """Parameters that a moving average shares with the task instead of averaging them."""
        return ()

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        """Random choices on the device (mixup, sampled negatives), which depend on `step` and the seed alone.

        Kept apart from `loss`, which a CUDA graph may record once and replay.
        """
        return batch

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; the one named `loss` is minimised."""

    @abstractmethod
    def optimizers(self, total_steps: int, steps_per_epoch: float) -> list[ScheduledOptimizer]: ...

    def own_step(self, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> Step | None:
        """The step of a task that `TrainStep` does not fit, such as one whose tables are cut over the processes.

        optimizers: those of `optimizers`, with the schedules to follow.
        """
        return None

    def own_checkpoints(self, folder: Path, keep: int) -> Checkpoints | None:
        """Where a task keeps its training's states whose state is not the same on every process.

        keep: how many of the newest are kept.
        """
        return None

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Metrics over all ranks' batches together; called in evaluation mode without gradients."""

    def evaluate_briefly(self, batches: Iterable[Batch]) -> Evaluation:
        """What is told while training: as `evaluate`, or fewer of its metrics where all of them cost too much."""
        return self.evaluate(batches)

    def other_units(self) -> Mapping[str, float]:
        """What else one training sample counts as where others count so: unit -> how many of it a sample holds."""
        return {}

    def held_out_value(self, data: "DataModule") -> HeldOut | None:
        """How well the task does on `data.tuning()`; None where there is no such part."""
        return None

    def settle(self, data: "DataModule") -> str:
        """Choose what takes no gradient once training is over, on `data.tuning()` alone; returns what to tell."""
        return ""

    def gather(self) -> None:
        """Bring what is cut over the processes together on the main rank, to be saved; all call it, once trained."""

    @abstractmethod
    def inference_module(self) -> nn.Module:
        """The module to export: tensors in, tensors out, as `signature` names them."""

    @abstractmethod
    def signature(self) -> Signature: ...


class DataModule(ABC):
    """Batches in an order that depends on the seed and the step alone, so that a run resumes anywhere.

    Training is one endless stream of shuffled epochs cut into global batches: every sample is seen exactly once per
    epoch at any world size, and a batch may straddle two epochs.
    """

    sample_unit: str
    """What one sample is in throughput figures: image, interaction, user, sequence."""
    num_train: int
    num_validation: int

    @abstractmethod
    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        """This process's endless micro-batches, `accumulation` a step, from optimizer step `first_step` on.

        batch_size: samples per step over all processes
        """

    @abstractmethod
    def validation_batches(self) -> Iterable[Batch]:
        """This rank's share of the validation samples, each exactly once over all ranks."""

    def tuning(self) -> "DataModule | None":
        """A part held out of the training data, as validation batches, to choose weights by; None where none is."""
        return None

    def mean_file_bytes(self) -> float | None:
        """Of the file that holds a training sample; None where samples are rows of something in memory."""
        return None

    def describe(self) -> dict[str, object]:
        """Facts about the data for the run's record: name, counts, fingerprint."""
        return {"train_samples": self.num_train, "validation_samples": self.num_validation}
