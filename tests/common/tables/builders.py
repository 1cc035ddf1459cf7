"""Small tables with flat and ragged columns, and loaders' batches put together again."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def make_table(rows=1003, seed=0):
    """row: 0 on; price: float; history: lists of 0 to 5 numbers that tell the row they belong to."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 6, rows))])
    owners = np.repeat(np.arange(rows), np.diff(offsets))
    values = owners * 10 + np.arange(offsets[-1]) - offsets[owners]
    return pa.table(
        {
            "row": np.arange(rows),
            "price": np.arange(rows, dtype=np.float32) / 4,
            "history": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values)),
        }
    )


def write_files(folder, sizes=(500, 3, 500), group=70):
    """Parquet files whose `row` counts on from one to the next."""
    table, start, files = make_table(sum(sizes)), 0, []
    for number, size in enumerate(sizes):
        files.append(folder / f"part{number}.parquet")
        pq.write_table(table.slice(start, size), files[-1], row_group_size=group)
        start += size
    return tuple(files)


def rows_of(batches):
    return [row for batch in batches for row in batch["row"].tolist()]


def assert_rows_fit(batch):
    """Every other column of a batch is what belongs to its rows."""
    rows = batch["row"].tolist()
    offsets, values = batch["history__offsets"].tolist(), batch["history__values"].tolist()
    assert offsets[0] == 0
    assert offsets[-1] == len(values)
    assert len(offsets) == len(rows) + 1
    lengths = np.diff(make_table()["history"].combine_chunks().offsets.to_numpy())
    for place, row in enumerate(rows):
        assert batch["price"][place].item() == row / 4
        history = values[offsets[place] : offsets[place + 1]]
        assert history == [row * 10 + position for position in range(lengths[row])]
