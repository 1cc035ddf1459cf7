"""Processes that train together on gloo, started from one that has imported torch already."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing

from common.machine.distributed import Meeting, World, world_from_environment
from tests.toy import CPU


def on_ranks(size: int, work: Callable[..., None], *arguments: Any, joined: bool = True) -> None:
    """Call `work(world, *arguments)` in `size` processes, in one group or before; raises what one of them raised."""
    multiprocessing.set_forkserver_preload(["tests.ranks", "torch._dynamo"])  # which the first optimizer step imports
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (size, port, work, arguments, joined)
    torch.multiprocessing.start_processes(_rank, given, nprocs=size, start_method="forkserver")


def _rank(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...], joined: bool) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    world: World = world_from_environment()
    with Meeting(world).joined(CPU) if joined else contextlib.nullcontext():
        work(world, *arguments)
