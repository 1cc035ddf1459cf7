"""The loader gives every row once, in an order that any batch can be resumed in."""

import itertools
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import DataError
from common.machine.distributed import ALONE, World
from common.tables import parquet
from common.tables.loader import TableConfig
from common.tables.parquet import ParquetLoader, Rows
from common.tables.prefetch import prefetched
from tests.common.tables.builders import assert_rows_fit, rows_of, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("tables"))


def loader(files, world=ALONE, **settings):
    return ParquetLoader(files, TableConfig(**{"batch_size": 64, "buffer_rows": 200, **settings}), world)


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("buffer_rows", [1, 64, 200, 10_000])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_every_row_comes_once_with_what_belongs_to_it(files, buffer_rows, shuffle, prefetch):
    tables = loader(files, buffer_rows=buffer_rows, shuffle=shuffle, prefetch=prefetch, drop_last=False)
    batches = list(tables.epoch(0))
    assert len(batches) == tables.batches_per_epoch == 16
    assert [len(batch["row"]) for batch in batches] == [64] * 15 + [43]
    assert (rows_of(batches) == list(range(1003))) != shuffle
    assert sorted(rows_of(batches)) == list(range(1003))
    for batch in batches:
        assert_rows_fit(batch)
    assert {name: values.dtype for name, values in batches[0].items()} == {
        "row": torch.int64,
        "price": torch.float32,
        "history__values": torch.int64,
        "history__offsets": torch.int64,
    }


def test_the_last_batch_is_left_out_or_not(files):
    assert [len(batch["row"]) for batch in loader(files).epoch(0)] == [64] * 15
    assert loader(files).batches_per_epoch == 15


def test_the_seed_and_the_epoch_decide_the_order(files):
    orders = [rows_of(loader(files, seed=seed).epoch(epoch)) for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_rows_from_far_apart_meet(files):
    first = rows_of(itertools.islice(loader(files).epoch(0), 1))
    assert max(first) - min(first) > 200


@pytest.mark.parametrize("size", [1, 2, 4])
def test_resuming_gives_what_would_have_come(files, size):
    for rank in range(size):
        world = World(rank, size, rank, size)
        whole = list(itertools.islice(loader(files, world).batches(), 40))
        for first in (1, 7, 15, 16, 33):
            resumed = loader(files, world).batches(first)
            assert all(equal(next(resumed), batch) for batch in whole[first : first + 5])


@pytest.mark.parametrize("size", [2, 4])
def test_processes_share_the_rows(files, size):
    ranks = [loader(files, World(rank, size, rank, size)) for rank in range(size)]
    rows = [rows_of(one.epoch(0)) for one in ranks]
    assert {one.batches_per_epoch for one in ranks} == {15}
    assert {len(part) for part in rows} == {15 * 64 // size}
    assert len(set().union(*rows)) == 15 * 64
    whole = [rows_of(loader(files, one.world, drop_last=False).epoch(0)) for one in ranks]
    assert sorted(itertools.chain(*whole)) == list(range(1003))


def test_resuming_reads_nothing_that_lies_before(files, monkeypatch):
    tables = loader(files, prefetch=0)
    read = []
    original = parquet.read_group
    monkeypatch.setattr(parquet, "read_group", lambda *asked: read.append(asked) or original(*asked))
    next(tables.epoch(0, first_batch=14))
    assert 0 < len(read) <= 6  # two buffers of three row groups each, of sixteen


def test_columns_can_be_chosen(files):
    assert set(next(loader(files, columns=("price",)).epoch(0))) == {"price"}
    with pytest.raises(DataError, match="no column cost"):
        loader(files, columns=("cost",))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["a", "b"]), "column x is string"),
        (pa.array([1, None]), "row group 0: column x has missing values"),
        (pa.array([["a"], ["b"]]), "column x is list"),
    ],
)
def test_what_cannot_be_a_tensor_is_refused(tmp_path, column, message):
    pq.write_table(pa.table({"x": column}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        list(loader((tmp_path / "x.parquet",), batch_size=1).epoch(0))


def test_damaged_and_differing_files(files, tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="no readable Parquet"):
        loader((tmp_path / "x.parquet",))
    pq.write_table(pa.table({"other": [1]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match="other columns"):
        loader((files[0], tmp_path / "y.parquet"))
    with pytest.raises(DataError, match="cannot be cut among 3"):
        loader(files, World(0, 3, 0, 3))
    with pytest.raises(DataError, match="do not fill a batch"):
        next(loader(files, batch_size=2000).batches())
    with pytest.raises(DataError, match="No table files"):
        loader(())


def test_errors_of_the_thread_are_raised_here():
    def make():
        yield 1
        raise DataError("broken")

    items = prefetched(make, 2)
    assert next(items) == 1
    with pytest.raises(DataError, match="broken"):
        next(items)


def test_closing_ends_the_thread():
    closed = threading.Event()

    def make():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    items = prefetched(make, 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_no_more_is_made_ahead_than_asked_for():
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    items = prefetched(make, 2)
    next(items)
    time.sleep(0.05)
    assert len(made) <= 5
    items.close()


def test_joined_rows_write_over_memory_that_is_given_up_and_large_enough():
    def part(start, count, kind=np.float32):
        numbers = np.arange(start, start + count, dtype=kind)
        offsets = np.arange(count + 1, dtype=np.int64) * 2
        return Rows({"pair": np.stack([numbers, -numbers], 1)}, {"list": (offsets, np.repeat(numbers, 2))})

    def right(rows, numbers):
        return (
            rows.flat["pair"][:, 1].tolist() == [-n for n in numbers]
            and rows.ragged["list"][1].tolist() == np.repeat(numbers, 2).tolist()
            and rows.ragged["list"][0].tolist() == list(range(0, 2 * len(numbers) + 1, 2))
        )

    first = Rows.joined(iter([part(0, 3), part(3, 2)]), 5)
    assert right(first, range(5))
    shorter = Rows.joined([part(7, 2)], 2, first)
    assert right(shorter, range(7, 9))
    assert np.shares_memory(shorter.flat["pair"], first.flat["pair"])
    whole = Rows.joined([part(0, 5)], 5, shorter)
    assert right(whole, range(5))
    assert np.shares_memory(whole.flat["pair"], first.flat["pair"])
    for other in (Rows.joined([part(0, 6)], 6, whole), Rows.joined([part(0, 5, np.float64)], 5, whole)):
        assert not np.shares_memory(other.flat["pair"], whole.flat["pair"])
