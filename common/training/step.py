"""One optimizer step: forward, backward and update over its micro-batches, eagerly or from a CUDA graph."""

from collections.abc import Callable, Sequence

import nvtx
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from common.machine.precision import Precision
from common.training.averages import MovingAverage
from common.training.task import Batch, ScheduledOptimizer, Task

WARMUP_PASSES = 3  # passes on a side stream before a capture, as torch.cuda.graph asks
ForwardBackward = Callable[[Batch, float], dict[str, Tensor]]


class TrainStep:
    """Runs the steps of one task. A call never synchronises a GPU.

    A step whose gradients are not finite changes no weight, in any precision (see Precision.scaler).
    """

    def __init__(
        self,
        task: Task,
        optimizers: Sequence[ScheduledOptimizer],
        precision: Precision,
        device: torch.device,
        *,
        clip_norm: float | None = None,
        ema: MovingAverage | None = None,
        world_size: int = 1,
        use_cuda_graphs: bool = False,
    ) -> None:
        self._task, self._optimizers, self._precision, self._device = task, optimizers, precision, device
        self._clip_norm, self._ema, self._world_size = clip_norm, ema, world_size
        self._use_cuda_graphs = use_cuda_graphs
        self.scaler = precision.scaler(device)
        self.rebuild()

    def rebuild(self) -> None:
        """Wrap the task anew after the set of trainable parameters changed."""
        self._captured: _CapturedPass | None = None
        self._module: torch.nn.Module = self._task
        if self._world_size > 1:
            ids = [self._device.index] if self._device.type == "cuda" else None
            self._module = DistributedDataParallel(self._task, device_ids=ids)
        for scheduled in self._optimizers:
            scheduled.optimizer.zero_grad()

    def __call__(self, micro_batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """Train on this rank's micro-batches of one global batch.

        returns: the losses, means over the micro-batches, and `gradient_norm` (before clipping) where gradients are
                 clipped; scalars, still on the device
        """
        for scheduled in self._optimizers:
            scheduled.set_lr(step)
        losses = self._accumulate(micro_batches, step)
        with nvtx.annotate("optimizer", domain="kit"):
            losses |= self._update()
        return losses

    def _accumulate(self, micro_batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        share = 1 / len(micro_batches)
        totals: dict[str, Tensor] = {}
        for position, batch in enumerate(micro_batches):
            if isinstance(self._module, DistributedDataParallel):
                self._module.require_backward_grad_sync = position == len(micro_batches) - 1
            with nvtx.annotate("prepare", domain="kit"), torch.no_grad():
                batch = self._task.prepare_batch(batch, step)
            run = self._capture(batch, share) if self._use_cuda_graphs else self._forward_backward
            for name, value in run(batch, share).items():
                part = value.detach().float() * share
                totals[name] = totals[name] + part if name in totals else part
        return totals

    def _forward_backward(self, batch: Batch, share: float) -> dict[str, Tensor]:
        with nvtx.annotate("forward", domain="kit"), self._precision.context(self._device):
            losses = self._module(batch)
        with nvtx.annotate("backward", domain="kit"):
            self.scaler.scale(losses["loss"] * share).backward()
        return losses

    def _capture(self, batch: Batch, share: float) -> "_CapturedPass":
        if self._captured is None:
            self._captured = _CapturedPass(self._forward_backward, self._task, batch, share)
        return self._captured

    def _update(self) -> dict[str, Tensor]:
        report: dict[str, Tensor] = {}
        for scheduled in self._optimizers:
            optimizer = scheduled.optimizer
            if self._clip_norm is not None:
                self.scaler.unscale_(optimizer)
                parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                report["gradient_norm"] = torch.nn.utils.clip_grad_norm_(parameters, self._clip_norm)
            self.scaler.step(optimizer)
            if self._captured is None:  # a captured pass overwrites its gradients in place
                optimizer.zero_grad()
        self.scaler.update()
        if self._ema is not None:
            self._ema.update(self._task)
        return report


class _CapturedPass:
    """Forward and backward of one micro-batch shape, recorded once on a GPU and replayed."""

    def __init__(self, run: ForwardBackward, task: Task, batch: Batch, share: float) -> None:
        self._inputs = {name: value.clone() for name, value in batch.items()}
        buffers = [buffer.clone() for buffer in task.buffers()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_PASSES):
                run(self._inputs, share)
                task.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = run(self._inputs, share)
        with torch.no_grad():  # the warm-up passes moved the normalisation statistics
            for buffer, before in zip(task.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def __call__(self, batch: Batch, share: float) -> dict[str, Tensor]:
        for name, value in batch.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._losses
