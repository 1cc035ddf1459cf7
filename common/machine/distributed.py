"""Data parallelism under torchrun: NCCL on GPUs, gloo on CPUs; a single process is a world of one."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0


ALONE = World()
"""A single process."""


def world_from_environment() -> World:
    """The world that torchrun describes in the environment, or a world of one."""
    read = {name: int(os.environ.get(name, default)) for name, default in _TORCHRUN_DEFAULTS.items()}
    return World(read["RANK"], read["WORLD_SIZE"], read["LOCAL_RANK"], read["LOCAL_WORLD_SIZE"])


_TORCHRUN_DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}


@contextlib.contextmanager
def process_group(world: World, device: torch.device) -> Iterator[None]:
    """Join the other processes for the length of the block."""
    if world.size == 1:
        yield
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on at least one rank: all ranks act together or not at all."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def from_all_ranks(value: Value) -> list[Value]:
    """Every rank's value, in the order of ranks, on every rank."""
    if not dist.is_initialized():
        return [value]
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """The elementwise mean of all ranks' tensors of one shape."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every rank the main rank's normalisation statistics, so that all evaluate the same model."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
