"""One optimizer step: forward, backward and update over its micro-batches, eagerly or from a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import Any

import nvtx
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from common.errors import RecipeError
from common.machine.distributed import average_over_ranks, broadcast_state
from common.machine.memory import keep_freed_memory
from common.training.task import Batch, ScheduledOptimizer, Step, StepSettings, Task

WARMUP_PASSES = 3  # passes on a side stream before a capture, as torch.cuda.graph asks
ForwardBackward = Callable[[Batch, float], dict[str, Tensor]]


def build_step(task: Task, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> Step:
    """The task's own step, or the one that fits all others."""
    if settings.device.type == "cpu":
        keep_freed_memory()
    return task.own_step(optimizers, settings) or TrainStep(task, optimizers, settings)


class TrainStep(Step):
    """Runs the steps of one task. A call never synchronises a GPU.

    A step whose gradients are not finite changes no weight, in any precision (see Precision.scaler).
    A task whose step differs in one of `wrapped`, `set_lr` and `backward` inherits from this and replaces that alone.
    """

    def __init__(self, task: Task, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> None:
        self.task, self.optimizers, self.settings = task, optimizers, settings
        self.scaler = settings.precision.scaler(settings.device)
        self.rebuild()

    def rebuild(self) -> None:
        self._captured: _CapturedPass | None = None
        self._module: nn.Module = self.task
        if self.settings.use_cuda_graphs:
            broadcast_state(self.task)  # a capture holds no exchange: gradients meet after it
        elif self.settings.world_size > 1:
            self._module = self.wrapped()
        for scheduled in self.optimizers:
            scheduled.optimizer.zero_grad()

    def wrapped(self) -> nn.Module:
        """The task as several processes call it."""
        device = self.settings.device
        return DistributedDataParallel(self.task, device_ids=[device.index] if device.type == "cuda" else None)

    def set_lr(self, step: int) -> None:
        """Set every learning rate for `step`."""
        for scheduled in self.optimizers:
            scheduled.set_lr(step)

    def backward(self, losses: dict[str, Tensor], share: float) -> None:
        """Gradients of one micro-batch, which is `share` of the step."""
        self.scaler.scale(losses["loss"] * share).backward()

    def lr(self, step: int) -> float:
        return self.optimizers[0].schedule(step)

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizers": [scheduled.optimizer.state_dict() for scheduled in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for scheduled, saved in zip(self.optimizers, state["optimizers"], strict=True):
            scheduled.optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])

    def __call__(self, micro_batches: Sequence[Batch], step: int) -> dict[str, Tensor]:
        """As `Step`; `gradient_norm` (before clipping) is among the losses where gradients are clipped."""
        self.set_lr(step)
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
                batch = self.task.prepare_batch(batch, step)
            run = self._capture(batch, share) if self.settings.use_cuda_graphs else self._forward_backward
            for name, value in run(batch, share).items():
                part = value.detach().float() * share
                totals[name] = totals[name] + part if name in totals else part
        if self._captured is not None:
            average_over_ranks([p.grad for p in self.task.parameters() if p.grad is not None])
        return totals

    def _forward_backward(self, batch: Batch, share: float) -> dict[str, Tensor]:
        settings = self.settings
        with nvtx.annotate("forward", domain="kit"), settings.precision.context(settings.device):
            losses: dict[str, Tensor] = self._module(batch)
        with nvtx.annotate("backward", domain="kit"):
            self.backward(losses, share)
        return losses

    def _capture(self, batch: Batch, share: float) -> "_CapturedPass":
        if self._captured is None:
            self._captured = _CapturedPass(self._forward_backward, self.task, batch, share)
        return self._captured

    def _update(self) -> dict[str, Tensor]:
        settings = self.settings
        report: dict[str, Tensor] = {}
        for scheduled in self.optimizers:
            optimizer = scheduled.optimizer
            if settings.clip_norm is not None:
                self.scaler.unscale_(optimizer)
                parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
                report["gradient_norm"] = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            self.scaler.step(optimizer)
            if self._captured is None:  # a captured pass overwrites its gradients in place
                optimizer.zero_grad()
        self.scaler.update()
        if settings.average is not None:
            settings.average.update(self.task)
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
        # DALI's threads allocate at any moment, which ends a capture in the default mode, global.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._losses = run(self._inputs, share)
        with torch.no_grad():  # the warm-up passes moved the normalisation statistics
            for buffer, before in zip(task.buffers(), buffers, strict=True):
                buffer.copy_(before)

    def __call__(self, batch: Batch, share: float) -> dict[str, Tensor]:
        require_shapes(batch, self._inputs)
        for name, value in batch.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._losses


def require_shapes(batch: Batch, captured: Batch) -> None:
    """Raise RecipeError where a batch does not have the shapes that were captured."""
    for name, value in captured.items():
        if batch[name].shape != value.shape:
            raise RecipeError(
                f"training.cuda-graphs was chosen, and {name} came as {tuple(batch[name].shape)} after "
                f"{tuple(value.shape)}.",
                "A captured step replays one shape.",
                "Leave training.cuda-graphs out.",
            )
