"""What one preparation is: a source cut into chunks, a spec, options and a folder; small enough to send to a worker."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import polars as pl

from challenges.recommendation.clicks.spec import FeatureSpec
from common.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
"""Of the splits, where the source names none and rows are dealt out."""
TRUTH = "truth"
"""A raw column with the probability that made up rows were drawn with."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of a source that fits in memory.

    split: None where its rows are dealt out. start, stop: bytes, rows or row groups, as its reader says.
    """

    path: str
    start: int
    stop: int
    split: Split | None = None


class Reader(Protocol):
    """A source. It travels to workers, so it holds names and numbers only."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it reads; their contents are part of what a preparation is."""

    @property
    def packed(self) -> tuple[Path, ...]:
        """Those that are gzipped, and are unpacked before they are cut."""

    def bytes_per_pass(self) -> int:
        """How much it reads, roughly, once unpacked."""

    def chunks(self, unpacked: dict[str, Path]) -> list[Chunk]:
        """All of it in its order; unpacked: where a gzipped file's content is now."""

    def read(self, chunk: Chunk, columns: tuple[str, ...]) -> pl.DataFrame:
        """The chunk's rows as they are written."""

    def place(self, chunk: Chunk, row: int) -> str:
        """Where row `row` of the chunk stands, for whoever mends it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """threshold: None leaves each column's own. hash_above: columns of more values are hashed into as many ids.

    max_rows: ids a column has at most; the commonest values keep theirs.
    """

    threshold: int | None = None
    hash_above: int | None = None
    max_rows: int | None = None

    def __post_init__(self) -> None:
        for name, lowest in (("threshold", 1), ("hash_above", 4), ("max_rows", 4)):
            value = getattr(self, name)
            if value is not None and not lowest <= value < 2**31:
                raise DataError(f"--{name.replace('_', '-')} is {value}.", f"It starts at {lowest}.")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A preparation under way. partitions: into how many parts counts are cut by the values' hashes."""

    reader: Reader
    spec: FeatureSpec
    options: Options
    output: Path
    chunks: tuple[Chunk, ...] = ()
    partitions: int = 1

    @property
    def parts(self) -> Path:
        """What is needed only until the end."""
        return self.output / ".parts"

    @property
    def columns(self) -> tuple[str, ...]:
        spec = self.spec
        return tuple(dict.fromkeys((*spec.raw_columns, spec.label.name, *([spec.group] if spec.group else []))))

    def plan(self) -> dict[str, str]:
        """What the result depends on; an interrupted preparation goes on only where all of it is as it was."""
        sources = {path.name: _digest(path) for path in self.reader.files}
        told = json.dumps(dataclasses.asdict(self.spec), sort_keys=True)
        return {
            "source": hashlib.sha256(json.dumps([repr(self.reader), sources]).encode()).hexdigest(),
            "spec": hashlib.sha256(told.encode()).hexdigest(),
            "options": repr(self.options),
        }


def dealt(chunk: Chunk, rows: int) -> np.ndarray:
    """(row,) uint8 place in SPLITS of each row, by its chunk's beginning and its own place in it."""
    if chunk.split is not None:
        return np.full(rows, SPLITS.index(chunk.split), np.uint8)
    key = int.from_bytes(hashlib.sha256(f"{Path(chunk.path).name} {chunk.start}".encode()).digest()[:8], "little")
    drawn = np.random.Generator(np.random.PCG64(key)).random(rows)
    return np.searchsorted(np.cumsum(SHARES)[:-1], drawn, side="right").astype(np.uint8)


def _digest(path: Path) -> str:
    """Of a file's size, first and last megabyte."""
    size, part = path.stat().st_size, 1 << 20
    with path.open("rb") as stream:
        first = stream.read(part)
        stream.seek(max(size - part, 0))
        return hashlib.sha256(b"%d %b %b" % (size, first, stream.read(part))).hexdigest()
