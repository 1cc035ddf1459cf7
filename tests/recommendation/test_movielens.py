"""Counts of the published data sets, as the papers state them."""

import pytest

from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.recipes import HistoryConfig

pytestmark = pytest.mark.dataset


@pytest.fixture
def movielens(shared_data):
    return shared_data / "recsys" / "ml-1m"


def test_complete(movielens, tmp_path):
    report = check(movielens / "ml1m_interactions.parquet", tmp_path, HistoryConfig())
    assert report.record["facts"]["read"] == {"users": 6040, "items": 3706, "interactions": 1_000_209}
    assert report.split.num_judged == 6040
    assert report.split.titles[0] == "Toy Story (1995)"


def test_as_the_autoencoders_filter_it(movielens, tmp_path):
    config = HistoryConfig(minimum_rating=4, minimum_per_user=5, protocol="held-out-users", held_out_users=500)
    report = check(movielens / "ml1m_interactions.parquet", tmp_path, config)
    assert report.record["facts"]["kept"] == {"users": 6034, "items": 3478, "interactions": 575_195}
    assert (report.split.num_users, report.split.num_judged) == (5034, 500)


def test_as_the_community_table_splits_it(movielens, tmp_path):
    config = HistoryConfig(minimum_per_user=5, protocol="held-out-users", held_out_users=500)
    split = check(movielens / "ml1m_interactions.parquet", tmp_path, config).split
    assert (split.num_users, split.num_judged) == (5040, 500)


def test_sequences(movielens, tmp_path):
    split = check(movielens / "ml-1m.txt.gz", tmp_path, HistoryConfig()).split
    assert (split.num_users, split.num_items, len(split.train.items)) == (6040, 3416, 999_611 - 6040)


def test_ncf(movielens, tmp_path):
    report = check(movielens / "ncf", tmp_path, HistoryConfig())
    split = report.split
    assert (split.num_users, split.num_items, len(split.train.items)) == (6040, 3706, 994_169)
    assert split.negatives.shape == (6040, 99)
    assert report.record["negatives"] == {
        "lists": 6040,
        "length": 99,
        "with_the_target": 156,
        "with_seen_items": 0,
        "with_repetitions": 0,
    }
    assert "156 of the data's 6,040 lists" in report.warnings[-1]


def test_recbole(shared_data, tmp_path):
    report = check(shared_data / "recsys" / "ml-100k", tmp_path, HistoryConfig(protocol="global-time"))
    assert report.record["facts"]["read"] == {"users": 943, "items": 1682, "interactions": 100_000}
    assert report.split.titles[0] == "Toy Story"
