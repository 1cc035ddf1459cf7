"""A chunk's rows, clean, labelled and dealt out among the splits."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from challenges.recommendation.clicks.hashing import hash_texts
from challenges.recommendation.clicks.prepare.job import SPLITS, TRUTH, Chunk, Job, Split, dealt
from challenges.recommendation.clicks.spec import Label, require_columns
from challenges.recommendation.clicks.transform import Place, clean, texts_of
from common.errors import DataError


@dataclass(frozen=True, eq=False)
class Rows:
    """table: clean columns. label, split: (row,) uint8. group: (row,) int64. truth: (row,) float32 or None."""

    table: pl.DataFrame
    label: np.ndarray
    split: np.ndarray
    group: np.ndarray | None
    truth: np.ndarray | None

    def table_of(self, split: Split) -> pl.DataFrame:
        mine = self.split == SPLITS.index(split)
        return self.table if mine.all() else self.table.filter(pl.Series(mine))


def read_rows(job: Job, chunk: Chunk) -> Rows:
    """Raises DataError with the place of the first cell that cannot be."""
    spec = job.spec
    raw = job.reader.read(chunk, job.columns)
    require_columns(spec, raw.columns, chunk.path, label=True)

    def place(row: int) -> str:
        return job.reader.place(chunk, row)

    return Rows(
        clean(raw, spec, place),
        label_values(raw[spec.label.name], spec.label, place),
        dealt(chunk, len(raw)),
        (hash_texts(texts_of(raw[spec.group])) >> np.uint64(1)).astype(np.int64) if spec.group else None,
        raw[TRUTH].to_numpy() if TRUTH in raw.columns else None,
    )


def label_values(cells: pl.Series, label: Label, place: Place) -> np.ndarray:
    """(row,) uint8."""
    texts = texts_of(cells)
    values = texts.replace_strict(dict(label.values), default=None, return_dtype=pl.UInt8)
    missing = values.is_null()
    if missing.any():
        row = int(missing.arg_max() or 0)
        allowed = ", ".join(f"{text} ({value})" for text, value in label.values.items())
        told = "empty" if texts[row] is None else texts[row]
        raise DataError(f"{place(row)}: the label {cells.name} is {told}.", f"It can be {allowed}.")
    return values.to_numpy()
