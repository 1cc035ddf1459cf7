"""Into how many micro-batches a step is cut so that it fits into the device's memory."""

import contextlib
import gc
from collections.abc import Iterator

import torch
from torch import nn

from common.errors import TrainingError
from common.failures import explain
from common.machine.distributed import World, any_rank
from common.machine.precision import Precision
from common.run.recipe import TrainingConfig
from common.training.task import DataModule, Task

OPTIMIZER_STATE = 2  # copies of the weights that an optimizer keeps at most: Adam's two moments


def accumulation(
    task: Task, data: DataModule, training: TrainingConfig, world: World, device: torch.device, precision: Precision
) -> int:
    """Micro-batches per step and process: as the recipe says, or the fewest that fit into a GPU's memory.

    A task whose passes take all processes is not tried out: where one had no room, the others would wait for it.

    To be called by all ranks, with the task on its device. Raises as `TrainingConfig.accumulation`.
    """
    given = training.accumulation(world.size)
    if training.micro_batch != "auto" or device.type != "cuda" or training.cuda_graphs or not task.passes_alone:
        return given
    return fewest_parts(task, data, training, world, device, precision)


def fewest_parts(
    task: Task, data: DataModule, training: TrainingConfig, world: World, device: torch.device, precision: Precision
) -> int:
    """The smallest number of equal micro-batches, of two samples at least, of which one passes forward and backward.

    The task, its statistics and all generators stay as they are. Raises TrainingError where none fits.
    """
    share = training.batch_size // world.size
    refusal = ""
    for parts in (parts for parts in range(1, share + 1) if share % parts == 0 and (parts < share or share == 1)):
        refusal = _refusal(task, data, training.batch_size, parts, device, precision)
        if not any_rank(bool(refusal), device):
            return parts
    raise TrainingError(
        f"The smallest micro-batch does not fit. {refusal}".strip(),
        "A step was cut into ever smaller parts, down to two samples.",
        "Use a GPU with more memory, a smaller model or input, or, for pictures, --training.gradient-checkpointing.",
    )


def _refusal(
    task: Task, data: DataModule, batch_size: int, parts: int, device: torch.device, precision: Precision
) -> str:
    """What the device says against a micro-batch; empty where it fits."""
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), _same_buffers(task):
            weights = sum(parameter.numel() * parameter.element_size() for parameter in task.parameters())
            kept = torch.empty(OPTIMIZER_STATE * weights, dtype=torch.uint8, device=device)
            with torch.no_grad():
                batch = task.prepare_batch(next(data.train_batches(0, batch_size, parts)), 0)
            with precision.context(device):
                losses = task.train()(batch)
            losses["loss"].backward()
            del kept
        refusal = ""
    except torch.OutOfMemoryError as error:
        refusal = str(explain(error)).splitlines()[0]
    task.zero_grad(set_to_none=True)
    if refusal:
        gc.collect()
        torch.cuda.empty_cache()
    return refusal


@contextlib.contextmanager
def _same_buffers(module: nn.Module) -> Iterator[None]:
    """Put back what a pass forward does to normalisation statistics."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, old in zip(module.buffers(), before, strict=True):
                buffer.copy_(old)
