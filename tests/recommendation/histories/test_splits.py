"""Splits against the same rules written out row by row."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.recommendation.files.layout import Layout
from challenges.recommendation.files.readers import Interactions, OfficialSplit
from challenges.recommendation.files.sources import Source
from challenges.recommendation.files.times import UNKNOWN_TIME
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.histories.splits import split
from common.errors import DataError


def table(rows, official=None, timed=True):
    """Interactions from (user, item, rating, time) rows of small numbers."""
    users, items, ratings, times = (list(column) for column in zip(*rows, strict=True))
    layout = Layout(Path("x.csv"), ",", (), {}, True, False)
    num_users, num_items = max(users) + 1, max(items) + 1
    if official:
        num_items = max(num_items, int(official.negatives.max()) + 1, int(official.items.max()) + 1)
    return Interactions(
        source=Source("table", Path("."), layout),
        users=np.asarray(users, np.int32),
        items=np.asarray(items, np.int32),
        ratings=np.asarray(ratings, np.float32),
        times=np.asarray(times, np.int64) if timed else None,
        user_ids=np.arange(num_users).astype(str),
        item_ids=np.arange(num_items).astype(str),
        titles=np.full(num_items, ""),
        official=official,
    )


def named(parts, histories):
    """Histories as lists of the data's own item numbers."""
    return [[int(item) for item in parts.item_ids[histories.of(user)]] for user in range(len(histories))]


def by_hand(rows, config):
    """user -> items in order, after all filters."""
    order = sorted(range(len(rows)), key=lambda n: (rows[n][0], rows[n][3], n))
    kept = [rows[n][:2] for n in order if config.minimum_rating is None or rows[n][2] >= config.minimum_rating]
    kept = list(dict.fromkeys(kept))
    while True:
        users, items = ([row[place] for row in kept] for place in (0, 1))
        fewer = [
            row
            for row in kept
            if users.count(row[0]) >= config.minimum_per_user and items.count(row[1]) >= config.minimum_per_item
        ]
        if fewer == kept:
            break
        kept = fewer
    histories = {}
    for user, item in kept:
        histories.setdefault(user, []).append(item)
    return histories


INTERACTIONS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 9), st.integers(1, 5), st.integers(0, 6)), min_size=4, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(INTERACTIONS, st.booleans(), st.integers(1, 3), st.integers(1, 3), st.sampled_from([None, 3.0]))
def test_leave_one_out_is_what_it_says(rows, validation, per_user, per_item, rating):
    config = HistoryConfig(
        minimum_rating=rating, minimum_per_user=per_user, minimum_per_item=per_item, validation_item=validation
    )
    wanted = by_hand(rows, config)
    judged = [user for user, items in wanted.items() if len(items) > 1]
    if len(wanted) < 2 or len({item for items in wanted.values() for item in items}) < 2 or not judged:
        with pytest.raises(DataError):
            split(table(rows), config)
        return
    parts = split(table(rows), config)
    cut = {user: 1 + (validation and len(items) > 2) if len(items) > 1 else 0 for user, items in wanted.items()}
    assert named(parts, parts.train) == [items[: len(items) - cut[user]] for user, items in wanted.items()]
    assert named(parts, parts.seen) == [wanted[user][:-1] for user in judged]
    assert named(parts, parts.targets) == [wanted[user][-1:] for user in judged]
    assert parts.user_ids[parts.users].tolist() == [str(user) for user in judged]
    assert parts.user_ids.tolist() == [str(user) for user in wanted]
    assert sorted(map(int, parts.item_ids)) == sorted({item for items in wanted.values() for item in items})


def test_equal_times_fall_back_on_the_file():
    rows = [(0, 1, 5, 9), (0, 2, 5, 9), (0, 3, 5, 1), (1, 1, 5, 1), (1, 2, 5, 2)]
    parts = split(table(rows), HistoryConfig())
    assert named(parts, parts.seen) == [[3, 1], [1]]
    assert named(parts, parts.targets) == [[2], [2]]
    assert parts.facts["targets_decided_by_tie_rule"] == 1
    assert parts.facts["users_out_of_order"] == 1


def test_a_user_with_a_missing_time_keeps_the_files_order():
    rows = [(0, 1, 5, 9), (0, 2, 5, UNKNOWN_TIME), (0, 3, 5, 1), (1, 1, 5, 3), (1, 2, 5, 2)]
    parts = split(table(rows), HistoryConfig())
    assert named(parts, parts.targets) == [[3], [1]]
    assert parts.facts["users_without_times"] == 1


def test_no_times_at_all():
    parts = split(table([(1, 2, 5, 0), (0, 1, 5, 0), (1, 0, 5, 0), (0, 2, 5, 0)], timed=False), HistoryConfig())
    assert named(parts, parts.targets) == [[2], [0]]


def dense(users, items, seed=0):
    random = np.random.default_rng(seed)
    return [
        (user, int(item), 5, int(random.integers(0, 1000)))
        for user in range(users)
        for item in random.permutation(items)[: random.integers(1, items)]
    ]


def test_held_out_users_follow_the_published_draw():
    """Liang et al. 2018: permute the users, then per user in order choose a share of the rows as the file has them."""
    rows = dense(60, 12)
    parts = split(table(rows), HistoryConfig(protocol="held-out-users", held_out_users=10))
    users = np.unique([row[0] for row in rows])
    np.random.seed(98765)
    users = users[np.random.permutation(len(users))]
    train = {row[1] for row in rows if row[0] in users[:-20]}
    seen, targets = [], []
    np.random.seed(98765)
    for user in sorted(users[-10:]):
        items = np.asarray([row[1] for row in rows if row[0] == user and row[1] in train])
        chosen = np.zeros(len(items), bool)
        if len(items) >= 5:
            chosen[np.random.choice(len(items), size=int(0.2 * len(items)), replace=False)] = True
            seen.append(sorted(items[~chosen]))
            targets.append(sorted(items[chosen]))
    assert [sorted(items) for items in named(parts, parts.seen)] == seen
    assert [sorted(items) for items in named(parts, parts.targets)] == targets
    assert parts.num_users == 40
    assert (parts.users == -1).all()
    assert parts.facts["held_out_dropped"] == 10 - len(seen)


def test_items_that_nobody_trains_on_are_dropped_from_held_out_users():
    rows = dense(40, 8) + [(40 + n, 100 + n, 5, 0) for n in range(3)]
    parts = split(table(rows), HistoryConfig(protocol="held-out-users", held_out_users=8))
    assert parts.num_items == len(np.unique(parts.train.items))
    assert parts.popularity().min() > 0


def test_too_many_held_out_users():
    with pytest.raises(DataError, match="30 users are left"):
        split(table(dense(30, 8)), HistoryConfig(protocol="held-out-users", held_out_users=15))


def test_global_time_never_cuts_a_moment():
    rows = [(0, 0, 5, 1), (0, 1, 5, 5), (1, 0, 5, 2), (1, 1, 5, 3), (1, 2, 5, 5), (2, 0, 5, 5), (0, 2, 5, 4)]
    parts = split(table(rows), HistoryConfig(protocol="global-time", test_share=0.15))
    assert named(parts, parts.train) == [[0, 2], [0, 1]]
    assert named(parts, parts.targets) == [[1], [2]]
    assert parts.facts["users_not_judged"] == 1
    assert parts.facts["held_out_interactions"] == 3


@pytest.mark.parametrize("times", [None, UNKNOWN_TIME])
def test_global_time_needs_times(times):
    rows = [(0, 0, 5, 1), (0, 1, 5, times or 0), (1, 0, 5, 2), (1, 1, 5, 3)]
    with pytest.raises(DataError, match="timestamps"):
        split(table(rows, timed=times is not None), HistoryConfig(protocol="global-time"))


def ncf():
    rows = [(0, 0, 5, 0), (0, 1, 5, 0), (1, 0, 5, 0), (1, 1, 5, 0), (1, 2, 5, 0)]
    official = OfficialSplit(np.asarray([1, 0]), np.asarray([3, 2]), np.asarray([[4, 3], [5, 4]]))
    return table(rows, official, timed=False)


def test_official_files_are_used_as_they_are():
    parts = split(ncf(), HistoryConfig())
    assert named(parts, parts.train) == named(parts, parts.seen) == [[0, 1], [0, 1, 2]]
    assert named(parts, parts.targets) == [[2], [3]]
    assert parts.negatives.tolist() == [[5, 4], [4, 3]]
    parts = split(ncf(), HistoryConfig(validation_item=True))
    assert named(parts, parts.train) == [[0], [0, 1]]
    assert named(parts, parts.seen) == [[0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    "config", [HistoryConfig(minimum_per_item=2), HistoryConfig(protocol="held-out-users", held_out_users=1)]
)
def test_official_files_are_not_split_otherwise(config):
    with pytest.raises(DataError, match="brings its own split"):
        split(ncf(), config)


def test_one_user_and_lost_users():
    with pytest.raises(DataError, match="leave 1 of"):
        split(table([(0, 0, 5, 0), (0, 1, 5, 1)]), HistoryConfig())
    with pytest.raises(DataError, match=r"leave 0 of [0-9]+ users and 0 of"):
        split(table(dense(5, 4)), HistoryConfig(minimum_per_user=9))


def test_a_threshold_needs_ratings():
    data = table(dense(5, 4))
    object.__setattr__(data, "ratings", None)
    with pytest.raises(DataError, match="no ratings"):
        split(data, HistoryConfig(minimum_rating=4))
