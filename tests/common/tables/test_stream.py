"""The stream's order depends on seed and position alone, whoever reads it and from wherever."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.errors import DataError
from common.machine.distributed import World
from common.tables import stream
from common.tables.stream import TableStream
from tests.common.tables.builders import assert_rows_fit, rows_of, write_files

ROWS = 1003
COLUMNS = ("row", "price", "history")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("tables"))


def made(files, world=World(), prefetch=0, **settings):  # noqa: B008 (frozen)
    return TableStream(files, COLUMNS, world=world, buffer_rows=200, prefetch=prefetch, **settings)


def first(batches, count):
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_batches_are_full_and_every_row_comes_once_an_epoch(files, prefetch):
    batches = first(made(files, prefetch=prefetch).batches(0, 64), 63)
    assert {len(batch["row"]) for batch in batches} == {64}
    for batch in batches:
        assert_rows_fit(batch)
    rows = rows_of(batches)
    for epoch in range(3):
        assert sorted(rows[epoch * ROWS : (epoch + 1) * ROWS]) == list(range(ROWS))
    assert rows[:ROWS] != rows[ROWS : 2 * ROWS]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_union_is_the_same_at_any_world_size_and_accumulation(files, size, accumulation):
    batch, steps = 60, 20
    alone = first(made(files).batches(0, batch), steps)
    ranks = [
        first(made(files, World(rank, size)).batches(0, batch, accumulation), steps * accumulation)
        for rank in range(size)
    ]
    for step, whole in enumerate(alone):
        parts = [rank[step * accumulation : (step + 1) * accumulation] for rank in ranks]
        assert rows_of(itertools.chain(*parts)) == whole["row"].tolist()


def test_another_number_of_processes_goes_on_where_one_stopped(files):
    whole = rows_of(first(made(files).batches(0, 64), 40))
    for step in (0, 1, 15, 16, 33):  # the sixteenth straddles two epochs
        resumed = [next(made(files, World(rank, 2)).batches(step, 64)) for rank in range(2)]
        assert rows_of(resumed) == whole[step * 64 : (step + 1) * 64]


def test_the_seed_decides(files):
    one, same, other = (rows_of(first(made(files, seed=seed).batches(0, 64), 15)) for seed in (1, 1, 2))
    assert one == same != other


def test_resuming_reads_one_buffer(files, monkeypatch):
    read = []
    original = stream.read_group
    monkeypatch.setattr(stream, "read_group", lambda *asked: read.append(asked) or original(*asked))
    next(made(files).batches(14, 32))
    assert 0 < len(read) <= 6  # of sixteen row groups


@pytest.mark.parametrize("size", [1, 3])
def test_once_gives_every_row_once_over_all_processes(files, size):
    rows = [rows_of(made(files, World(rank, size)).once(50)) for rank in range(size)]
    assert sorted(itertools.chain(*rows)) == list(range(ROWS))


def test_lists_of_one_length_become_one_array(tmp_path):
    packed = np.arange(30, dtype=np.int32).reshape(10, 3)
    table = pa.table({"ids": pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), 3)})
    pq.write_table(table, tmp_path / "packed.parquet", row_group_size=4)
    batches = TableStream((tmp_path / "packed.parquet",), ("ids",)).once(100)
    torch.testing.assert_close(torch.cat([batch["ids"] for batch in batches]), torch.from_numpy(packed))


def test_a_changed_page_is_refused(tmp_path):
    path = tmp_path / "table.parquet"
    table = pa.table({"row": np.arange(100)})
    pq.write_table(
        table, path, compression="none", use_dictionary=False, write_statistics=False, write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="row group 0, cannot be read"):
        next(TableStream((path,), ("row",)).once(10))


def test_what_cannot_be_cut_is_refused(files):
    with pytest.raises(DataError, match="64 rows cannot be cut into 3 equal parts"):
        made(files, World(0, 3)).batches(0, 64)
