"""Everyone's best on the same interactions: equal time, one split, one evaluator; cells with a record are skipped.

KIT_TEST_RECTOOLS and KIT_TEST_RECBOLE name the Python of an environment that has them.
"""

import dataclasses
import gzip
import os
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from benchmarks.peers import own_interactions
from benchmarks.peers.careful import Clock, choose, gain, grid, learn
from benchmarks.peers.own_interactions import SIDES, Cell, Settings, Side, cells, main, standings, write_interactions
from benchmarks.peers.own_sides import COMMON, _scored, own_recipe
from benchmarks.peers.own_table import comparison, table
from benchmarks.peers.peer_process import CHOOSING, TOP_ITEMS_FILE, Job, PeerHistories
from benchmarks.record import read_all
from challenges.recommendation.histories import baselines, check
from common.errors import KitError

JOB = Job(
    model="", work="learn", folder="", batch=32, learning_rate=1e-3, epochs=0, top_k=3, threads=1, precision="fp32",
    sizes={}, seconds=1e9,
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("keep_threads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A MovieLens 1M of 60 users with 8 to 12 of 40 items each."""
    random = np.random.default_rng(0)
    lines = [f"{user + 1} {item + 1}\n" for user in range(60) for item in random.permutation(40)[: 8 + user % 5]]
    path = tmp_path_factory.mktemp("data")
    (path / "ml-1m").mkdir()
    with gzip.open(path / "ml-1m" / "ml-1m.txt.gz", "wt") as stream:
        stream.writelines(lines)
    return path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(own_interactions, "CUTS", (30,))
    monkeypatch.setattr(own_interactions, "DATASETS", ("ml-1m-30",))


def histories() -> PeerHistories:
    """Three users of six items; the first and the last are asked about."""
    return PeerHistories(np.array([0, 2, 4, 6]), np.array([0, 1, 1, 2, 3, 4]), np.array([0, 2]), np.array([2, 5]), 6)


class Counting:
    """Finds everyone's item from the third epoch on, and forgets it after the sixth."""

    version = "1"
    built: ClassVar[list[str]] = []

    def __init__(self, job: Job, told: PeerHistories) -> None:
        self.told, self.epochs = told, 0
        self.built.append(job.folder)

    def more(self, clock: Clock) -> None:
        self.epochs += 1

    def tell(self, told: PeerHistories) -> None:
        self.told = told

    def state(self) -> int:
        return self.epochs

    def restore(self, state: int) -> None:
        self.epochs = state

    def top_items(self, count: int) -> np.ndarray:
        found = self.told.targets if 3 <= self.epochs <= 6 else np.full(len(self.told.targets), -1)
        return np.repeat(found[:, None], count, 1)


class Hurried(Clock):
    """A clock whose time is over after so many readings."""

    readings = 0

    @property
    def used(self) -> float:
        Hurried.readings += 1
        return float(Hurried.readings)


@pytest.fixture
def job(tmp_path) -> Job:
    (tmp_path / CHOOSING).mkdir()
    histories().write(tmp_path)
    histories().write(tmp_path / CHOOSING)
    Counting.built.clear()
    return dataclasses.replace(JOB, folder=str(tmp_path))


def test_a_gain_counts_places_among_what_was_not_told():
    lists = np.array([[0, 1, 2], [1, 0, -1]])  # the first finds its item once what it told is struck out
    assert gain(lists, histories()) == pytest.approx(0.5)
    lists = np.array([[3, 2, -1], [5, 0, 1]])
    assert gain(lists, histories()) == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_a_trial_tells_the_epochs_of_a_second_training(job, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.careful.TRIAL_SHARE", 0.0)
    answer = learn(Counting, job)
    assert (answer["epochs"], answer["learnt_again"], answer["chosen_by"]) == (3, True, 1.0)
    assert answer["looked_at_epochs"] > 6
    assert Counting.built == [str(Path(job.folder) / CHOOSING), job.folder]
    np.testing.assert_array_equal(np.load(Path(job.folder) / TOP_ITEMS_FILE)[:, 0], histories().targets)


def test_the_best_weights_of_a_trial_that_took_all_the_time_are_kept(job, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.careful.Clock", Hurried)
    Hurried.readings = 0
    answer = learn(Counting, dataclasses.replace(job, seconds=20.0))
    assert not answer["learnt_again"]
    assert answer["epochs"] == 3
    np.testing.assert_array_equal(np.load(Path(job.folder) / TOP_ITEMS_FILE)[:, 0], histories().targets)


def test_the_best_of_the_settings_learns_from_everything(job):
    seen = []

    def fit(setting, told):
        seen.append((setting, len(told.items)))
        return lambda count: np.repeat((told.targets if setting == 2 else told.targets * 0)[:, None], count, 1)

    assert choose(fit, [1, 2, 3], job, "1")["settings"] == 2
    assert [setting for setting, _ in seen] == [1, 2, 3, 2]


def test_a_grid_begins_with_the_defaults_and_has_every_combination():
    found = list(grid(3, a=(1, 2), b=(3, 4)))
    assert found[0] == {"a": 1, "b": 3}
    assert sorted(map(str, found)) == sorted(str({"a": a, "b": b}) for a in (1, 2) for b in (3, 4))


def test_a_cut_keeps_whole_users(folder, tmp_path):
    first, second = (write_interactions(folder, "ml-1m-30", tmp_path / name) for name in _folders(tmp_path))
    assert first.read_text() == second.read_text()
    whole = gzip.decompress((folder / "ml-1m" / "ml-1m.txt.gz").read_bytes()).decode().splitlines()
    kept = first.read_text().splitlines()
    users = {line.split()[0] for line in kept}
    assert len(users) == 30
    assert kept == [line for line in whole if line.split()[0] in users]


def test_any_other_interactions_are_taken_by_their_path(folder, tmp_path):
    (tmp_path / "bought.txt").write_bytes(gzip.decompress((folder / "ml-1m" / "ml-1m.txt.gz").read_bytes()))
    settings = Settings(data=tmp_path, datasets=("bought.txt",), sides=("kit-popularity",), cells=tmp_path / "cells")
    assert main(settings) == 0
    (record,) = own_interactions._known(tmp_path / "cells").values()
    assert (record.workload.dataset, record.details["users"]) == ("bought.txt", 60)


def _folders(root: Path) -> tuple[str, str]:
    for name in ("a", "b"):
        (root / name).mkdir()
    return "a", "b"


def test_all_are_judged_by_the_same_items(folder, tmp_path):
    data = write_interactions(folder, "ml-1m-60", tmp_path)
    common = check.check(data, tmp_path / "check", COMMON).split
    for model in ("ncf", "vae_cf", "bert4rec"):
        split = check.check(data, tmp_path / model, own_recipe(model, 0).history).split
        assert split.item_ids.tolist() == common.item_ids.tolist()
        assert split.targets.items.tolist() == common.targets.items.tolist()
        assert split.seen.items.tolist() == common.seen.items.tolist()


def test_a_baseline_ranks_what_it_scores(folder, tmp_path):
    split = check.check(write_interactions(folder, "ml-1m-60", tmp_path), tmp_path / "check", COMMON).split
    own_interactions.write_histories(split, tmp_path)
    lists = _scored(baselines.ease)({"l2": 10.0}, PeerHistories.read(tmp_path))(4)
    train = dataclasses.replace(split, train=split.seen)
    scores = baselines.ease(train, torch.device("cpu"), l2=10.0)(torch.arange(split.num_judged))
    for user in range(split.num_judged):
        scores[user, split.seen.of(user)] = -torch.inf
    np.testing.assert_array_equal(lists, scores.topk(4).indices)


def test_cells_begin_with_one_seed_and_leave_out_peers_without_an_environment():
    found = list(cells(Settings(data=Path(), seeds=(0, 1), datasets=("ml-100k",), sides=("kit-ncf", "implicit-als"))))
    assert found == [Cell("ml-100k", "kit-ncf", 60.0, 0), Cell("ml-100k", "kit-ncf", 60.0, 1)]


def test_unknown_names_are_told():
    with pytest.raises(KitError, match=r"(?s)no side 'kit-nfc'.*kit-ncf"):
        Settings(data=Path(), sides=("kit-nfc",))
    with pytest.raises(KitError, match="no dataset 'ml-20m'"):
        Settings(data=Path(), datasets=("ml-20m",))


def test_a_measured_cell_is_not_measured_again_and_the_best_is_first(folder, small, tmp_path, capsys):
    settings = Settings(
        data=folder,
        datasets=("ml-1m-30",),
        sides=("kit-popularity", "kit-vae-cf"),
        seconds=(30.0,),
        cells=tmp_path / "cells",
        output=tmp_path / "results",
    )
    assert main(settings) == 0
    records = own_interactions._known(tmp_path / "cells")
    assert sorted(records) == ["own-ml-1m-30-kit-popularity-30s-seed0", "own-ml-1m-30-kit-vae-cf-30s-seed0"]
    ((key, rows),) = standings(list(records.values())).items()
    assert key == ("ml-1m-30", 30.0)
    assert rows[0][1] == max(record.details["ndcg@10/full"] for record in records.values())
    learnt = records["own-ml-1m-30-kit-vae-cf-30s-seed0"]
    assert 0 < learnt.details["seconds"] <= learnt.details["all_seconds"] < 60
    assert learnt.details["users"] == 30
    capsys.readouterr()
    assert main(settings) == 0
    assert f"{rows[0][0]} is first" in capsys.readouterr().out
    assert own_interactions._known(tmp_path / "cells").keys() == records.keys()
    (joined,) = read_all([tmp_path / "results"])
    assert joined.details["kit-vae-cf ndcg@10/full"] == learnt.details["ndcg@10/full"]
    row = next(line for line in table([joined]).splitlines() if line.startswith(f"| {rows[0][0]} |"))
    assert row == f"| {rows[0][0]} | **{rows[0][1]:.4f}** |"
    assert table([joined]).splitlines()[-1] == f"| first | {rows[0][0]} |"


def test_seeds_are_averaged_and_a_side_that_took_too_long_is_told(folder, small, tmp_path):
    settings = Settings(data=folder, datasets=("ml-1m-30",), sides=("kit-popularity",), seeds=(0, 1), cells=tmp_path)
    assert main(dataclasses.replace(settings, join=True)) == 0  # nothing is there, nothing is measured
    assert not own_interactions._known(tmp_path)
    assert main(settings) == 0  # one side alone is no comparison
    first, second = own_interactions._known(tmp_path).values()
    second = dataclasses.replace(second, details={**second.details, "ndcg@10/full": 0.5, "seconds": 70.0})
    joined = comparison([first, second], ("python",))
    assert joined.details["kit-popularity ndcg@10/full"] == pytest.approx((first.details["ndcg@10/full"] + 0.5) / 2)
    assert joined.details["kit-popularity seed 1"] == 0.5
    assert [finding.text for finding in joined.validity.reasons] == ["kit-popularity seed 1 took 70 s of 60."]
    assert "kit-popularity" not in table([joined])


@pytest.mark.parametrize("side", [name for name, side in SIDES.items() if side.python != "kit"])
def test_the_real_peers_learn(side, folder, small, tmp_path):
    variable = "KIT_TEST_" + SIDES[side].python.upper()
    if variable not in os.environ:
        pytest.skip(f"no peer: {variable} names the Python of its environment")
    python = {SIDES[side].python: Path(os.environ[variable])}
    settings = Settings(data=folder, datasets=("ml-1m-30",), sides=(side,), seconds=(12.0,), cells=tmp_path, **python)
    assert main(settings) == 0
    (record,) = own_interactions._known(tmp_path).values()
    assert record.details["seconds"] < 20
    assert record.workload.engine[0].isdigit()


def test_a_side_that_fails_is_named(folder, small, tmp_path, monkeypatch):
    monkeypatch.setitem(SIDES, "kit-ncf", Side("own_sides", "nothing", "kit"))
    settings = Settings(data=folder, datasets=("ml-1m-30",), sides=("kit-ncf",), cells=tmp_path)
    with pytest.raises(KitError, match=f"kit-ncf does not run with {sys.executable}"):
        main(settings)
