"""Text files as lines and records, and what is said where they are none."""

import csv
import gzip
import shlex
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from common.errors import DataError
from common.text import printable

LONGEST_FIELD = 16 << 20  # characters, such as a review's: Python's own limit is 131,072
_ENCODINGS = "Text files are read as UTF-8."
_OTHER_KINDS = {
    b"PK\x03\x04": ("a ZIP archive or an Excel file", "Unpack it, or save the sheet as CSV."),
    b"\xd0\xcf\x11\xe0": ("an Excel file", "Save the sheet as CSV."),
    b"\x1f\x8b": ("packed with gzip", "Give it a name that ends in .gz."),
    b"PAR1": ("a Parquet file", "Give it a name that ends in .parquet."),
    b"SQLite format 3": ("a SQLite database", "Export the table as CSV."),
}
"""First bytes of files that are no text -> what they are, and what to do."""


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """A text file's lines, unpacked where it is gzipped; raises DataError where it is cut off or no text."""
    number = 0
    try:
        with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if number == 1:
                    _refuse_other_kinds(path, line)
                if b"\0" in line:
                    raise _utf_16(path, number, line)
                yield line.decode(encoding).removeprefix("\ufeff")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, error, number) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}, line {number:,}: it is not UTF-8.", _ENCODINGS, _converted(path, "latin1")) from None


def _refuse_other_kinds(path: Path, line: bytes) -> None:
    """Raise DataError where a file begins as one of another kind does, whatever it is called."""
    if line.rstrip(b"\r\n").count(b"\r") > 1:
        raise DataError(
            f"{path}: its lines end with carriage returns alone, as old Mac files do.",
            "Lines end with a line feed.",
            f"Try: tr '\\r' '\\n' < {shlex.quote(printable(path.name))} > converted.csv, and name that file.",
        )
    told = next((told for mark, told in _OTHER_KINDS.items() if line.startswith(mark)), None)
    if told:
        raise DataError(f"{path} is no text file: it is {told[0]}.", _ENCODINGS, told[1])


def damaged(path: Path, error: Exception, line: int | None = None) -> DataError:
    """The error of a gzip file that breaks off."""
    after = f" after line {line:,}" if line else ""
    reason = "it is cut off" if isinstance(error, EOFError) else str(error)
    return DataError(
        f"{path} cannot be unpacked{after}: {reason}.", "A whole gzip file is needed.", "Download or copy it again."
    )


def _utf_16(path: Path, number: int, line: bytes) -> DataError:
    """The error of a file with bytes of zero, which UTF-16 puts beside every letter."""
    marked = line.startswith((b"\xff\xfe", b"\xfe\xff"))
    told = "it is UTF-16" if marked else "it holds bytes of zero, as UTF-16 does"
    encoding = "utf-16" if marked else "utf-16le" if line.find(b"\0") % 2 else "utf-16be"
    return DataError(f"{path}, line {number:,}: {told}.", _ENCODINGS, _converted(path, encoding))


def _converted(path: Path, encoding: str) -> str:
    name = shlex.quote(printable(path.name))
    unpacked = f"zcat {name} | iconv -f {encoding} -t utf-8" if path.name.endswith(".gz") else ""
    return f"Try: {unpacked or f'iconv -f {encoding} -t utf-8 {name}'} > converted.csv, and name that file."


def first_line(path: Path) -> str | None:
    return next((line.rstrip("\r\n") for line in text_lines(path) if line.strip()), None)


def csv_rows(path: Path, lines: Iterable[str], delimiter: str, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """(line that it begins in, fields) of every record, those of blank lines empty.

    quoted: fields in double quotes may hold delimiters and line breaks.
    """
    csv.field_size_limit(LONGEST_FIELD)
    table = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    number = 1
    try:
        for row in table:
            yield number, row
            number = table.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {number:,}: {error}.",
            "Lines end with a line feed, and a quote that opens a field is closed again.",
            "Write the file again with a program that knows CSV.",
        ) from None
