"""Two processes on gloo: every sample once, and the losses of one process at the same global batch."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from common.machine.distributed import process_group, world_from_environment
from common.run.run_directory import RunDirectory
from common.training.observers import JsonLines
from tests.toy import CPU, ToyData, ToyTask, toy_recipe, toy_trainer

pytestmark = pytest.mark.slow


def train_rank(rank: int, size: int, port: int, folder: Path) -> None:
    """One process of a run whose model has no batch statistics."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    world = world_from_environment()
    recipe = toy_recipe(epochs=2, log_every=1)
    data = ToyData(world, num_train=48)
    torch.manual_seed(0)
    with process_group(world, CPU):
        outcome = toy_trainer(
            folder, recipe, task=ToyTask(recipe, normalised=False), data=data, world=world, observers=(JsonLines(),)
        ).fit()
    torch.save({"seen": data.seen, "metrics": outcome.evaluation.metrics}, folder / f"rank{rank}of{size}.pt")


def run(size: int, folder: Path) -> tuple[list[dict[str, object]], list[float]]:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(train_rank, (size, port, folder), nprocs=size, start_method="spawn")
    losses = [entry["loss"] for entry in RunDirectory(folder).metrics() if entry["kind"] == "train"]
    return [torch.load(folder / f"rank{rank}of{size}.pt") for rank in range(size)], losses


def test_two_ranks_train_as_one(tmp_path):
    (alone,), single = run(1, tmp_path / "one")
    pair, double = run(2, tmp_path / "two")
    assert sorted(pair[0]["seen"] + pair[1]["seen"]) == sorted(alone["seen"]) == sorted([*range(48)] * 2)
    assert pair[0]["metrics"] == pytest.approx(alone["metrics"])
    assert pair[0]["metrics"] == pair[1]["metrics"]
    assert double == pytest.approx(single, rel=1e-5)
