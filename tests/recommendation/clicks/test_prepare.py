"""Preparing: what is written, the same whatever places the chunks and however often it is cut off."""

import collections

import numpy as np
import polars as pl
import pytest

from challenges.recommendation.clicks.prepare import counting, encoding, text, walk
from challenges.recommendation.clicks.prepare.engine import Local, opened
from challenges.recommendation.clicks.prepared import Prepared
from challenges.recommendation.clicks.spec import FIRST
from challenges.recommendation.clicks.vocabulary import vocabulary_file
from common.errors import DataError, TrainingError
from common.storage.run_lock import hold
from tests.recommendation.clicks.builders import (
    column_of,
    content_of,
    criteo_lines,
    prepare_criteo,
    write_criteo,
)

LINES = criteo_lines(900)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(text, "CHUNK_BYTES", 40_000)
    monkeypatch.setattr(walk, "PARTITION_BYTES", 60_000)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for name, lines in (("train.tsv.gz", LINES[:700]), ("valid.tsv", LINES[700:800]), ("test.tsv", LINES[800:])):
        write_criteo(folder, lines, name)
    return folder


def test_ids_numbers_and_labels_are_those_of_a_plain_loop(source, tmp_path):
    found = prepare_criteo(source, tmp_path / "out", threshold=3)
    assert found.rows == {"train": 700, "validation": 100, "test": 100}
    cells = [line.split("\t") for line in LINES]
    for place, column in enumerate(found.spec.categorical):
        counts = collections.Counter(row[14 + place] for row in cells[:700])
        kept = sorted(
            (value for value in counts if value and counts[value] >= 3), key=lambda value: (-counts[value], value)
        )
        ids = {"": 0} | {value: FIRST + number for number, value in enumerate(kept)}
        assert column.cardinality == len(kept) + FIRST
        written = pl.read_parquet(vocabulary_file(found.folder, place))
        assert written["value"].to_list() == kept
        assert written["count"].to_list() == [counts[value] for value in kept]
        for split, rows in (("train", cells[:700]), ("validation", cells[700:800]), ("test", cells[800:])):
            expected = [ids.get(row[14 + place], 1) for row in rows]
            assert column_of(found, split, "categorical")[:, place].tolist() == expected
    numbers = np.array([[float(cell or 0) for cell in row[1:14]] for row in cells[:700]])
    dense = column_of(found, "train", "dense")
    np.testing.assert_allclose(dense, np.log(np.maximum(numbers, -2) + 3), rtol=1e-6)
    assert column_of(found, "train", "label").tolist() == [float(row[0]) for row in cells[:700]]
    np.testing.assert_allclose([column.mean for column in found.spec.dense], dense.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose([column.deviation for column in found.spec.dense], dense.std(axis=0), rtol=1e-4)
    assert all(column.edges[0] == low for column, low in zip(found.spec.dense, dense.min(axis=0), strict=True))
    assert not (found.folder / ".parts").exists()


def test_tables_can_be_bounded(source, tmp_path):
    bounded = prepare_criteo(source, tmp_path / "bounded", max_rows=10)
    assert max(column.cardinality for column in bounded.spec.categorical) == 10
    hashed = prepare_criteo(source, tmp_path / "hashed", hash_above=50)
    free = prepare_criteo(source, tmp_path / "free")
    for mine, column in zip(hashed.spec.categorical, free.spec.categorical, strict=True):
        assert mine.hashed == (column.cardinality - FIRST > 50)
        assert mine.cardinality == (50 if mine.hashed else column.cardinality)
    ids = column_of(hashed, "test", "categorical")
    assert ids[:, -1].max() < 50
    assert set(ids[:, -1].tolist()) & {1} == set()


class Killed(BaseException):
    pass


class Mortal(Local):
    """Dies after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def run(self, step, job, numbers, tell):
        def mortal(job, number):
            if not self.left:
                raise Killed
            self.left -= 1
            return step(job, number)

        return super().run(mortal, job, numbers, tell)


def test_cut_off_anywhere_it_goes_on_and_ends_the_same(source, tmp_path, monkeypatch):
    whole = content_of(prepare_criteo(source, tmp_path / "whole").folder)
    out = tmp_path / "resumed"
    deaths, counted = 0, []
    original = counting.read_rows
    monkeypatch.setattr(counting, "read_rows", lambda job, chunk: counted.append(chunk) or original(job, chunk))
    while True:
        try:
            prepare_criteo(source, out, engine=Mortal(17 + deaths))
            break
        except Killed:
            deaths += 1
    assert deaths > 2
    assert len(counted) == len(set(counted))
    assert content_of(out) == whole
    monkeypatch.setattr(encoding, "read_rows", None)
    assert prepare_criteo(source, out).rows == Prepared.open(out).rows  # nothing is left to do


@pytest.mark.slow
def test_dask_writes_the_same_bytes(source, tmp_path):
    pytest.importorskip("dask.distributed", reason="the extra dask is not installed")
    here = content_of(prepare_criteo(source, tmp_path / "here").folder)
    with opened("dask") as engine:
        there = prepare_criteo(source, tmp_path / "there", engine=engine)
    assert content_of(there.folder) == here


def test_only_the_same_preparation_goes_on(source, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Killed):
        prepare_criteo(source, out, engine=Mortal(3))
    with pytest.raises(DataError, match="holds a preparation of another options"):
        prepare_criteo(source, out, threshold=5)
    write_criteo(source, LINES[800:850], "test.tsv")
    with pytest.raises(DataError, match="holds a preparation of another source"):
        prepare_criteo(source, out)


def test_several_find_a_finished_preparation_at_once(source, tmp_path):
    out = tmp_path / "out"
    first = prepare_criteo(source, out)
    with hold(out, "prepare", shared=True):  # as another process of a training does
        assert prepare_criteo(source, out).fingerprint() == first.fingerprint()


def test_what_the_kit_did_not_write_stays(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"files that kit prepare did not write, such as thesis.txt"):
        prepare_criteo(source, out)
    assert content_of(out) == {"thesis.txt": b"mine"}


def test_a_disk_too_full_is_told_before(source, tmp_path, monkeypatch):
    free = collections.namedtuple("Usage", "total used free")(10, 10, 1_000)
    monkeypatch.setattr(walk.shutil, "disk_usage", lambda path: free)
    with pytest.raises(TrainingError, match=r"Preparing needs about .* GiB"):
        prepare_criteo(source, tmp_path / "out")


def test_a_folder_changed_since_is_refused(source, tmp_path):
    found = prepare_criteo(source, tmp_path / "out")
    path = found.split("test")[0]
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    with pytest.raises(DataError, match=r"test/.* was changed since it was prepared"):
        Prepared.open(found.folder)
    path.unlink()
    with pytest.raises(DataError, match=r"test/.* is gone since it was prepared"):
        Prepared.open(found.folder)
    with pytest.raises(DataError, match="is no prepared folder"):
        Prepared.open(source)
