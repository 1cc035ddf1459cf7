"""Raw values into numbers and ids: one function, which preparing runs on chunks and a server on requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from challenges.recommendation.clicks.spec import Dense, FeatureSpec, MultiHot, require_columns
from challenges.recommendation.clicks.vocabulary import Vocabulary, ids_of, read_vocabularies
from common.errors import DataError

LOG_SHIFT, LOG_DOMAIN = 3.0, -3.0
Place = Callable[[int], str]
"""Tells where row n of a table came from."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows as a model takes them; the arrays as clicks/spec.py names them.

    dense: (row, dense) float32. categorical: (row, categorical) int32. multi_hot: column -> (values, offsets).
    """

    dense: np.ndarray
    categorical: np.ndarray
    multi_hot: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Transform:
    """A spec with its vocabularies: what a prepared folder and a served model carry."""

    spec: FeatureSpec
    vocabularies: tuple[Vocabulary | None, ...]

    @staticmethod
    def read(folder: Path) -> "Transform":
        """From features.json and vocabulary/ in `folder`."""
        spec = FeatureSpec.read(folder)
        return Transform(spec, read_vocabularies(folder, spec))

    def encode(self, table: pl.DataFrame) -> Encoded:
        """The rows of a clean table."""
        dense = [encode_dense(table[column.name], column) for column in self.spec.dense]
        number = len(self.spec.categorical)
        flat = zip(self.spec.categorical, self.vocabularies[:number], strict=True)
        ids = [ids_of(table[column.name], column, vocabulary) for column, vocabulary in flat]
        several = zip(self.spec.multi_hot, self.vocabularies[number:], strict=True)
        return Encoded(
            _stacked(dense, len(table), np.float32),
            _stacked(ids, len(table), np.int32),
            {column.name: _ragged(table[column.name], column, vocabulary) for column, vocabulary in several},
        )

    def answer_to(self, request: Mapping[str, Sequence[Any]]) -> Encoded:
        """Raw values of a request: text, numbers or None, of as many rows in every column.

        A number that is none, not finite or no number counts as missing, one below the log's domain as its end. Raises
        DataError where a column is missing, or is not a column of single values.
        """
        require_columns(self.spec, list(request), "The request", label=False)
        between = {column.name: column.separator for column in self.spec.multi_hot}
        columns = {name: _series(name, request[name], between.get(name)) for name in self.spec.raw_columns}
        if len({len(values) for values in columns.values()}) > 1:
            told = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
            raise DataError("The request's columns have different numbers of rows.", f"They have: {told}.")
        return self.encode(clean(pl.DataFrame(columns), self.spec))


def clean(table: pl.DataFrame, spec: FeatureSpec, place: Place | None = None) -> pl.DataFrame:
    """The spec's feature columns as Float64, String or lists of String, with null where there is nothing.

    place: given where data is prepared. A number that is none, is not finite or below the log's domain then raises
    DataError with its place; left out, it is missing, or the end of the domain.
    """
    columns = [_numbers(table[column.name], column, place) for column in spec.dense]
    columns += [texts_of(table[column.name]) for column in spec.categorical]
    columns += [_several(table[column.name], column) for column in spec.multi_hot]
    return pl.DataFrame(columns)


def count_unread(spec: FeatureSpec, request: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many texts of each column of numbers are there and no finite number; columns without such are left out."""
    found = {}
    for column in spec.dense:
        texts = pl.Series(request[column.name], dtype=pl.String).str.strip_chars()
        numbers = texts.cast(pl.Float64, strict=False)
        found[column.name] = int(((texts != "") & ~numbers.is_finite().fill_null(False)).sum())
    return {name: count for name, count in found.items() if count}


def texts_of(values: pl.Series) -> pl.Series:
    """As text without white space around it; whole numbers without a point, however they were written."""
    kind = values.dtype
    if kind == pl.Boolean:
        values = values.cast(pl.Int8)
    elif kind.is_float():
        values = values.fill_nan(None)
    elif kind in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    elif not (kind == pl.String or kind.is_integer() or kind == pl.Null or kind.is_temporal()):
        raise DataError(f"Column {values.name} holds {kind}.", "A categorical column holds text or numbers.")
    texts = values.cast(pl.String).str.strip_chars()
    if texts.str.ends_with(".0").any():
        texts = texts.str.replace(r"^(-?\d+)\.0$", "$1")
    empty = texts.str.len_bytes() == 0
    return texts.set(empty, None) if empty.any() else texts


def encode_dense(values: pl.Series, column: Dense) -> np.ndarray:
    """(row,) float32 of a clean column."""
    numbers = values.fill_null(column.missing).to_numpy()
    if column.transform == "log":
        numbers = np.log(np.maximum(numbers, LOG_DOMAIN + 1) + LOG_SHIFT)
    return numbers.astype(np.float32)


def _numbers(values: pl.Series, column: Dense, place: Place | None) -> pl.Series:
    if not (values.dtype.is_numeric() or values.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise DataError(f"Column {column.name} holds {values.dtype}.", "A dense column holds numbers, or text of them.")
    raw, numbers = values, values.cast(pl.Float64, strict=False)
    if values.dtype == pl.String and numbers.null_count() > values.null_count():  # not for the usual cell's sake
        raw = texts_of(values)
        numbers = raw.cast(pl.Float64, strict=False)
    if place is not None:
        _refuse(raw.is_not_null() & numbers.is_null(), values, place, "A dense column holds numbers, or nothing.")
        _refuse(numbers.is_finite().not_(), values, place, "Leave the cell empty where there is no number.")
        if column.transform == "log":
            lowest = f"The log is log(x + {LOG_SHIFT:g}), for numbers from {LOG_DOMAIN:g} on; transform none takes all."
            _refuse(numbers < LOG_DOMAIN, values, place, lowest)
    finite = numbers.is_finite()
    return numbers if finite.all() else numbers.set(finite.not_(), None)


def _refuse(bad: pl.Series, values: pl.Series, place: Place, allowed: str) -> None:
    row = bad.arg_max() if bad.any() else None
    if row is not None:
        raise DataError(f"{place(row)}: column {values.name} is {values[row]}.", allowed)


def _several(values: pl.Series, column: MultiHot) -> pl.Series:
    if values.dtype == pl.List:
        parts = values
    elif values.dtype in (pl.String, pl.Null):
        parts = texts_of(values).str.split(column.separator)
    else:
        raise DataError(f"Column {column.name} holds {values.dtype}.", "A multi-hot column holds text or lists.")
    flat = pl.DataFrame({"row": np.arange(len(parts)), "part": parts}).explode("part", empty_as_null=True)
    kept = flat.with_columns(texts_of(flat["part"]).alias("part")).drop_nulls("part")
    grouped = kept.group_by("row", maintain_order=True).agg("part")
    rows = pl.DataFrame({"row": np.arange(len(parts))}).join(grouped, on="row", how="left", maintain_order="left")
    return rows["part"].cast(pl.List(pl.String)).alias(column.name)


def _ragged(lists: pl.Series, column: MultiHot, vocabulary: Vocabulary | None) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum(lists.list.len().fill_null(0).to_numpy())]).astype(np.int64)
    flat = lists.drop_nulls().explode() if offsets[-1] else pl.Series(column.name, [], pl.String)
    return ids_of(flat, column, vocabulary), offsets


def _stacked(columns: list[np.ndarray], rows: int, kind: type) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), kind)


def _series(name: str, values: Sequence[Any], separator: str | None) -> pl.Series:
    """A request's column; numbers beside text become text, and text beside lists a list.

    separator: of a multi-hot column's text.
    """
    if isinstance(values, np.ndarray):
        values = values.tolist()
    plain = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    for value in plain:
        if not (value is None or isinstance(value, str | bool | int | float | list)):
            raise DataError(f"The request's column {name} holds {type(value).__name__}.", "Text, numbers or null.")
    if separator is not None and any(isinstance(value, list) for value in plain):
        lists = [value.split(separator) if isinstance(value, str) else value for value in plain]
        return pl.Series(name, [None if one is None else [str(part) for part in one] for one in lists])
    kinds = {type(value) for value in plain if value is not None}
    if len(kinds) > 1 and str in kinds:
        plain = [value if value is None else str(int(value) if isinstance(value, bool) else value) for value in plain]
    return pl.Series(name, plain, strict=False)
