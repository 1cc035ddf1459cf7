"""`benchmarks.throughput` where every all-reduce takes SECONDS longer: a slow link between ranks."""

import time
from typing import Any

import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks import throughput
from benchmarks.command import run_command
from common.training import step

SECONDS = 0.1
all_reduce = dist.all_reduce


def slow(*arguments: Any, **options: Any) -> Any:
    time.sleep(SECONDS)
    return all_reduce(*arguments, **options)


class SlowlyLinked(DistributedDataParallel):
    """Whose gradients meet by a Python function, which is the slow one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_comm_hook(None, allreduce_hook)


if __name__ == "__main__":
    dist.all_reduce = slow
    step.DistributedDataParallel = SlowlyLinked
    run_command(throughput.main)
