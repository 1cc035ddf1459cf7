"""Checks are kept, redone when something changes, and say what is wrong."""

import numpy as np
import pytest
from rich.console import Console

from challenges.recommendation.histories import audit
from challenges.recommendation.histories import check as module
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import DataError


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = [
        f"{user},{item},{random.integers(1, 6)},{random.integers(0, 20)}"
        for user in range(30)
        for item in random.permutation(12)[:6]
    ]
    (folder / "ratings.csv").write_text("user,item,rating,timestamp\n" + "\n".join([*rows, rows[0]]) + "\n")
    (folder / "items.csv").write_text("item,title\n3,Third\n")
    return folder


def same(one, other):
    for name in ("item_ids", "titles", "user_ids", "users"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("train", "seen", "targets"):
        np.testing.assert_array_equal(getattr(one, name).offsets, getattr(other, name).offsets)
        np.testing.assert_array_equal(getattr(one, name).items, getattr(other, name).items)
    assert (one.protocol, one.num_items, one.facts, one.fingerprint) == (
        other.protocol,
        other.num_items,
        other.facts,
        other.fingerprint,
    )


def test_what_is_written_is_what_is_read(data, tmp_path):
    report = check(data, tmp_path / "out", HistoryConfig())
    same(report.split, HistorySplit.read(tmp_path / "out"))
    assert report.split.titles.tolist().count("Third") == 1


def test_nothing_is_read_twice(data, tmp_path, monkeypatch):
    first = check(data, tmp_path / "out", HistoryConfig())
    monkeypatch.setattr(module, "read", None)
    again = check(data, tmp_path / "out", HistoryConfig())
    assert (first.reused, again.reused) == (False, True)
    assert again.record == first.record
    same(first.split, again.split)


def test_another_configuration_is_another_split(data, tmp_path):
    one = check(data, tmp_path / "out", HistoryConfig())
    two = check(data, tmp_path / "out", HistoryConfig(protocol="held-out-users", held_out_users=5))
    assert not two.reused
    assert one.split.fingerprint != two.split.fingerprint
    assert HistorySplit.read(tmp_path / "out").protocol == "held-out-users"
    back = check(data, tmp_path / "out", HistoryConfig())
    assert (back.reused, back.split.protocol) == (False, "leave-one-out")
    assert back.split.fingerprint == one.split.fingerprint


@pytest.mark.parametrize("name", ["ratings.csv", "items.csv"])
def test_a_changed_file_is_read_again(data, tmp_path, name):
    one = check(data, tmp_path / "out", HistoryConfig())
    with (data / name).open("a") as stream:
        stream.write("1,11,5,99\n")
    two = check(data, tmp_path / "out", HistoryConfig())
    assert not two.reused
    assert one.split.fingerprint != two.split.fingerprint


@pytest.mark.parametrize("name", ["split.npz", "check.json"])
def test_a_damaged_record_is_made_again(data, tmp_path, name):
    check(data, tmp_path / "out", HistoryConfig())
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-20])
    report = check(data, tmp_path / "out", HistoryConfig())
    assert not report.reused
    same(report.split, HistorySplit.read(tmp_path / "out"))


def test_the_report_says_what_was_found(data, tmp_path):
    console = Console(width=200, record=True, file=(tmp_path / "log").open("w"))
    report = check(data, tmp_path / "out", HistoryConfig(), console=console)
    report.print(console)
    text = console.export_text()
    assert "1 repeated interactions dropped" in text
    assert "are not in the order of time: sorted" in text
    assert "never compare across them" in text
    console.file.close()


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check(tmp_path / "none", tmp_path / "out", HistoryConfig())
    with pytest.raises(DataError, match="No interactions were found"):
        check(tmp_path, tmp_path / "out", HistoryConfig())


def test_concentration_of_popularity():
    assert audit.concentration(np.full(100, 7)) == {"top_hundredth": 0.01, "gini": 0.0}
    assert audit.concentration(np.asarray([0] * 99 + [5])) == {"top_hundredth": 1.0, "gini": 0.99}


def test_mixed_ids():
    assert audit.mixed_ids(np.asarray(["1", "2"])) is None
    assert audit.mixed_ids(np.asarray(["a", "b"])) is None
    assert audit.mixed_ids(np.asarray(["1", "b", "3"])) == {"text": 1, "numbers": 2, "first": "b"}
