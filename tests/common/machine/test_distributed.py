"""Several processes on gloo: every sample once, one process's losses, and resumes on another number of them."""

import datetime
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import InterruptedRunError, KitError
from common.machine import distributed
from common.machine.distributed import ALONE, World
from common.run.run_directory import RunDirectory
from common.training.generators import restore_generators, seed_generators
from common.training.observers import JsonLines
from common.training.task import Batch
from tests.ranks import on_ranks
from tests.toy import CPU, StopAfter, ToyData, ToyTask, toy_recipe, toy_trainer

pytestmark = pytest.mark.slow
STEPS = 12


class DrawingTask(ToyTask):
    """Draws from the process's own generator, more numbers the higher its rank: no two ranks' states are alike."""

    def __init__(self, recipe: Any, world: World) -> None:
        super().__init__(recipe, normalised=False)
        self.world = world

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        for _ in range(self.world.rank + 1):
            noise = torch.rand(len(batch["label"]), 8)
        features = batch["features"] + noise
        return {"loss": nn.functional.cross_entropy(self.model(features), batch["label"])}


def train(world: World, folder: Path, stop: int = STEPS, *, draws: bool = False) -> None:
    """Train a model without batch statistics, from where the folder's run stands until `stop`."""
    recipe = toy_recipe(epochs=2, log_every=1, checkpoint_every=100)
    data = ToyData(world, num_train=48)
    torch.manual_seed(0)
    task = DrawingTask(recipe, world) if draws else ToyTask(recipe, normalised=False)
    observers = (JsonLines(), StopAfter(stop))
    trainer = toy_trainer(folder, recipe, task=task, data=data, world=world, observers=observers)
    try:
        metrics = trainer.fit().evaluation.metrics
    except InterruptedRunError:
        metrics = {}
    torch.save({"seen": data.seen, "metrics": metrics}, folder / f"rank{world.rank}.pt")


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in RunDirectory(folder).metrics() if entry["kind"] == "train"]


def kept(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"rank{rank}.pt")  # type: ignore[no-any-return]


@pytest.fixture
def alone(tmp_path):
    """An undisturbed run of one process."""
    folder = tmp_path / "alone"
    folder.mkdir()
    train(ALONE, folder)
    return folder


def test_two_ranks_train_as_one(tmp_path, alone):
    pair = tmp_path / "pair"
    pair.mkdir()
    on_ranks(2, train, pair)
    first, second = kept(pair, 0), kept(pair, 1)
    assert sorted(first["seen"] + second["seen"]) == sorted(kept(alone, 0)["seen"]) == sorted([*range(48)] * 2)
    assert first["metrics"] == pytest.approx(kept(alone, 0)["metrics"])
    assert first["metrics"] == second["metrics"]
    assert losses(pair) == pytest.approx(losses(alone), rel=1e-5)


def test_a_run_goes_on_with_fewer_and_with_more_ranks(tmp_path, alone):
    """All that is random is a function of seed and step, so the losses are those of one process throughout."""
    moved = tmp_path / "moved"
    moved.mkdir()
    on_ranks(2, train, moved, 3)
    train(ALONE, moved, 5)
    on_ranks(4, train, moved, 8)
    on_ranks(2, train, moved)
    assert losses(moved) == pytest.approx(losses(alone), rel=1e-5)
    assert kept(moved, 0)["metrics"] == pytest.approx(kept(alone, 0)["metrics"])


def test_every_rank_goes_on_with_its_own_random_numbers(tmp_path):
    whole, cut, fewer = tmp_path / "whole", tmp_path / "cut", tmp_path / "fewer"
    for folder in (whole, cut, fewer):
        folder.mkdir()
    on_ranks(2, draw, whole, STEPS)
    on_ranks(2, draw, cut, 5)
    on_ranks(2, draw, cut, STEPS)
    assert losses(cut) == losses(whole)
    on_ranks(2, draw, fewer, 5)
    train(ALONE, fewer, draws=True)
    assert losses(fewer)[:5] == losses(whole)[:5]
    assert len(losses(fewer)) == STEPS


def draw(world: World, folder: Path, stop: int) -> None:
    train(world, folder, stop, draws=True)


def meet(world: World, folder: Path) -> None:
    """The main rank prepares for longer than a group would wait, then all join."""
    distributed.LONGEST_ALONE = datetime.timedelta(seconds=2)
    meeting = distributed.Meeting(world)
    with meeting.main_first():
        if world.is_main:
            time.sleep(4)
            (folder / "prepared").touch()
        assert (folder / "prepared").exists()
    with meeting.joined(CPU):
        assert distributed.from_all_ranks(world.rank) == [0, 1]


def test_ranks_wait_for_a_long_check_outside_of_any_group(tmp_path):
    on_ranks(2, meet, tmp_path, joined=False)


def fail(world: World, folder: Path) -> None:
    meeting = distributed.Meeting(world)
    try:
        with meeting.main_first():
            raise OSError("no such data")
    except (OSError, KitError) as error:
        (folder / f"rank{world.rank}").write_text(str(error))
    time.sleep(0.0 if world.rank else 2.0)  # the main rank holds the store


def test_ranks_end_where_the_main_one_could_not_prepare(tmp_path):
    on_ranks(2, fail, tmp_path, joined=False)
    assert (tmp_path / "rank0").read_text() == "no such data"
    assert (tmp_path / "rank1").read_text().startswith("The main process could not prepare")


def test_ranks_draw_numbers_of_their_own_and_the_first_the_seeds():
    drawn = []
    for rank in range(3):
        torch.manual_seed(7)
        seed_generators(7, rank)
        drawn.append(torch.rand(4))
    torch.manual_seed(7)
    assert torch.equal(drawn[0], torch.rand(4))
    assert not torch.equal(drawn[1], drawn[0])
    assert not torch.equal(drawn[1], drawn[2])
    before = torch.get_rng_state()
    restore_generators([{"cpu": torch.zeros(1), "cuda": None}], rank=2, device=CPU)
    assert torch.equal(torch.get_rng_state(), before)
