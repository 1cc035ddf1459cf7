"""Reading the columns of an interactions file block by block, ids as numbers from 0 on, with an error per line."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from challenges.recommendation.files.ids import IdNumbers, UnusableError, id_problem
from challenges.recommendation.files.layout import FORMATS, Layout
from challenges.recommendation.files.problems import Problem, RowsRefusedError, Survey, advice
from challenges.recommendation.files.text import csv_rows, text_lines
from challenges.recommendation.files.times import (
    KNOWN_TIMES,
    NO_VALUES,
    UNKNOWN_TIME,
    TimeKind,
    is_missing,
    kind_of_times,
    parse_dates,
    time_problem,
    whole_microseconds,
)
from challenges.recommendation.files.user_lines import pairs
from common.errors import DataError

BLOCK_BYTES = 16 << 20
BLOCK_ROWS = 1 << 20
SAMPLED = 1000  # records that decide how numbers and times are written
LOOKED, LOOKED_BEYOND = 100_000, 10_000  # records: in all, and at least after the first faulty one
LISTED = 1000  # faulty records that are kept
MOST_EVENTS = 100  # kinds; a column with more tells no kinds apart
_ID = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, eq=False)
class Columns:
    """An interactions file in its own order.

    users, items: (row,) int32, positions in user_ids and item_ids, which list ids by first appearance.
    ratings:      (row,) float32, or None.
    times:        (row,) int64, UNKNOWN_TIME where missing, or None; microseconds unless time_kind is "number".
    events:       kind of event -> rows of it, where a column tells kinds apart.
    """

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    times: np.ndarray | None
    user_ids: list[str]
    item_ids: list[str]
    time_kind: TimeKind = "number"
    events: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def pair(self, row: int) -> tuple[str, str]:
        """The ids in one row."""
        return self.user_ids[self.users[row]], self.item_ids[self.items[row]]


def read_columns(layout: Layout) -> Columns:
    """Read user, item and, where there are such columns, rating and time.

    Memory: about 20 bytes per row, one block of the file, and the distinct ids.
    Raises DataError with the file and the line where a value is not what its column needs.
    """
    users, items = (IdNumbers(role, layout.numeric_ids) for role in ("user", "item"))
    parts: dict[str, list[np.ndarray]] = {role: [] for role in layout.roles if role != "event"}
    kind, events, rows = _time_kind(layout), _Events(), 0
    try:
        for block in _blocks(layout, kind):
            for role, numbers in (("user", users), ("item", items)):
                parts[role].append(numbers.add(block[role]))
            if "rating" in layout.roles:
                parts["rating"].append(_ratings(block["rating"]))
            if "time" in layout.roles:
                parts["time"].append(_times(block["time"], kind))
            if "event" in layout.roles:
                events.add(block["event"])
            rows += len(parts["user"][-1])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnusableError) as error:
        _explain(layout, error, rows)
    if not rows:
        raise DataError(f"{layout.path} holds no interactions.", FORMATS)
    joined = {role: _joined(parts.pop(role)) for role in list(parts)}
    _refuse_repeated_names(layout, users, items, joined)
    return Columns(
        joined["user"],
        joined["item"],
        joined.get("rating"),
        joined.get("time"),
        list(users.numbers),
        list(items.numbers),
        kind,
        events.counts if "event" in layout.roles else None,
    )


def _refuse_repeated_names(layout: Layout, users: IdNumbers, items: IdNumbers, joined: dict[str, np.ndarray]) -> None:
    """Raise DataError where a line of names among the rows would count as a user with an item."""
    user, item = (numbers.numbers.get(layout.roles[numbers.role].strip()) for numbers in (users, items))
    if not layout.header or user is None or item is None:
        return
    if bool(((joined["user"] == user) & (joined["item"] == item)).any()):
        _explain(layout, UnusableError("it repeats the names of the columns"), 0)


class _Events:
    """Counts the kinds of events: kind -> rows, or None where they are too many to be kinds."""

    def __init__(self) -> None:
        self.counts: dict[str, int] | None = {}

    def add(self, column: pa.Array) -> None:
        if self.counts is None:
            return
        for kind in pc.value_counts(column).to_pylist():
            name = "" if kind["values"] is None else str(kind["values"])
            self.counts[name] = self.counts.get(name, 0) + kind["counts"]
        if len(self.counts) > MOST_EVENTS:
            self.counts = None


def _time_kind(layout: Layout) -> TimeKind:
    """How the times are written; those that Parquet itself calls dates count as dates."""
    if layout.delimiter or "time" not in layout.roles:
        return _text_time_kind(layout)
    name = layout.roles["time"]
    stored = pq.read_schema(layout.path).field(name).type
    if pa.types.is_integer(stored):
        return "number"
    if pa.types.is_floating(stored):
        return "fraction"
    if not _is_text(stored):
        return "zoned date" if getattr(stored, "tz", None) else "date"
    with pq.ParquetFile(layout.path) as file:
        batch = next(file.iter_batches(1000, columns=[name]), None)
    texts = [] if batch is None else [text for text in batch.column(0).to_pylist() if text is not None]
    return kind_of_times(texts)


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


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
    values: np.ndarray = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong:
        raise UnusableError(f"a rating is missing or not finite, in {wrong:,} of {len(values):,} rows")
    return values


def _times(column: pa.Array, kind: TimeKind) -> np.ndarray:
    """Whole numbers in the column's own unit; dates and parts of seconds are kept as microseconds."""
    if _is_text(column.type):
        text = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        column = _numbers_of_text(text, kind)
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = whole_microseconds(column)
    if pa.types.is_floating(column.type):
        seconds = column.to_numpy(zero_copy_only=False).astype(np.float64)
        if np.abs(np.nan_to_num(seconds)).max(initial=0) > np.iinfo(np.int64).max / 1e6:
            raise UnusableError("a time is not finite, or too large to be seconds")
        return np.where(np.isnan(seconds), UNKNOWN_TIME, np.nan_to_num(seconds) * 1e6).astype(np.int64)
    if not pa.types.is_integer(column.type):
        raise UnusableError(f"the times are {column.type}, neither numbers nor dates")
    times: np.ndarray = column.cast(pa.int64()).fill_null(UNKNOWN_TIME).to_numpy(zero_copy_only=False)
    return times


def _numbers_of_text(column: pa.Array, kind: TimeKind) -> pa.Array:
    """Times that a Parquet file or a CSV's dates hold as text."""
    if kind == "number":
        return column.cast(pa.int64())
    return column.cast(pa.float64()) if kind == "fraction" else parse_dates(column, kind)


def _blocks(layout: Layout, kind: TimeKind) -> Iterator[dict[str, pa.Array]]:
    if layout.user_lines:
        return _user_blocks(layout)
    return _text_blocks(layout, kind) if layout.delimiter else _parquet_blocks(layout)


def _user_blocks(layout: Layout) -> Iterator[dict[str, pa.Array]]:
    users: list[str] = []
    items: list[str] = []
    for _, user, of_user in pairs(layout):
        users += [user] * len(of_user)
        items += of_user
        if len(items) >= BLOCK_ROWS:
            yield {"user": pa.array(users, pa.string()), "item": pa.array(items, pa.string())}
            users, items = [], []
    if items:
        yield {"user": pa.array(users, pa.string()), "item": pa.array(items, pa.string())}


def _parquet_blocks(layout: Layout) -> Iterator[dict[str, pa.Array]]:
    with pq.ParquetFile(layout.path) as file:
        for batch in file.iter_batches(BLOCK_ROWS, columns=list(dict.fromkeys(layout.roles.values()))):
            yield {role: batch.column(name) for role, name in layout.roles.items()}


def _text_blocks(layout: Layout, kind: TimeKind) -> Iterator[dict[str, pa.Array]]:
    stored = {
        "user": _ID,
        "item": _ID,
        "rating": pa.float32(),
        "time": {"number": pa.int64(), "fraction": pa.float64()}.get(kind, pa.string()),
        "event": _ID,
    }
    types = {name: stored[role] for role, name in layout.roles.items()}
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
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, column_names=names, skip_rows=layout.skipped),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=layout.delimiter[0],
            quote_char='"' if layout.has_quotes else False,
            newlines_in_values=layout.has_quotes,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=NO_VALUES,
            decimal_point="," if layout.decimal_comma else ".",
        ),
    )


def _opened(path: Path) -> pa.NativeFile:
    """A stream without Python in it: Arrow reads ahead on a thread of its own, which outlives a refusal.

    Where that thread enters Python while the interpreter ends, the process aborts.
    """
    file = pa.OSFile(os.fsencode(path))
    return pa.CompressedInputStream(file, "gzip") if path.name.endswith(".gz") else file


def _explain(layout: Layout, error: Exception, rows: int) -> NoReturn:
    """Raise the DataError that names the line; rows: how many had been read before the faulty block."""
    if not layout.delimiter:
        place = f", after row {rows:,}" if rows else ""
        told = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"{layout.path}{place}: {told}.",
            KNOWN_TIMES if "time" in told else "Users and items are whole numbers or text, ratings finite numbers.",
            "Mend or drop those rows.",
        ) from None
    found = survey(layout)
    if found is None:
        raise DataError(f"{layout.path} cannot be read: {error}.", FORMATS) from None
    number, problem = found.rows[0]
    share = f", one of {found.alike:,} like it among {found.looked:,} rows" if found.alike > 1 else ""
    allowed, remedy = advice(found)
    raise RowsRefusedError(
        f"{layout.path}, line {number:,}: {problem.told}{share}.", allowed, remedy, found.rows
    ) from None


def survey(layout: Layout) -> Survey | None:
    """Look for lines that are not as their columns need them; None where all are."""
    kind = _text_time_kind(layout)
    rows: list[tuple[int, Problem]] = []
    alike, looked, last = 0, 0, 0
    for number, fields in records(layout):
        looked += 1
        if rows and looked > last:
            looked -= 1
            break
        problem = _line_problem(layout, fields, kind)
        if problem is None:
            continue
        last = last or max(LOOKED, looked + LOOKED_BEYOND)
        if len(rows) < LISTED:
            rows.append((number, problem))
        alike += problem.kind == rows[0][1].kind
    return Survey(tuple(rows), alike, looked) if rows else None


def sample(layout: Layout) -> list[dict[str, str]]:
    """The first records of the right width, by role."""
    return [fields for _, fields in islice(records(layout), SAMPLED) if "width" not in fields]


def _text_time_kind(layout: Layout) -> TimeKind:
    """What the file's first times look like."""
    if "time" not in layout.roles:
        return "number"
    return kind_of_times(_pointed(fields["time"], layout.decimal_comma) for fields in sample(layout))


def records(layout: Layout) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by role) of a text file; a line of another width gives the fields `width` and `text`."""
    if layout.user_lines:
        yield from ((number, {"user": user, "item": item}) for number, user, items in pairs(layout) for item in items)
        return
    lines = text_lines(layout.path)
    if layout.delimiter == "::":
        rows: Iterator[tuple[int, list[str]]] = (
            (number, line.rstrip("\r\n").split("::")) for number, line in enumerate(lines, start=1)
        )
    else:
        below = islice(lines, layout.skipped, None)
        table = csv_rows(layout.path, below, layout.delimiter, quoted=layout.has_quotes)
        rows = ((layout.skipped + number, row) for number, row in table)
    places = {role: layout.names.index(name) for role, name in layout.roles.items()}
    for number, row in rows:
        if row in ([], [""]):
            continue
        if len(row) != len(layout.names):
            yield number, {"width": str(len(row)), "text": layout.delimiter.join(row)}
        else:
            yield number, {role: row[place] for role, place in places.items()}


def _line_problem(layout: Layout, fields: dict[str, str], kind: TimeKind) -> Problem | None:
    if "width" in fields:
        told = f"it has {fields['width']} fields instead of {len(layout.names)}"
        if "\\" in fields["text"] and layout.header:
            return Problem("backslash", f"{told}, perhaps for a quote after a backslash")
        return Problem("width", told)
    if repeats_names(layout, fields["user"], fields["item"]):
        return Problem("names", "it repeats the names of the columns")
    for role in ("user", "item"):
        problem = id_problem(fields[role].strip(), role, layout.numeric_ids)
        if problem:
            return problem
    rating, time = fields.get("rating"), fields.get("time")
    if rating is not None and is_missing(rating):
        return Problem("no rating", f"the rating is missing ({rating!r})")
    if rating is not None and not is_number(rating, layout.decimal_comma):
        return Problem("rating", f"the rating {rating[:40]!r} is no number")
    wrong = None if time is None else time_problem(_pointed(time, layout.decimal_comma), kind)
    if wrong is None:
        return None
    return Problem("time" if kind in ("number", "fraction") else "date", wrong)


def repeats_names(layout: Layout, user: str, item: str) -> bool:
    """Whether a row is the line of names again, as joined files have it."""
    return layout.header and (user, item) == (layout.roles["user"].strip(), layout.roles["item"].strip())


def is_number(text: str, decimal_comma: bool = False) -> bool:
    try:
        return "_" not in text and math.isfinite(float(_pointed(text, decimal_comma)))
    except ValueError:
        return False


def _pointed(text: str, decimal_comma: bool) -> str:
    return text.replace(",", ".") if decimal_comma else text
