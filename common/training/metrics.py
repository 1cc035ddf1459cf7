"""Sums over validation samples that stay on the device and add up over ranks, every sample counted exactly once."""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.distributed
from torch import Tensor


class Metric(ABC):
    """Sums on a device; nothing waits for the device before `compute`.

    device: where the updates come from; with NCCL every rank needs its GPU here, also one that gets no batch.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> None:
        self.totals = torch.zeros(shape, dtype=dtype, device=device)
        self._is_reduced = False

    def reduce(self) -> None:
        """Add up the sums of all ranks, once, after the last update."""
        reduce_metrics(self)

    @abstractmethod
    def compute(self) -> Any:
        """The metric of everything counted so far; waits for the device."""


def reduce_metrics(*metrics: Metric) -> None:
    """Replace each metric's sums by those of all ranks together, in one message; alone there is nothing to do.

    Counts travel as float64, exact up to 2**53.
    """
    if any(metric._is_reduced for metric in metrics):
        raise ValueError(
            "a metric's sums were added up over the ranks already; doing it again would count samples twice"
        )
    for metric in metrics:
        metric._is_reduced = True
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    packed = torch.cat([metric.totals.flatten().double() for metric in metrics])
    torch.distributed.all_reduce(packed)
    parts = packed.split([metric.totals.numel() for metric in metrics])
    for metric, part in zip(metrics, parts, strict=True):
        metric.totals.copy_(part.view_as(metric.totals))


class Mean(Metric):
    """A mean weighted by sample counts, such as the loss over batches of different sizes."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__((2,), torch.float64, device)

    def update(self, value: Tensor | float, count: int = 1) -> None:
        """Add `value`, a scalar that is the mean over `count` samples."""
        value = value.detach().double() if isinstance(value, Tensor) else value
        self.totals[0] += value * count
        self.totals[1] += count

    def compute(self) -> float:
        total, count = self.totals.tolist()
        _require_samples(count)
        return float(total / count)


class Accuracy(Metric):
    """The fraction of samples whose label is among the k highest logits, for several k.

    Equal logits rank in class order, so top-1 is exactly `argmax == label`; a NaN outranks every label, so a model that
    answers NaN scores 0. With k classes or fewer the top-k accuracy is 1.
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5), device: torch.device | str = "cpu") -> None:
        if not topk or min(topk) < 1:
            raise ValueError(f"topk {topk} must hold numbers from 1")
        super().__init__((len(topk) + 1,), torch.int64, device)
        self.topk = topk

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Count a batch: logits (batch, class), label (batch,) int64."""
        scores = logits.detach()
        own = scores.gather(1, label[:, None])
        first = torch.arange(scores.shape[1], device=scores.device) < label[:, None]
        rank = (~(scores <= own) | ((scores == own) & first)).sum(1)
        for position, k in enumerate(self.topk):
            self.totals[position] += (rank < k).sum()
        self.totals[-1] += len(label)

    def compute(self) -> dict[str, float]:
        """`top1`, `top5`, ... in 0..1."""
        *correct, count = self.totals.tolist()
        _require_samples(count)
        return {f"top{k}": hits / count for k, hits in zip(self.topk, correct, strict=True)}


def _require_samples(count: float) -> None:
    if count == 0:
        raise ValueError("a metric was asked for before any sample was counted")
