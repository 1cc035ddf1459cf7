"""Tables of text, plain or gzipped: cut at line ends, read as they are written, refused with the line that is wrong."""

import gzip
import io
import shutil
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from challenges.recommendation.clicks.prepare.job import Chunk, Split
from common.errors import DataError
from common.files import atomic_writer

CHUNK_BYTES = 1 << 25
UNPACKED_PER_PACKED = 4  # of Criteo's and Adult's files 2.8 to 5
_BLOCK = 1 << 24
_NEWLINE, _QUOTE = 10, 34


@dataclass(frozen=True)
class TextPart:
    """One file and its split. first_line: lines before the first row."""

    path: Path
    split: Split | None
    first_line: int = 0


@dataclass(frozen=True)
class TextTable:
    """Files of one layout.

    columns: in the order of the fields. quoted: whether " encloses fields. Empty lines at a file's end are no rows.
    halves:  a file whose first half is the test set and whose second the validation set, as of Criteo's last day.
    """

    parts: tuple[TextPart, ...]
    columns: tuple[str, ...]
    separator: str
    quoted: bool = False
    halves: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(part.path for part in self.parts)

    @property
    def packed(self) -> tuple[Path, ...]:
        return tuple(path for path in self.files if path.suffix == ".gz")

    def bytes_per_pass(self) -> int:
        return sum(path.stat().st_size * (UNPACKED_PER_PACKED if path in self.packed else 1) for path in self.files)

    def chunks(self, unpacked: dict[str, Path]) -> list[Chunk]:
        found = []
        for part in self.parts:
            path = unpacked.get(str(part.path), part.path)
            begins = _line_ends(path, part.first_line, self.quoted)
            middle = begins[len(begins) // 2]
            for start, stop in pairwise(begins):
                half: Split = "test" if start < middle else "validation"
                found.append(Chunk(str(path), start, stop, half if part.path == self.halves else part.split))
        return found

    def read(self, chunk: Chunk, columns: tuple[str, ...]) -> pl.DataFrame:
        with open(chunk.path, "rb") as stream:
            stream.seek(chunk.start)
            content = stream.read(chunk.stop - chunk.start)
        if not self._adds_up(content):
            self._require_fields(content, chunk)
        try:
            table = pl.read_csv(
                io.BytesIO(content),
                has_header=False,
                schema=dict.fromkeys(self.columns, pl.String),
                separator=self.separator,
                quote_char='"' if self.quoted else None,
            )
        except pl.exceptions.PolarsError as error:
            self._require_fields(content, chunk)
            told = str(error).splitlines()[0]
            raise DataError(f"{self._name(chunk)} cannot be read: {told}", "Tables of text are UTF-8.") from None
        return table.select(columns)

    def place(self, chunk: Chunk, row: int) -> str:
        return f"{self._name(chunk)}, line {_lines_before(Path(chunk.path), chunk.start) + row + 1:,}"

    def _adds_up(self, content: bytes) -> bool:
        """Whether there are as many separators as whole lines have; a longer line beside a shorter one is read next."""
        if self.quoted and b'"' in content:
            return False
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        return content.count(self.separator.encode()) == lines * (len(self.columns) - 1)

    def _require_fields(self, content: bytes, chunk: Chunk) -> None:
        fields = _fields(content, ord(self.separator), self.quoted)
        wrong = np.flatnonzero(fields != len(self.columns))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"{self.place(chunk, row)} has {fields[row]:,} field{'s' if fields[row] > 1 else ''}.",
                f"The table has {len(self.columns)}: {', '.join(self.columns[:4])} and so on.",
                "Mend the line or delete it; a file that was cut off is copied again.",
            )

    def _name(self, chunk: Chunk) -> str:
        """The user's own file, also where its content was unpacked elsewhere."""
        if chunk.path in map(str, self.files):
            return chunk.path
        return str(self.packed[int(Path(chunk.path).stem)])


def unpack(path: Path, target: Path) -> None:
    """Write a gzipped file's content; DataError where it is cut off or damaged."""
    try:
        with gzip.open(path, "rb") as stream, atomic_writer(target) as sink:
            shutil.copyfileobj(stream, sink, _BLOCK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is cut off or damaged: {error}.", "It is a gzip file to its last byte.", "Copy it again."
        ) from None


def first_lines(path: Path, count: int) -> list[str]:
    """Of a plain or gzipped file; DataError where it is empty or no text."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            lines = [stream.readline(1 << 20) for _ in range(count)]
        found = [line.decode("utf-8-sig").rstrip("\r\n") for line in lines if line]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is cut off or damaged: {error}.", remedy="Copy it again.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8.", "Tables of text are UTF-8.") from None
    if not found:
        raise DataError(f"{path} is empty.", "A table has a row at least.")
    return found


def _line_ends(path: Path, first_line: int, quoted: bool) -> list[int]:
    """Where chunks of about CHUNK_BYTES begin and end: at line ends, none of them inside quotes."""
    with path.open("rb") as stream:
        size = _end_of_text(stream)
        for _ in range(first_line):
            stream.readline()
        ends = [stream.tell()]
        while ends[-1] < size:
            if quoted:
                end = _end_outside_quotes(stream, ends[-1], size)
            else:
                stream.seek(min(ends[-1] + CHUNK_BYTES, size))
                stream.readline()
                end = stream.tell()
            ends.append(min(end, size))
    return ends


def _end_of_text(stream: io.BufferedReader) -> int:
    """Where the last line that is not empty ends."""
    size = stream.seek(0, io.SEEK_END)
    begin = max(size - _BLOCK, 0)
    stream.seek(begin)
    end = begin + len(stream.read().rstrip(b"\r\n"))
    stream.seek(0)
    return end


def _end_outside_quotes(stream: io.BufferedReader, start: int, size: int) -> int:
    stream.seek(start)
    inside = stream.read(CHUNK_BYTES).count(b'"') % 2 == 1
    while stream.tell() < size:
        inside ^= stream.readline().count(b'"') % 2 == 1
        if not inside:
            break
    return stream.tell()


def _fields(content: bytes, separator: int, quoted: bool) -> np.ndarray:
    """(line,) how many fields each has."""
    text = np.frombuffer(content, np.uint8)
    between, ends = text == separator, text == _NEWLINE
    if quoted and b'"' in content:
        outside = np.cumsum(text == _QUOTE, dtype=np.uint8) % 2 == 0
        between, ends = between & outside, ends & outside
    last = np.flatnonzero(ends)
    begins = np.concatenate([[0], last + 1])
    if begins[-1] == len(text):
        begins = begins[:-1]
    return np.add.reduceat(between, begins, dtype=np.int64) + 1 if len(begins) else np.zeros(0, np.int64)


def _lines_before(path: Path, stop: int) -> int:
    count = 0
    with path.open("rb") as stream:
        while stop > 0:
            block = stream.read(min(_BLOCK, stop))
            count, stop = count + block.count(b"\n"), stop - len(block)
    return count
