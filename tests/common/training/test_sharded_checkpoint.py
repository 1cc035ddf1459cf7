"""Checkpoints in parts: whole or absent, verified, with a fallback, for any number of processes."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from common.errors import CheckpointError, InterruptedRunError, TrainingError
from common.machine.distributed import ALONE, World
from common.run.run_directory import RunDirectory
from common.training.observers import JsonLines
from common.training.sharded_checkpoint import ShardedCheckpoints
from common.training.shards import Shard
from tests.full_disk import limited_files
from tests.ranks import on_ranks
from tests.toy import CPU, StopAfter, ToyData, toy_recipe, toy_trainer
from tests.toy_sharded import ShardedTask

ROWS = 10


def shards(world: World, value: float = 0.0, rows: int = ROWS) -> dict[str, Shard]:
    """A table of `rows` by 2, whose rows tell their number plus `value`; and one that is the last rank's alone."""
    first, end = (rows * rank // world.size for rank in (world.rank, world.rank + 1))
    table = (torch.arange(first, end)[:, None] + value).repeat(1, 2)
    pieces = {"table": Shard(table, (first, 0), (rows, 2))}
    if world.rank == world.size - 1:
        pieces["small"] = Shard(torch.full((3,), value), (0,), (3,))
    return pieces


def store(folder: Path, value: float = 0.0, world: World = ALONE, rows: int = ROWS) -> ShardedCheckpoints:
    pieces = shards(world, value, rows)
    return ShardedCheckpoints(folder, 2, lambda: pieces, world)


def save(world: World, folder: Path, step: int) -> None:
    store(folder, 100.0 * step, world).save(step, {"whole": torch.arange(3) + step})


def check(world: World, folder: Path, step: int) -> None:
    """That the newest checkpoint is that of `step`, and every number in it."""
    opened = store(folder, -1.0, world)
    state, _ = opened.latest(CPU)
    assert state is not None
    assert state["step"] == step
    assert torch.equal(state["whole"], torch.arange(3) + step)
    for name, shard in shards(world, 100.0 * step).items():
        assert torch.equal(opened._shards()[name].tensor, shard.tensor), name


@pytest.mark.parametrize(("writers", "readers"), [(1, 1), (2, 1), (1, 4), (2, 4), (4, 2)])
def test_any_number_of_ranks_reads_what_any_number_wrote(tmp_path, writers, readers):
    for size, work in ((writers, save), (readers, check)):
        work(ALONE, tmp_path, 7) if size == 1 else on_ranks(size, work, tmp_path, 7)


def test_only_the_newest_are_kept_and_what_a_kill_left_goes(tmp_path):
    (tmp_path / "step-00000002").mkdir(parents=True)  # without a sidecar: never finished
    for step in (1, 3, 10):
        save(ALONE, tmp_path, step)
    assert store(tmp_path).steps() == [10, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000003", "step-00000003.json", "step-00000010", "step-00000010.json",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "metadata"])
def test_a_damaged_part_falls_back_and_says_so(tmp_path, damage):
    on_ranks(2, save, tmp_path, 1)
    on_ranks(2, save, tmp_path, 2)
    part = tmp_path / "step-00000002" / (".metadata" if damage == "metadata" else "__1_0.distcp")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content[:-20] if damage == "cut" else content)
    if damage == "gone":
        part.unlink()
    check(ALONE, tmp_path, 1)
    on_ranks(2, check, tmp_path, 1)
    _, complaints = store(tmp_path).latest(CPU)
    assert len(complaints) == 1
    assert "step-00000002 is damaged" in complaints[0]
    assert part.name in complaints[0]


def test_all_damaged_is_told_and_nothing_begins_anew_unasked(tmp_path):
    save(ALONE, tmp_path, 1)
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match=r"(?s)Every checkpoint .* is damaged: 1\..*delete"):
        store(tmp_path).latest(CPU)


def test_tables_of_another_size_are_refused(tmp_path):
    save(ALONE, tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit.*table is \(\(11, 2\).*\(10, 2\)"):
        store(tmp_path, rows=11).latest(CPU)
    with pytest.raises(CheckpointError, match="holds small, and no process does"):
        ShardedCheckpoints(tmp_path, 2, lambda: {"table": shards(ALONE)["table"]}).latest(CPU)


def test_the_chosen_state_is_replaced_as_a_whole(tmp_path):
    for step in (3, 6):
        store(tmp_path, float(step)).save_chosen({"step": step})
    opened = store(tmp_path)
    assert opened.chosen(CPU)["step"] == 6
    assert opened._shards()["small"].tensor.tolist() == [6.0] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chosen-00000006", "chosen.json"]
    (tmp_path / "chosen.json").unlink()
    with pytest.raises(CheckpointError, match=r"chosen\.json is missing"):
        opened.chosen(CPU)


def full_on_one(world: World, folder: Path) -> None:
    save(world, folder, 1)
    big = {"big": Shard(torch.zeros(50_000), (50_000 * world.rank,), (100_000,))}
    later = ShardedCheckpoints(folder, 2, lambda: big, world)
    with (
        limited_files(100_000 if world.rank else 10_000_000),
        pytest.raises(TrainingError, match=r"step-00000002 cannot be written: files may not"),
    ):
        later.save(2, {})
    check(world, folder, 1)
    assert not (folder / "step-00000002").exists()


def test_a_disk_that_is_full_on_one_rank_is_told_by_all(tmp_path):
    on_ranks(2, full_on_one, tmp_path)


def killed_at(folder: Path, step: int, call: int) -> None:
    """Save, and die at the given flush to the disk."""
    flush, calls = os.fsync, 0

    def counted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    os.fsync = counted
    save(ALONE, folder, step)


def test_a_kill_at_any_flush_leaves_this_checkpoint_or_the_one_before(tmp_path):
    save(ALONE, tmp_path, 1)
    context, found = multiprocessing.get_context("forkserver"), []
    for call in range(1, 99):
        process = context.Process(target=killed_at, args=(tmp_path, 2, call))
        process.start()
        process.join()
        found.append(store(tmp_path).steps()[0])
        check(ALONE, tmp_path, found[-1])
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert len(found) > 4
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 2)


def train(world: World, folder: Path, stop: int = 99, poison: int | None = None) -> None:
    recipe = toy_recipe(epochs=2, log_every=1, checkpoint_every=100)
    torch.manual_seed(0)
    task = ShardedTask(recipe, world, poison)
    observers = (JsonLines(), StopAfter(stop))
    trainer = toy_trainer(
        folder, recipe, task=task, data=ToyData(world, num_train=48), world=world, observers=observers
    )
    try:
        trainer.fit()
    except InterruptedRunError:
        assert stop < 99
    if poison is not None:
        assert task.table.rows.isfinite().all()
        assert all(parameter.isfinite().all() for parameter in task.parameters())


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in RunDirectory(folder).metrics() if entry["kind"] == "train"]


@pytest.mark.slow
def test_a_sharded_training_goes_on_with_any_number_of_ranks(tmp_path):
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    for folder in (whole, moved):
        folder.mkdir()
    train(ALONE, whole)
    on_ranks(2, train, moved, 3)
    train(ALONE, moved, 6)
    on_ranks(4, train, moved, 9)
    on_ranks(2, train, moved)
    assert len(losses(moved)) == 12
    assert losses(moved) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.slow
def test_a_bad_step_of_one_rank_changes_no_row_of_any(tmp_path):
    on_ranks(2, train, tmp_path, 99, 4)
    assert len(losses(tmp_path)) == 12
