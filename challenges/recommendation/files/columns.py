"""Reading the columns of an interactions file block by block, ids as numbers from 0 on, with an error per line."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from challenges.recommendation.files.sources import FORMATS, Layout
from challenges.recommendation.files.text_rows import first_problem, id_problem, time_type
from common.errors import DataError

BLOCK_BYTES = 16 << 20
BLOCK_ROWS = 1 << 20
UNKNOWN_TIME = np.iinfo(np.int64).min
_ID = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, eq=False)
class Columns:
    """An interactions file in its own order.

    users, items: (row,) int32, positions in user_ids and item_ids, which list ids by first appearance.
    ratings:      (row,) float32, or None. times: (row,) int64, UNKNOWN_TIME where missing, or None.
    """

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    times: np.ndarray | None
    user_ids: list[str]
    item_ids: list[str]

    def __len__(self) -> int:
        return len(self.users)

    def pair(self, row: int) -> tuple[str, str]:
        """The ids in one row."""
        return self.user_ids[self.users[row]], self.item_ids[self.items[row]]


class _UnusableError(Exception):
    """Something in a block is wrong; the file is then searched for its line."""


class IdNumbers:
    """Numbers ids from 0 on by first appearance: memory grows with how many there are, never with how large."""

    def __init__(self, role: str, numeric: bool, ids: Iterable[str] = ()) -> None:
        self.role, self.numeric = role, numeric
        self.numbers = {name: number for number, name in enumerate(ids)}

    def add(self, column: pa.Array) -> np.ndarray:
        if column.null_count:
            raise _UnusableError(f"a {self.role} is missing")
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        numbers = np.asarray([self._number(value) for value in encoded.dictionary.to_pylist()], np.int32)
        return numbers[encoded.indices.to_numpy()]

    def _number(self, value: Any) -> int:
        name = value.strip() if isinstance(value, str) else _id_text(value, self.role)
        number = self.numbers.get(name)
        if number is None:
            problem = id_problem(name, self.role, self.numeric)
            if problem:
                raise _UnusableError(problem)
            number = self.numbers[name] = len(self.numbers)
        return number


def _id_text(value: Any, role: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnusableError(f"the {role} {value!r} is neither a number nor text")
    if isinstance(value, float) and not value.is_integer():
        raise _UnusableError(f"the {role} {value!r} is no whole number")
    return str(int(value))


def read_columns(layout: Layout) -> Columns:
    """Read user, item and, where there are such columns, rating and time.

    Memory: about 20 bytes per row, one block of the file, and the distinct ids.
    Raises DataError with the file and the line where a value is not what its column needs.
    """
    users, items = (IdNumbers(role, layout.numeric_ids) for role in ("user", "item"))
    parts: dict[str, list[np.ndarray]] = {role: [] for role in layout.roles}
    rows = 0
    try:
        for block in _parquet_blocks(layout) if not layout.delimiter else _text_blocks(layout):
            for role, numbers in (("user", users), ("item", items)):
                parts[role].append(numbers.add(block[role]))
            if "rating" in layout.roles:
                parts["rating"].append(_ratings(block["rating"]))
            if "time" in layout.roles:
                parts["time"].append(_times(block["time"]))
            rows += len(parts["user"][-1])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, _UnusableError) as error:
        _explain(layout, error, rows)
    if not rows:
        raise DataError(f"{layout.path} holds no interactions.", FORMATS)
    joined = {role: _joined(parts.pop(role)) for role in list(parts)}
    return Columns(
        joined["user"],
        joined["item"],
        joined.get("rating"),
        joined.get("time"),
        list(users.numbers),
        list(items.numbers),
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate, letting go of every part once it is copied."""
    dtype = np.result_type(*{part.dtype for part in parts})
    whole = np.empty(sum(map(len, parts)), dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def _ratings(column: pa.Array) -> np.ndarray:
    values = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(values).all():
        raise _UnusableError("a rating is missing or not finite")
    return values


def _times(column: pa.Array) -> np.ndarray:
    """Whole numbers in the column's own unit; parts of seconds are kept as microseconds."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    if pa.types.is_floating(column.type):
        seconds = column.to_numpy(zero_copy_only=False).astype(np.float64)
        if np.abs(np.nan_to_num(seconds)).max(initial=0) > np.iinfo(np.int64).max / 1e6:
            raise _UnusableError("a time is not finite, or too large to be seconds")
        return np.where(np.isnan(seconds), UNKNOWN_TIME, np.nan_to_num(seconds) * 1e6).astype(np.int64)
    if not pa.types.is_integer(column.type):
        raise _UnusableError(f"the times are {column.type}, neither numbers nor dates")
    return column.cast(pa.int64()).fill_null(UNKNOWN_TIME).to_numpy(zero_copy_only=False)


def _parquet_blocks(layout: Layout) -> Iterator[dict[str, pa.Array]]:
    with pq.ParquetFile(layout.path) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=list(dict.fromkeys(layout.roles.values()))):
            yield {role: batch.column(name) for role, name in layout.roles.items()}


def _text_blocks(layout: Layout) -> Iterator[dict[str, pa.Array]]:
    types = {layout.roles[role]: _ID for role in ("user", "item")}
    if "rating" in layout.roles:
        types[layout.roles["rating"]] = pa.float32()
    if "time" in layout.roles:
        types[layout.roles["time"]] = time_type(layout)
    with _opened(layout.path) as stream, _reader(stream, layout, types) as blocks:
        for block in blocks:
            yield {role: block.column(name) for role, name in layout.roles.items()}


def _reader(stream: pa.NativeFile, layout: Layout, types: dict[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
    names = list(layout.names)
    if layout.delimiter == "::":  # a column of nothing between every two
        names = [part for name in layout.names for part in (name, f"after {name}")][:-1]
        types = types | {name: pa.null() for name in names[1::2]}
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, column_names=names, skip_rows=int(layout.header)),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter[0], quote_char='"' if layout.header else False, newlines_in_values=layout.header
        ),
        convert_options=pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types),
    )


def _opened(path: Path) -> pa.NativeFile:
    """A stream without Python in it: Arrow reads ahead on a thread of its own, which outlives a refusal.

    Where that thread enters Python while the interpreter ends, the process aborts.
    """
    file = pa.OSFile(os.fsencode(path))
    return pa.CompressedInputStream(file, "gzip") if path.name.endswith(".gz") else file


def _explain(layout: Layout, error: Exception, rows: int) -> NoReturn:
    """Raise the DataError that names the line; rows: how many had been read before the faulty block."""
    allowed = "Users and items are ids as large as you like, ratings and times are finite numbers."
    if layout.numeric_ids:
        allowed = "Here users and items are whole numbers from 0 on; ids of text need a header naming the columns."
    if not layout.delimiter:
        place = f", after row {rows:,}" if rows else ""
        raise DataError(f"{layout.path}{place}: {error}.", allowed, "Mend or drop those rows.") from None
    found = first_problem(layout)
    if found:
        number, problem = found
        raise DataError(f"{layout.path}, line {number:,}: {problem}.", allowed, _remedy(problem)) from None
    raise DataError(f"{layout.path} cannot be read: {error}.", FORMATS) from None


def _remedy(problem: str) -> str:
    if "negative" in problem:
        return "A negative id often stands for somebody unknown: drop those lines, or number the ids from 0 on."
    return "Mend or drop that line and those like it."
