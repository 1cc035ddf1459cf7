"""Tables in text files whose delimiter is not known: commas, semicolons, tabs or bars."""

import csv
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

DELIMITERS = ",;\t|"
MOST_TABLES, MOST_BYTES = 20, 256 << 20


def find_tables(root: Path, suffixes: Sequence[str], leave_out: str = "") -> list[str]:
    """The first tables here or one folder deeper, by their paths below `root`; hidden and huge ones are none.

    leave_out: a part of the names of files that are none, either.
    """

    def is_table(path: Path) -> bool:
        name = path.name.lower()
        is_named = name.endswith(tuple(suffixes)) and not (leave_out and leave_out in name)
        return is_named and path.is_file() and path.stat().st_size <= MOST_BYTES

    found = (path for pattern in ("[!.]*", "[!.]*/[!.]*") for path in sorted(root.glob(pattern)) if is_table(path))
    return [path.relative_to(root).as_posix() for path in islice(found, MOST_TABLES)]


def read_header(path: Path) -> str:
    """The first line; raises OSError."""
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline()


def read_columns(path: Path) -> tuple[str, ...]:
    """The first row's cells, the names of the columns as `read_table` has them; raises OSError and csv.Error."""
    first = read_header(path)
    return tuple(next(csv.reader([first], delimiter=_delimiter(first)), ()))


def read_table(path: Path, names: Sequence[str] | None = None) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The names of the columns, and each row's cells by them, empty where a row is short.

    names: where the first row has none. What is no UTF-8 is replaced. Raises OSError and csv.Error.
    """
    first = read_header(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.DictReader(stream, names, delimiter=_delimiter(first), restval="")
        columns = tuple(reader.fieldnames or ())
        return columns, [{name: row[name] for name in columns} for row in reader]


def _delimiter(first: str) -> str:
    return max(DELIMITERS, key=first.count)
