"""Data parallelism under torchrun: NCCL on GPUs, gloo on CPUs; a single process is a world of one."""

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from common.errors import KitError

Value = TypeVar("Value")
LONGEST_PREPARATION = datetime.timedelta(days=1)
"""For which the other processes wait while the main one checks the data."""
LONGEST_ALONE = datetime.timedelta(hours=1)
"""Between two collectives: the main process scores baselines, and writes reports and checkpoints, while others wait."""


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


class Meeting:
    """Where the processes of a training find each other before they join.

    Who waits here is in no collective: no time runs out for it and no GPU spins.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = None if world.size == 1 else next(rendezvous("env://", timeout=LONGEST_PREPARATION))[0]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The main rank runs the block, and once it is done, however long that took, the others do.

        Raises KitError on the others where the main rank's block failed.
        """
        if self._store is None:
            yield
        elif self._world.is_main:
            told = b"failed"
            try:
                yield
                told = b"done"
            finally:
                self._store.set("prepared", told)
        else:
            self._store.wait(["prepared"], LONGEST_PREPARATION)
            if self._store.get("prepared") != b"done":
                raise KitError("The main process could not prepare the run: its own message says why.")
            yield

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """One group with the other processes for the length of the block."""
        if self._store is None:
            yield
            return
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=self._store,
            rank=self._world.rank,
            world_size=self._world.size,
            timeout=LONGEST_ALONE,
            device_id=device if device.type == "cuda" else None,
        )
        try:
            yield
        finally:
            dist.destroy_process_group()


def group_device(world: World) -> torch.device:
    """Where the processes of a group exchange tensors: this one's GPU, or the CPU."""
    return torch.device("cuda", world.local_rank) if dist.get_backend() == "nccl" else torch.device("cpu")


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


def average_over_ranks(tensors: Sequence[torch.Tensor]) -> None:
    """Replace each tensor by its mean over the ranks, in one exchange for every number format.

    All ranks give tensors of the same shapes and formats, in the same order.
    """
    if not dist.is_initialized():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike]).div_(dist.get_world_size())
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in alike])
        torch._foreach_copy_(alike, [part.view(tensor.shape) for part, tensor in zip(parts, alike, strict=True)])


def broadcast_state(module: torch.nn.Module) -> None:
    """Give every rank the main rank's parameters and buffers."""
    if dist.is_initialized():
        for parameter in module.parameters():
            dist.broadcast(parameter.detach(), src=0)
        broadcast_buffers(module)


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every rank the main rank's normalisation statistics, so that all evaluate the same model."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
