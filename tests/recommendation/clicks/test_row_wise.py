"""Tables that are cut over processes, against those of one process: values, losses, checkpoints and weights files."""

import math
import re
import shutil

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from challenges.recommendation.clicks.memory import memory_need, require_memory
from challenges.recommendation.clicks.recipes import TablesConfig
from challenges.recommendation.clicks.row_wise import SLICES, RowCut, ShardedTable
from challenges.recommendation.clicks.tables import Bag, FusedTable
from common.errors import RecipeError
from common.machine.distributed import World
from common.run.recipe import TrainingConfig
from common.training.step import build_step
from common.training.task import StepSettings
from tests.ranks import on_ranks
from tests.recommendation.clicks.logs import KINDS, rows
from tests.recommendation.clicks.over_ranks import (
    CUT,
    SIZES,
    SPEC,
    STEPS,
    TABLES,
    killed,
    log,
    opened_weights,
    started,
    task,
)
from tests.recommendation.clicks.test_click_task import dlrm
from tests.toy import CPU, FP32

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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process, and their weights files."""
    folders = {name: tmp_path_factory.mktemp("alone") for name in CUT}
    for name, folder in folders.items():
        started(1, folder, name, 0, folder / "weights")
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("name", CUT)
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
    model = task(CUT["wide and deep"])
    build_step(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU))
    model.own_checkpoints(tmp_path, 1)
    kept = {"tables", "tables.sum", "weights", "weights.squares", "weights.linear"}
    assert model._shards().keys() == kept | {f"{name}.last" for name in kept}
    state = model.state_dict()
    assert not any(name.startswith(("tables", "weights")) for name in state)
    with pytest.raises(KeyError, match="weight is whole"):
        model.load_state_dict(task(CUT["wide and deep"]).state_dict())
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
