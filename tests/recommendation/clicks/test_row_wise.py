"""Tables that are cut over processes, against those of one process: values, losses, checkpoints and weights files."""

import math
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from challenges.recommendation.clicks.challenge import ClickWeights
from challenges.recommendation.clicks.memory import memory_need, require_memory
from challenges.recommendation.clicks.recipes import TablesConfig
from challenges.recommendation.clicks.row_wise import SLICES, RowCut, ShardedTable
from challenges.recommendation.clicks.tables import Bag, FusedTable
from challenges.recommendation.dlrm.recipes import DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from challenges.recommendation.wide_and_deep.recipes import WideAndDeepConfig
from challenges.recommendation.wide_and_deep.task import WideAndDeepTask
from common.errors import InterruptedRunError, RecipeError
from common.machine.distributed import ALONE, World
from common.run.recipe import TrainingConfig
from common.run.run_directory import RunDirectory
from common.training.observers import JsonLines
from common.training.step import build_step
from common.training.task import StepSettings
from common.training.trainer import Trainer
from tests.ranks import on_ranks
from tests.recommendation.clicks.logs import KINDS, ClickRows, rows, spec
from tests.recommendation.clicks.test_click_task import dlrm, wide_and_deep
from tests.toy import CPU, FP32, StopAfter

SIZES = (2000, 1500, 6)
SPEC = spec(sizes=SIZES, crosses=1100)
TABLES = TablesConfig(width=4, peak_lr=0.1, shard="row")
TRAINING = TrainingConfig(
    epochs=8, batch_size=24, evaluate_every=4, checkpoint_every=60, checkpoint_seconds=0, log_every=1
)
RECIPES = {
    "dlrm": dlrm(TABLES, TRAINING),
    "wide and deep": replace(
        wide_and_deep("ftrl", TABLES, TRAINING), model=WideAndDeepConfig(hidden=(16,), dropout=0.0)
    ),
    "average, a bad row": dlrm(replace(TABLES, unknown_share=0.1), replace(TRAINING, ema_decay=0.9, micro_batch=3)),
}
LEARNT, STEPS, BAD_ROW = 600, 200, 5
WORLDS = [World(rank, 3, rank, 3) for rank in range(3)]


@pytest.mark.parametrize("count", [3, SLICES, 3 * SLICES + 700])
def test_every_row_lies_at_one_place_of_one_process(count):
    cut, row = RowCut(count, 3), torch.arange(count)
    own = [row[cut.own(row, rank)] for rank in range(3)]
    assert [len(part) for part in own] == [cut.count(rank) for rank in range(3)]
    first, step = cut.places()
    place = first[row % SLICES] + row // SLICES * step[row % SLICES]
    assert torch.equal(torch.cat(own)[place], row)


@pytest.mark.parametrize("count", [3, SLICES, 3 * SLICES + 700])
def test_shards_together_are_the_whole(count):
    whole, cut = torch.arange(2.0 * count).view(count, 2), RowCut(count, 3)
    alone = RowCut(count, 1).shards("table", whole, 0)
    for rank in range(3):
        own = whole[cut.own(torch.arange(count), rank)]
        for name, shard in cut.shards("table", own, rank).items():
            box = tuple(slice(at, at + size) for at, size in zip(shard.offset, shard.tensor.shape, strict=True))
            assert shard.shape == alone[name].tensor.shape
            assert torch.equal(alone[name].tensor[box], shard.tensor)


def test_rows_start_as_those_of_one_process():
    torch.manual_seed(0)
    whole = FusedTable((70_000, 30), 2)
    row = torch.arange(70_030)
    for world in WORLDS:
        torch.manual_seed(0)
        own = ShardedTable((70_000, 30), 2, world)
        assert torch.equal(own.weight, whole.weight[own.cut.own(row, world.rank)])


def read(world: World) -> None:
    """Values and gradients of a batch's share, the last process's being empty, against the whole table's."""
    for dtype in (torch.float32, torch.float16):
        torch.manual_seed(0)
        whole = FusedTable((*SIZES, KINDS), 4, bags=1, dtype=dtype)
        torch.manual_seed(0)
        own = ShardedTable((*SIZES, KINDS), 4, world, bags=1, dtype=dtype)
        log = rows(SPEC, 40 if world.rank < world.size - 1 else 0, seed=world.rank)
        bag = Bag(log["kinds__values"], log["kinds__offsets"])
        ours, theirs = own(log["categorical"], [bag]), whole(log["categorical"], [bag])
        torch.testing.assert_close(ours, theirs)
        towards = torch.randn(ours.shape, generator=torch.Generator().manual_seed(world.rank))
        for answer in (ours, theirs):
            (answer * towards).sum().backward()
        expected = whole.weight.grad.to_dense()
        torch.distributed.all_reduce(expected)
        mine = own.cut.own(torch.arange(own.cut.rows), world.rank)
        torch.testing.assert_close(own.weight.grad.to_dense(), expected[mine] / world.size)
        gathered = own.whole()
        assert (gathered is own) != world.is_main
        if world.is_main:
            assert torch.equal(gathered.weight, whole.weight)


def test_rows_and_gradients_of_three_processes_are_those_of_one():
    on_ranks(3, read)


class SharedRows(ClickRows):
    """Clicks cut over the processes, all of the validation on the main one; is_bad: a row has no label."""

    def __init__(self, world: World, is_bad: bool) -> None:
        super().__init__(SPEC, count=LEARNT, held_out=300, world=world)
        if is_bad:
            self.train["label"][BAD_ROW] = torch.nan

    def validation_batches(self):
        return super().validation_batches() if self.world.is_main else []


def task(recipe, world: World = ALONE):
    torch.manual_seed(0)
    return (DlrmTask if isinstance(recipe, DlrmRecipe) else WideAndDeepTask)(recipe, SPEC, world=world)


def train(world: World, folder: Path, name: str, stop: int = 0, weights: Path | None = None) -> None:
    recipe, data = RECIPES[name], SharedRows(world, "bad" in name)
    observers = (JsonLines(), *([StopAfter(stop)] if stop else []))
    trainer = Trainer(
        task(recipe, world), data, recipe, RunDirectory(folder), device=CPU, precision=FP32, world=world,
        observers=observers,
    )  # fmt: skip
    try:
        trained = trainer.fit().task
    except InterruptedRunError:
        assert stop
        return
    trained.gather()
    if world.is_main and weights is not None:
        described = type("Data", (), {"spec": SPEC})()
        ClickWeights().save(trained, described, recipe, weights)


def log(folder: Path, kind: str = "train", value: str = "loss") -> list[float]:
    return [entry[value] for entry in RunDirectory(folder).metrics() if entry["kind"] == kind]


def started(size: int, folder: Path, name: str, *arguments) -> None:
    folder.mkdir(exist_ok=True)
    train(ALONE, folder, name, *arguments) if size == 1 else on_ranks(size, train, folder, name, *arguments)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process, and their weights files."""
    folders = {name: tmp_path_factory.mktemp("alone") for name in RECIPES}
    for name, folder in folders.items():
        started(1, folder, name, 0, folder / "weights")
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_several_processes_learn_what_one_learns(tmp_path, alone, name):
    expected = log(alone[name])
    assert len(expected) == STEPS
    assert sum(math.isnan(value) for value in expected) == (8 if "bad" in name else 0)  # once in every epoch
    for size in (2, 4):
        folder = tmp_path / str(size)
        started(size, folder, name, 0, folder / "weights")
        assert log(folder) == pytest.approx(expected, abs=1e-5, nan_ok=True)
        for value in ("auc", "log_loss"):
            judged = log(folder, "validation", value)
            assert judged == pytest.approx(log(alone[name], "validation", value), abs=1e-4)
        opened = [opened_weights(name, path / "weights") for path in (alone[name], folder)]
        assert all(value.isfinite().all() for value in opened[0].values())
        for key, value in opened[0].items():
            torch.testing.assert_close(opened[1][key], value, rtol=1e-4, atol=1e-4)


def opened_weights(name, path):
    model = task(replace(RECIPES[name], tables=replace(TABLES, shard="none")))
    ClickWeights().load(model, path)
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wide and deep", "average, a bad row"])
def test_what_two_processes_saved_any_number_goes_on_with(tmp_path, alone, name):
    started(2, tmp_path / "cut", name, 100)
    assert len(log(tmp_path / "cut")) == 100
    for size in (1, 2, 4):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "cut", folder)
        started(size, folder, name)
        assert log(folder) == pytest.approx(log(alone[name]), abs=1e-5, nan_ok=True)


def killed(world: World, folder: Path, name: str, victim: int) -> None:
    """Train; one process is killed at its first flush to the disk in the save of step 120."""
    flush, part = os.fsync, folder / "checkpoints" / "step-00000120"

    def dying(descriptor: int) -> None:
        if part.exists() and world.rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    os.fsync = dying
    train(world, folder, name)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_kill_during_a_save_leaves_the_one_before(tmp_path, alone, victim):
    with pytest.raises((ProcessExitedException, ProcessRaisedException)):
        on_ranks(2, killed, tmp_path, "dlrm", victim)
    folder = tmp_path / "checkpoints"
    assert (folder / "step-00000120").is_dir()
    assert [path.name for path in sorted(folder.glob("step-*.json"))] == ["step-00000060.json"]
    started(2, tmp_path, "dlrm")
    assert log(tmp_path) == pytest.approx(log(alone["dlrm"]), abs=1e-5)


def test_one_process_keeps_its_rows_apart_while_it_trains(tmp_path):
    model = task(RECIPES["wide and deep"])
    build_step(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU))
    model.own_checkpoints(tmp_path, 1)
    kept = {"tables", "tables.sum", "weights", "weights.squares", "weights.linear"}
    assert model._shards().keys() == kept | {f"{name}.last" for name in kept}
    state = model.state_dict()
    assert not any(name.startswith(("tables", "weights")) for name in state)
    with pytest.raises(KeyError, match="weight is whole"):
        model.load_state_dict(task(RECIPES["wide and deep"]).state_dict())
    model.gather()
    assert {"tables.weight", "weights.weight"} <= model.state_dict().keys()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: TablesConfig(optimizer="dense", shard="row"),
        lambda: dlrm(TABLES, TrainingConfig(compile=True)),
    ],
)
def test_what_cannot_be_cut_is_refused(wrong):
    with pytest.raises(RecipeError, match="shard"):
        wrong()


def test_memory_is_that_of_each_process():
    need = memory_need(dlrm(TABLES), 100_000, 4, ranks=2)
    assert need.tables == 4 * 4 * 100_000 // 2
    assert need.optimizer == 4 * 100_000 // 2
    own = ShardedTable((100_000,), 4, World(1, 2, 1, 2))
    assert own.weight.nbytes == pytest.approx(need.tables, rel=0.01)
    whole = memory_need(dlrm(), 100_000, 4)
    assert need.total == pytest.approx(whole.total / 2)


@pytest.mark.parametrize(
    ("tables", "ranks", "free", "advice"),
    [
        (TablesConfig(width=16), 1, 2, "--tables.shard row on 4 processes with as much memory each"),
        (TablesConfig(width=16, shard="row"), 2, 2, "--tables.shard row on 4 processes with as much memory each"),
        (TablesConfig(width=16, shard="row"), 4, 2, None),
    ],
)
def test_more_processes_are_advised_where_they_would_hold_the_tables(tables, ranks, free, advice):
    recipe = dlrm(tables)
    need = memory_need(recipe, 100_000_000, 26, ranks=ranks)
    if advice is None:
        require_memory(recipe, need, free * 2**30, ranks)
        return
    with pytest.raises(RecipeError, match=re.escape(advice)):
        require_memory(recipe, need, free * 2**30, ranks)
