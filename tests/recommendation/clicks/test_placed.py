"""Tables that TorchRec places over processes, against those of one process, which needs no TorchRec."""

import math
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from challenges.recommendation.clicks import memory
from challenges.recommendation.clicks.memory import memory_need, placed_within_memory, require_memory
from challenges.recommendation.clicks.placement import cut_columns, whole_tables
from challenges.recommendation.clicks.recipes import BLOCK, TablesConfig
from challenges.recommendation.clicks.tables import Bag, FusedTable
from challenges.recommendation.clicks.task import ROW_OPTIMIZERS
from common.errors import RecipeError
from common.machine.distributed import World
from common.training.step import build_step
from common.training.task import StepSettings
from tests.ranks import on_ranks
from tests.recommendation.clicks.logs import KINDS, rows
from tests.recommendation.clicks.over_ranks import (
    PLACED,
    RECIPES,
    SIZES,
    SPEC,
    STEPS,
    TRAINING,
    killed,
    log,
    opened_weights,
    started,
    task,
    train,
)
from tests.recommendation.clicks.test_click_task import dlrm
from tests.toy import CPU, FP32

with_torchrec = pytest.mark.skipif(find_spec("torchrec") is None, reason="TorchRec is not installed: make torchrec")
ROWS = (*SIZES, KINDS)
PLACE = {"table": whole_tables, "column": cut_columns}


@pytest.mark.parametrize("kind", PLACE)
@pytest.mark.parametrize(("size", "width"), [(1, 8), (2, 8), (3, 16), (4, 8), (4, 4)])
def test_every_number_lies_at_one_place_of_one_process(kind, size, width):
    placement = PLACE[kind](ROWS, width, size)
    held = [torch.zeros(count, width) for count in ROWS]
    for piece in placement.pieces:
        (row, number), (count, wide) = piece.offset, piece.shape
        held[piece.column][row : row + count, number : number + wide] += 1
        assert wide % BLOCK == 0
    assert all((part == 1).all() for part in held)
    for rank in range(size):
        columns = [piece.column for piece in placement.of_rank(rank)]
        assert len(columns) == len(set(columns))
    assert {piece.rank for piece in placement.pieces} == set(range(size))
    assert placement.most() <= width * (sum(ROWS) / size + max(ROWS))


def test_tables_of_like_sizes_are_spread_evenly():
    assert whole_tables((50, 40, 30, 20, 10), 4, 3).most() == 4 * 50
    assert cut_columns((50, 40, 30), 16, 3).most() == 50 * 8 + 40 * 4 + 30 * 4  # of blocks 1, 1 and 2


@pytest.mark.parametrize("kind", PLACE)
def test_shards_together_are_the_whole(kind):
    placement = PLACE[kind](ROWS, 8, 3)
    whole = {column: torch.arange(8.0 * count).view(count, 8) for column, count in enumerate(ROWS)}
    alone = whole_tables(ROWS, 8, 1).shards("tables", whole, 0)
    found = {name: torch.zeros(shard.shape) for name, shard in alone.items()}
    for rank in range(3):
        own = {
            piece.column: whole[piece.column][:, piece.first_number : piece.first_number + piece.numbers]
            for piece in placement.of_rank(rank)
        }
        for name, shard in placement.shards("tables", own, rank).items():
            box = tuple(slice(at, at + size) for at, size in zip(shard.offset, shard.tensor.shape, strict=True))
            assert shard.shape == alone[name].shape
            found[name][box] += shard.tensor
    assert all(torch.equal(found[name], shard.tensor) for name, shard in alone.items())


def updated(world: World) -> None:
    """Three batches, updates between them, against the whole table's; a fourth is the main process's alone."""
    from challenges.recommendation.clicks.placed import PlacedTable

    for kind, optimizer in (("table", "rowwise-adagrad"), ("column", "adagrad"), ("column", "sgd"), ("auto", "sgd")):
        config = TablesConfig(width=8, peak_lr=0.1, shard=kind, optimizer=optimizer)
        placement = placed_within_memory(dlrm(config), ROWS, 0, CPU, world)
        torch.manual_seed(0)
        whole = FusedTable(ROWS, 8, bags=1)
        torch.manual_seed(0)
        own = PlacedTable(placement, config, world, bags=1)
        ours, theirs = own.own_optimizer(0.1), ROW_OPTIMIZERS[optimizer]([whole.weight], lr=0.1)
        for step in range(3):
            compared(own, whole, 20, seed=world.rank + 10 * step)
            total = whole.weight.grad.to_dense()
            torch.distributed.all_reduce(total)
            whole.weight.grad = (total / world.size).to_sparse(1)
            for each in (ours, theirs):
                each.step()
                each.zero_grad()
        with torch.no_grad():
            compared(own, whole, 30 if world.is_main else 0, seed=50)
        gathered = own.whole()
        assert (gathered is own) != world.is_main
        if world.is_main:
            torch.testing.assert_close(gathered.weight, whole.weight)


def compared(own, whole: FusedTable, count: int, seed: int) -> None:
    log = rows(SPEC, count, seed=seed)
    bag = Bag(log["kinds__values"], log["kinds__offsets"])
    answers = [table(log["categorical"], [bag]) for table in (own, whole)]
    torch.testing.assert_close(*answers)
    if torch.is_grad_enabled():
        towards = torch.randn(answers[0].shape, generator=torch.Generator().manual_seed(seed))
        for answer in answers:
            (answer * towards).sum().backward()


@with_torchrec
@pytest.mark.slow
def test_values_and_updates_of_two_processes_are_those_of_one():
    on_ranks(2, updated)


def trained(world: World, folder: Path, stop: int = 0) -> None:
    """Every recipe to its end, or to a step."""
    for name in PLACED:
        train(world, folder / name, name, stop, folder / name / "weights")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name in PLACED:
        (folder / name).mkdir()
        started(1, folder / name, name, 0, folder / name / "weights")
    return folder


@with_torchrec
@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_any_number_goes_on_with_it(tmp_path, alone):
    folders = {size: tmp_path / str(size) for size in (1, 2, 4)}
    on_ranks(2, trained, tmp_path / "half", STEPS // 2)
    for size, folder in folders.items():
        shutil.copytree(tmp_path / "half", folder)
        trained(World(), folder) if size == 1 else on_ranks(size, trained, folder)
    for name in PLACED:
        expected = log(alone / name)
        assert len(expected) == STEPS
        assert sum(math.isnan(value) for value in expected) == (8 if "bad" in name else 0)
        whole = opened_weights(name, alone / name / "weights")
        for folder in folders.values():
            assert log(folder / name) == pytest.approx(expected, abs=1e-6, nan_ok=True)
            for value in ("auc", "log_loss"):
                judged = log(folder / name, "validation", value)
                assert judged == pytest.approx(log(alone / name, "validation", value), abs=1e-6)
            opened = opened_weights(name, folder / name / "weights")
            for key, value in whole.items():
                torch.testing.assert_close(opened[key], value, rtol=1e-5, atol=1e-5)


@with_torchrec
@pytest.mark.slow
def test_a_kill_during_a_save_leaves_the_one_before(tmp_path, alone):
    with pytest.raises((ProcessExitedException, ProcessRaisedException)):
        on_ranks(2, killed, tmp_path, "column", 1)
    folder = tmp_path / "checkpoints"
    assert (folder / "step-00000120").is_dir()
    assert [path.name for path in sorted(folder.glob("step-*.json"))] == ["step-00000060.json"]
    started(2, tmp_path, "column")
    assert log(tmp_path) == pytest.approx(log(alone / "column"), abs=1e-6)


def test_one_process_keeps_every_columns_rows_apart(tmp_path):
    model = task(RECIPES["table"])
    build_step(model, model.optimizers(10, 5.0), StepSettings(FP32, CPU))
    model.own_checkpoints(tmp_path, 1)
    names = {f"tables{kind}.{column}" for kind in ("", ".sum") for column in range(len(ROWS))}
    assert names <= model._shards().keys()
    assert {"weights", "weights.squares", "weights.last"} <= model._shards().keys()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: TablesConfig(shard="table", dtype="fp16"), "--tables.shard row"),
        (lambda: TablesConfig(shard="auto", width=6), "multiple of 4"),
        (lambda: TablesConfig(shard="column", width=8), "adagrad or sgd"),
        (lambda: TablesConfig(shard="auto", optimizer="dense"), "every row"),
        (lambda: dlrm(TablesConfig(shard="table"), replace(TRAINING, micro_batch=3)), "every pass"),
    ],
)
def test_what_torchrec_cannot_do_is_refused(wrong, told):
    with pytest.raises(RecipeError, match=told) as refused:
        wrong()
    assert refused.value.exit_code == 2


def test_torchrec_is_asked_for_where_it_is_absent(monkeypatch):
    monkeypatch.setattr(memory, "find_spec", lambda name: None)
    recipe = dlrm(TablesConfig(width=8, shard="table"))
    with pytest.raises(RecipeError, match="make torchrec") as refused:
        placed_within_memory(recipe, ROWS, 0, CPU, World(0, 2, 0, 2))
    assert refused.value.exit_code == 2
    assert placed_within_memory(recipe, ROWS, 0, CPU) == whole_tables(ROWS, 8, 1)


@pytest.mark.parametrize(
    ("kind", "optimizer", "sums"), [("table", "rowwise-adagrad", 1 / 8), ("table", "sgd", 0), ("column", "adagrad", 1)]
)
def test_memory_is_that_of_the_process_with_the_most(kind, optimizer, sums):
    recipe = dlrm(TablesConfig(width=8, shard=kind, optimizer=optimizer))
    need = memory_need(recipe, sum(ROWS), 4, wide_rows=100, ranks=2, placement=PLACE[kind](ROWS, 8, 2))
    numbers = 2000 * 8 if kind == "table" else sum(ROWS) * 4
    assert need.tables == 4 * (numbers + 50)
    assert need.optimizer == pytest.approx(need.tables * sums, abs=4)


def test_one_large_table_is_advised_to_be_cut():
    recipe = dlrm(TablesConfig(width=16, shard="table"))
    need = memory_need(recipe, 100_000_000, 1, ranks=2, placement=whole_tables((100_000_000,), 16, 2))
    with pytest.raises(RecipeError, match=r"--tables\.shard row on 4 processes with as much"):
        require_memory(recipe, need, 2 * 2**30, 2)
