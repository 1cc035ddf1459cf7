"""The demo interactions are whole, repeatable, learnable, and know how well they can be recommended."""

import json

import numpy as np
import pytest

from challenges.recommendation.files.readers import read
from challenges.recommendation.histories import demo, demo_taste
from challenges.recommendation.histories.demo_taste import NUM_ITEMS, PART_OF
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.histories.splits import split
from common.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return demo.generate(tmp_path_factory.mktemp("cache") / "demo")


def test_it_is_made_once_and_always_alike(folder, tmp_path):
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert demo.generate(folder) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps
    again = demo.generate(tmp_path / "again")
    for name in (*demo.FILES, demo.MARKER):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_changed_file_is_noticed(tmp_path):
    folder = demo.generate(tmp_path / "demo")
    (folder / "ratings.csv").write_text("userId,movieId\n1,2\n")
    assert not demo.is_demo(folder)
    assert demo.is_demo(demo.generate(folder))
    assert not demo.is_demo(demo.generate(tmp_path / "other", seed=1))


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError):
        demo.generate(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_its_size_and_titles(folder):
    table = read(folder)
    assert (len(table.user_ids), len(table.item_ids)) == (1200, 500)
    assert 30_000 < len(table) < 60_000
    assert len(set(table.titles.tolist())) == 500
    pairs = table.users.astype(np.int64) * 500 + table.items
    assert len(np.unique(pairs)) == len(table)


def test_the_order_in_time_is_the_files(folder):
    parts = split(read(folder), HistoryConfig())
    assert parts.facts["users_out_of_order"] == 0
    assert 0 < parts.facts["targets_decided_by_tie_rule"] < 100


def test_probabilities_are_probabilities():
    random = np.random.default_rng(0)
    taste = demo_taste.draw_taste(random, 40)
    seen = random.random((40, NUM_ITEMS)) < 0.2
    last = np.where(random.random(40) < 0.2, -1, random.integers(0, NUM_ITEMS, 40))
    probabilities = taste.next_probabilities(5, last, seen)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert not probabilities[seen].any()
    follows = [n for n in range(40) if last[n] >= 0 and PART_OF[last[n]] < 4 and not seen[n, last[n] + 1]]
    assert follows
    assert (probabilities[follows, last[follows] + 1] > demo_taste.FOLLOW).all()


def hit_rate(split, scores):
    scores = scores.copy()
    scores[split.seen.users(), split.seen.items] = -np.inf
    better = (scores > scores[np.arange(len(scores)), split.targets.items][:, None]).sum(axis=1)
    return (better < 10).mean()


def test_taste_and_order_can_both_be_learnt(folder):
    """Popularity < neighbours (closed form) < neighbours and what follows what < the planted truth."""
    parts = split(read(folder), HistoryConfig())
    table = np.zeros((parts.num_users, parts.num_items))
    table[parts.train.users(), parts.train.items] = 1
    inverse = np.linalg.inv(table.T @ table + 50 * np.eye(parts.num_items))  # EASE
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    taste = table @ weights
    following = np.zeros((parts.num_items, parts.num_items))
    same = np.diff(parts.train.users()) == 0
    np.add.at(following, (parts.train.items[:-1][same], parts.train.items[1:][same]), 1)
    last = parts.seen.items[parts.seen.offsets[1:] - 1]
    order = following[last] / np.maximum(following[last].sum(axis=1, keepdims=True), 1)
    popularity = np.tile(parts.popularity().astype(float), (parts.num_judged, 1))
    rates = [hit_rate(parts, scores) for scores in (popularity, taste, taste + 3 * order)]
    rates.append(demo.best_reachable(folder)["hr@10/full"])
    assert rates[1] > 2 * rates[0]
    assert rates[2] > 1.5 * rates[1]
    assert rates[3] > 1.1 * rates[2]


def test_the_best_reachable_is_what_the_truth_reaches(folder):
    marker = json.loads((folder / demo.MARKER).read_text())
    for protocol in ("leave-one-out", "held-out-users"):
        metrics = demo.best_reachable(folder, protocol)
        assert metrics == marker["best_reachable"][protocol]
        assert all(0.2 < value < 0.9 for value in metrics.values())
    with pytest.raises(DataError):
        demo.best_reachable(folder, "global-time")
    with pytest.raises(DataError):
        demo.best_reachable(folder.parent)


@pytest.mark.parametrize(("better", "unseen"), [(0, 50), (7, 60), (30, 40)])
def test_chances_in_a_sample(better, unseen):
    random = np.random.default_rng(0)
    drawn = np.asarray([(random.permutation(unseen)[:20] < better).sum() for _ in range(20_000)])
    chances = demo._drawn(better, unseen, 20, 10)
    np.testing.assert_allclose(chances, [(drawn == k).mean() for k in range(10)], atol=0.02)
