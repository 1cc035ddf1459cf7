"""The second map: a chunk's rows as packed Parquet, a file of each split."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from challenges.recommendation.clicks.prepare.job import SPLITS, Job
from challenges.recommendation.clicks.prepare.rows import Rows, read_rows
from challenges.recommendation.clicks.transform import Transform
from common.files import atomic_writer, read_json, sha256, write_json

ROW_GROUP = 131_072

FileFacts = dict[str, dict[str, int | str]]
"""Path below the folder -> rows, bytes and sha256."""


def encode_chunk(job: Job, number: int) -> FileFacts:
    """Write the chunk's file of each split that has rows of it; done before: say again what was written."""
    said = _said(job, number)
    if said.is_file():
        return dict(read_json(said))
    rows = read_rows(job, job.chunks[number])
    transform = _transform(job.output, repr(job.spec))
    whole = _packed(rows, transform)
    written: FileFacts = {}
    for place, split in enumerate(SPLITS):
        mine = rows.split == place
        if mine.any():
            path = job.output / split / f"{number:05}.parquet"
            _write(path, whole if mine.all() else whole.filter(pa.array(mine)))
            name = path.relative_to(job.output).as_posix()
            written[name] = {"rows": int(mine.sum()), "bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(said, written)
    return written


def temporary_files(job: Job) -> list[Path]:
    return [_said(job, number) for number in range(len(job.chunks))]


@functools.lru_cache(maxsize=1)
def _transform(folder: Path, _spec: str) -> Transform:
    """Read once by each process and spec."""
    return Transform.read(folder)


def _packed(rows: Rows, transform: Transform) -> pa.Table:
    encoded = transform.encode(rows.table)
    columns = {"dense": _fixed(encoded.dense, pa.float32()), "categorical": _fixed(encoded.categorical, pa.int32())}
    for name, (values, offsets) in encoded.multi_hot.items():
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
    columns["label"] = pa.array(rows.label.astype(np.float32))
    if rows.group is not None:
        columns["group"] = pa.array(rows.group)
    if rows.truth is not None:
        columns["truth"] = pa.array(rows.truth.astype(np.float32))
    return pa.table({name: column for name, column in columns.items() if column is not None})


def _fixed(values: np.ndarray, kind: pa.DataType) -> pa.Array | None:
    """(row, n) as a column of lists of n; None where n is 0."""
    if not values.shape[1]:
        return None
    item = pa.field("element", kind, nullable=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=pa.list_(item, values.shape[1]))


def _write(path: Path, table: pa.Table) -> None:
    """In row groups of one size, of ROW_GROUP rows at most; every page with its checksum."""
    groups = -(-len(table) // ROW_GROUP)
    schema = pa.schema([field.with_nullable(False) for field in table.schema])
    with (
        atomic_writer(path) as stream,
        pq.ParquetWriter(
            stream, schema, compression="lz4", use_dictionary=False, write_statistics=False, write_page_checksum=True
        ) as file,
    ):
        file.write_table(table.cast(schema), row_group_size=-(-len(table) // groups))


def _said(job: Job, number: int) -> Path:
    return job.parts / f"encoded-{number:05}.json"
