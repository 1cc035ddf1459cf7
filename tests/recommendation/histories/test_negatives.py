"""Unseen items for evaluation lists and for training."""

import numpy as np
import pytest
import torch

from challenges.recommendation.histories import negatives
from challenges.recommendation.histories.negatives import UnseenItems, first_distinct, sample_negatives
from tests.recommendation.worlds import build_split, held_out_split, histories_of, random_split

CPU = torch.device("cpu")


@pytest.mark.parametrize("by", ["uniform", "popularity"])
@pytest.mark.parametrize("split", [random_split(), held_out_split()], ids=["leave-one-out", "held-out"])
@pytest.mark.parametrize("count", [1, 10, 30])
def test_lists_hold_unseen_items_once(by, split, count):
    lists = sample_negatives(split, count, by=by, seed=0)
    assert lists.shape == (split.num_judged, count)
    for user, row in enumerate(lists):
        met = {*split.seen.of(user), *split.targets.of(user)}
        assert len(set(row)) == count
        assert min(row) >= 0
        assert not met & set(row)
    np.testing.assert_array_equal(lists, sample_negatives(split, count, by=by, seed=0))
    assert (lists != sample_negatives(split, count, by=by, seed=1)).any()


def test_too_few_unseen_items_leave_the_row_shorter():
    split = build_split([[0, 1, 2], [3]], [[3], [0]], num_items=6)
    lists = sample_negatives(split, 5, by="uniform", seed=0)
    assert sorted(lists[0]) == [-1, -1, -1, 4, 5]
    assert sorted(lists[1]) == [-1, 1, 2, 4, 5]
    assert lists[0, 2:].tolist() == [-1, -1, -1]


def test_items_without_popularity_are_not_drawn_by_it():
    split = build_split([[0, 1], [1, 2]], [[2], [0]], num_items=9)
    assert sample_negatives(split, 3, by="popularity", seed=0).tolist() == [[-1, -1, -1], [-1, -1, -1]]
    split = build_split([[0], [1], [2], [3]], [[1], [2], [3], [0]], num_items=9)
    assert {item for row in sample_negatives(split, 3, by="popularity", seed=0) for item in row} == {-1, 0, 1, 2, 3}


@pytest.mark.parametrize("count", [1, 3])
def test_popularity_is_drawn_in_proportion(count: int):
    """Against successive draws with numpy; the popular items come first or not at all."""
    train = [[0]] * 600 + [[1]] * 300 + [[2]] * 100 + [[3]] * 50 + [[4]] * 2000
    split = build_split(train, [[5]] * len(train), num_items=6)
    users = np.arange(1050, len(train))  # they have met item 4
    lists = sample_negatives(split, count, by="popularity", seed=0)[users]
    share = np.array([600, 300, 100, 50]) / 1050
    random = np.random.default_rng(0)
    expected = np.stack([random.choice(4, count, replace=False, p=share) for _ in range(20_000)])
    for place in range(count):
        found = np.bincount(lists[:, place], minlength=4) / len(users)
        wanted = np.bincount(expected[:, place], minlength=4) / len(expected)
        assert abs(found - wanted).max() < 0.04, place


@pytest.mark.parametrize("row", [[3, 3, 1, 3], [-1, 5, -1, 5], [0, 1, 2, 3]])
def test_repetitions_are_moved_out(row):
    distinct = list(dict.fromkeys(item for item in row if item >= 0))
    assert first_distinct(torch.tensor([row])).tolist() == [distinct + [-1] * (len(row) - len(distinct))]


@pytest.mark.parametrize("listed", [negatives.LISTED, 0])
def test_training_negatives_are_uniform_among_unseen_items(listed, monkeypatch):
    monkeypatch.setattr(negatives, "LISTED", listed)
    histories = histories_of([[7, 0, 3, 3], [], [1, 2, 3, 4, 5, 6, 7, 8], list(range(10))])
    unseen = UnseenItems(histories, 10, CPU)
    user = torch.arange(4).repeat(2000)
    drawn = unseen.draw(user, 4, seed=0, step=3, row=torch.arange(len(user)))
    for number, free in enumerate([[1, 2, 4, 5, 6, 8, 9], list(range(10)), [0, 9], [9]]):
        counts = torch.bincount(drawn[user == number].flatten(), minlength=10)
        assert counts.nonzero()[:, 0].tolist() == free
        expected = 8000 / len(free)
        assert (abs(counts[free] - expected) <= 5 * expected**0.5).all()


def test_training_negatives_are_the_same_from_a_list_and_by_search(monkeypatch):
    split = random_split(30, 50)
    user = torch.arange(30)
    drawn = UnseenItems(split.train, 50, CPU).draw(user, 40, seed=1, step=0, row=user)
    monkeypatch.setattr(negatives, "LISTED", 0)
    assert torch.equal(drawn, UnseenItems(split.train, 50, CPU).draw(user, 40, seed=1, step=0, row=user))
    for number in range(30):
        assert not set(drawn[number].tolist()) & set(split.train.of(number).tolist())
        assert drawn[number].min() >= 0
        assert drawn[number].max() < 50
