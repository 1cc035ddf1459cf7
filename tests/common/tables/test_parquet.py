"""What files hold becomes tensors or is refused; rows share memory, and are made ahead."""

import itertools
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import DataError
from common.tables.parquet import Rows
from common.tables.prefetch import prefetched
from common.tables.stream import TableStream
from tests.common.tables.builders import write_files


def read(path, *columns):
    return list(TableStream((path,), columns).once(1))


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
        read(tmp_path / "x.parquet", "x")


def test_damaged_files_and_columns_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="no readable Parquet"):
        read(tmp_path / "x.parquet", "x")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "y.parquet")
    with pytest.raises(DataError, match="no column cost"):
        read(tmp_path / "y.parquet", "cost")


def test_columns_keep_the_types_of_the_file(tmp_path):
    (batch,) = TableStream(write_files(tmp_path, sizes=(3,)), ("row", "price", "history")).once(3)
    assert {name: values.dtype for name, values in batch.items()} == {
        "row": torch.int64,
        "price": torch.float32,
        "history__values": torch.int64,
        "history__offsets": torch.int64,
    }


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
