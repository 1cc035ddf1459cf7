"""The first map and the reduce: how often each value occurs, and how the numbers are spread, in the training rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from challenges.recommendation.clicks.hashing import hash_texts
from challenges.recommendation.clicks.prepare.job import SPLITS, Job
from challenges.recommendation.clicks.prepare.rows import read_rows
from challenges.recommendation.clicks.spec import FIRST, Categorical, Dense
from challenges.recommendation.clicks.transform import encode_dense
from challenges.recommendation.clicks.vocabulary import vocabulary_file
from common.errors import DataError
from common.files import atomic_writer

SAMPLE_ROWS = 1 << 18
"""Of the training data, evenly spaced, for the quantiles of numbers."""
QUANTILES, MOST_EDGES = 128, 256
PENDING_ROWS = 1 << 21  # of counts that are held before they are added up
_COUNTS = {"column": pl.UInt16, "value": pl.String, "count": pl.UInt64}


class Counted(NamedTuple):
    """What one chunk says.

    rows, positives: (split,) int64. The rest is of the training rows. present: (looked-up column,) int64 values.
    mean, spread: (dense,) float64; spread is the sum of squares around the mean. sample: (row, dense) float32.
    """

    rows: np.ndarray
    positives: np.ndarray
    present: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    sample: np.ndarray


def count_chunk(job: Job, number: int) -> Counted:
    """Write the counts of the chunk's training values, cut into partitions by hash; done before: read what it said."""
    said = _said(job, number)
    if said.is_file():
        with np.load(said) as kept:
            return Counted(*(kept[name] for name in Counted._fields))
    rows = read_rows(job, job.chunks[number])
    training = rows.table_of("train")
    counts = _value_counts(job, training)
    _write_partitions(_counts_file(job, number), counts, job.partitions)
    dense = [encode_dense(training[column.name], column) for column in job.spec.dense]
    stacked = np.stack(dense, axis=1) if dense else np.zeros((len(training), 0), np.float32)
    wide = stacked.astype(np.float64)
    mean = wide.mean(axis=0) if len(wide) else np.zeros(wide.shape[1])
    taken = min(len(stacked), -(-SAMPLE_ROWS // len(job.chunks)))
    counted = Counted(
        rows=np.bincount(rows.split, minlength=len(SPLITS)),
        positives=np.bincount(rows.split, rows.label, len(SPLITS)).astype(np.int64),
        present=np.bincount(counts["column"], counts["count"], len(job.spec.looked_up)).astype(np.int64),
        mean=mean,
        spread=((wide - mean) ** 2).sum(axis=0),
        sample=stacked[np.linspace(0, len(stacked) - 1, taken).astype(np.int64)],
    )
    with atomic_writer(said) as stream:
        np.savez(stream, **counted._asdict())
    return counted


def merge_partition(job: Job, partition: int) -> None:
    """Add up the counts of one partition over all chunks, and keep what reaches its column's threshold."""
    target = _merged_file(job, partition)
    if target.is_file():
        return
    total = pl.DataFrame(schema=_COUNTS)
    pending: list[pl.DataFrame] = []
    for number in range(len(job.chunks)):
        with pq.ParquetFile(_counts_file(job, number)) as file:
            pending.append(pl.DataFrame(pl.from_arrow(file.read_row_group(partition))))
        if sum(map(len, pending)) > PENDING_ROWS:
            total, pending = _added([total, *pending]), []
    total = _added([total, *pending])
    least = np.array([_threshold(job, column) for column in job.spec.looked_up], np.uint64)
    kept = total.filter(total["count"] >= pl.Series(least[total["column"].to_numpy()])) if len(total) else total
    with atomic_writer(target) as stream:
        kept.sort("column").write_parquet(stream, row_group_size=1 << 18)


@dataclass(frozen=True)
class Numbered:
    """cells: values in the training rows that have an id of their own."""

    column: Categorical
    cells: int


def number_column(job: Job, number: int) -> Numbered:
    """Write a column's vocabulary by count and value, as far as --max-rows goes; or have it hashed by --hash-above."""
    column = replace(job.spec.looked_up[number], threshold=_threshold(job, job.spec.looked_up[number]))
    merged = [_merged_file(job, partition) for partition in range(job.partitions)]
    found = pl.scan_parquet(merged).filter(pl.col("column") == number).select("value", "count").collect()
    above = job.options.hash_above
    if column.hashed or (above is not None and len(found) > above):
        size = min(filter(None, (above, job.options.max_rows, column.cardinality or None)), default=0)
        if size < FIRST + 1:
            raise DataError(
                f"Column {column.name} is to be hashed, and nothing says into how many ids.",
                remedy="Give --hash-above N.",
            )
        return Numbered(replace(column, hashed=True, cardinality=size), int(found["count"].sum()))
    kept = found.sort(["count", "value"], descending=[True, False])
    if job.options.max_rows is not None:
        kept = kept.head(job.options.max_rows - FIRST)
    with atomic_writer(vocabulary_file(job.output, number)) as stream:
        kept.write_parquet(stream)
    return Numbered(replace(column, hashed=False, cardinality=len(kept) + FIRST), int(kept["count"].sum()))


def describe_dense(columns: Sequence[Dense], counted: Sequence[Counted]) -> tuple[Dense, ...]:
    """The columns with mean, deviation and quantiles of all chunks together, added up in the chunks' order."""
    rows, mean, spread = 0, np.zeros(len(columns)), np.zeros(len(columns))
    for one in counted:
        more = int(one.rows[0])
        if more:
            apart = one.mean - mean
            spread = spread + one.spread + apart**2 * (rows * more / (rows + more))
            mean = mean + apart * (more / (rows + more))
            rows += more
    sample = np.concatenate([one.sample for one in counted])
    deviation = np.sqrt(spread / max(rows, 1))
    return tuple(
        replace(
            column,
            mean=float(np.float32(mean[place])),
            deviation=float(np.float32(deviation[place])) or 1.0,
            edges=_edges(sample[:, place]),
        )
        for place, column in enumerate(columns)
    )


def _edges(sample: np.ndarray) -> tuple[float, ...]:
    """A column's own values where they are few, so that those beside a frequent one have edges too; else quantiles."""
    values = np.unique(sample)
    if len(values) > MOST_EDGES:
        values = np.unique(np.quantile(sample, np.linspace(0, 1, QUANTILES + 1), method="lower"))
    return tuple(map(float, values))


def temporary_files(job: Job) -> list[Path]:
    """All that the three steps write and nothing else needs."""
    counts = [path for number in range(len(job.chunks)) for path in (_counts_file(job, number), _said(job, number))]
    return counts + [_merged_file(job, partition) for partition in range(job.partitions)]


def _value_counts(job: Job, table: pl.DataFrame) -> pl.DataFrame:
    counts = [pl.DataFrame(schema=_COUNTS)]
    for number, column in enumerate(job.spec.looked_up):
        values = table[column.name]
        if values.dtype == pl.List:
            values = values.drop_nulls().explode(empty_as_null=True)
        found = values.drop_nulls().rename("value").value_counts(name="count")
        counts.append(found.select(pl.lit(number, pl.UInt16).alias("column"), "value", pl.col("count").cast(pl.UInt64)))
    return pl.concat(counts)


def _write_partitions(path: Path, counts: pl.DataFrame, partitions: int) -> None:
    """A row group of each partition, also an empty one."""
    places = pl.Series("place", hash_texts(counts["value"]) % np.uint64(partitions))
    with (
        atomic_writer(path) as stream,
        pq.ParquetWriter(stream, _ARROW, compression="lz4", use_dictionary=False) as file,
    ):
        for partition in range(partitions):
            rows = counts.filter(places == partition).to_arrow(compat_level=pl.CompatLevel.oldest())
            file.write_table(rows.cast(_ARROW), row_group_size=max(len(rows), 1))


_ARROW = pa.schema([("column", pa.uint16()), ("value", pa.large_string()), ("count", pa.uint64())])


def _added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by("column", "value").agg(pl.col("count").sum())


def _threshold(job: Job, column: Categorical) -> int:
    return column.threshold if job.options.threshold is None else job.options.threshold


def _counts_file(job: Job, number: int) -> Path:
    return job.parts / f"counts-{number:05}.parquet"


def _said(job: Job, number: int) -> Path:
    return job.parts / f"counts-{number:05}.npz"


def _merged_file(job: Job, partition: int) -> Path:
    return job.parts / f"merged-{partition:05}.parquet"
