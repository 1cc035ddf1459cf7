"""A table of rows to be scored: read a batch at a time, by the names in its first line."""

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.errors import DataError

SEPARATORS = ",\t;|"
LONGEST = 1 << 20  # characters of the first line


class Header(NamedTuple):
    """names: of the columns, without white space around. separator: the one that the first line has most often."""

    names: tuple[str, ...]
    separator: str


def read_header(path: Path) -> Header:
    """Raises DataError where the first line names no columns, or one twice."""
    with _opened(path) as stream:
        line = stream.readline(LONGEST).rstrip("\r\n")
    if not line:
        raise DataError(f"{path} has nothing in its first line.", "It names the columns, the other lines are rows.")
    separator = max(SEPARATORS, key=line.count)
    names = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator)))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} names the column {twice!r} twice.", "A column has one meaning.", "Rename one.")
    return Header(names, separator)


def read_rows(path: Path, batch: int, wanted: Collection[str] = ()) -> Iterator[dict[str, np.ndarray]]:
    """A table's rows, `batch` at a time, each column (row, 1) of str; empty lines are none.

    wanted: what the model takes; the other columns come, too. Raises DataError where one is missing, where a line has
    another number of fields than the first, and where there is no row.
    """
    names, separator = read_header(path)
    _require(path, names, wanted)
    with _opened(path) as stream:
        lines = csv.reader(stream, delimiter=separator, strict=True)
        next(lines)
        rows = (_checked(path, row, lines.line_num, names) for row in lines if row)
        any_row = False
        while part := list(islice(rows, batch)):
            any_row = True
            columns = np.array(part, dtype=object).T
            yield {name: column[:, None] for name, column in zip(names, columns, strict=True)}
    if not any_row:
        raise DataError(f"{path} has no rows.", "After the line with the columns' names there is a row at least.")


def _require(path: Path, names: Sequence[str], wanted: Collection[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}.",
            f"The model takes {', '.join(wanted)}; the file has {', '.join(names)}.",
            "Its first line names the columns, in any order.",
        )


def _checked(path: Path, row: list[str], line: int, names: Sequence[str]) -> list[str]:
    if len(row) != len(names):
        told = f"{path}, line {line:,}, has {len(row):,} field{'s' if len(row) > 1 else ''}."
        raise DataError(told, f"The first line names {len(names)} columns.", "Mend the line or delete it.")
    return row


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as content:
            yield io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(
            f"{path} cannot be read: {reason}.", "Rows are read from CSV or TSV in UTF-8, gzipped or not."
        ) from None
