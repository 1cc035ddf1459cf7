"""Which id a column's text has: by its place among the values that training counted, or by its hash."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from challenges.recommendation.clicks.hashing import hash_texts
from challenges.recommendation.clicks.spec import FIRST, MISSING, RARE, Categorical, FeatureSpec
from common.errors import DamagedFileError

FOLDER = "vocabulary"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Values in the order of their ids, behind an index by hash.

    hashes: (value + 1,) uint64 ascending, and the largest number after the last. ids: (value,) int32.
    begins: for each leading part of a hash, the place of the first that is not below it.
    """

    hashes: np.ndarray
    ids: np.ndarray
    begins: np.ndarray
    shift: np.uint64

    @staticmethod
    def of(values: pl.Series) -> "Vocabulary":
        found = hash_texts(values)
        order = np.argsort(found, kind="stable")
        hashes = found[order]
        if (hashes[1:] == hashes[:-1]).any():
            raise ValueError("Two values of a vocabulary have one hash.")
        bits = max(len(values), 2).bit_length()
        shift = np.uint64(64 - bits)
        parts = np.arange(2**bits, dtype=np.uint64) << shift
        begins = np.searchsorted(hashes, parts).astype(np.int32)
        ids = np.append(order + FIRST, RARE).astype(np.int32)
        return Vocabulary(np.append(hashes, np.uint64(2**64 - 1)), ids, begins, shift)

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """(row,) int32 ids; RARE where a hash is none of these values'."""
        places = self.begins[hashes >> self.shift]
        behind = np.flatnonzero(self.hashes[places] < hashes)
        while len(behind):
            places[behind] += 1
            behind = behind[self.hashes[places[behind]] < hashes[behind]]
        return np.where(self.hashes[places] == hashes, self.ids[places], np.int32(RARE))


def ids_of(texts: pl.Series, column: Categorical, vocabulary: Vocabulary | None) -> np.ndarray:
    """(row,) int32 ids of a column of String, as the spec says.

    vocabulary: None for a hashed column.
    """
    hashes = hash_texts(texts)
    if vocabulary is None:
        ids = (hashes % np.uint64(column.cardinality - FIRST)).astype(np.int32) + np.int32(FIRST)
    else:
        ids = vocabulary.find(hashes)
    if texts.null_count():
        ids[texts.is_null().to_numpy()] = MISSING
    return ids


def vocabulary_file(folder: Path, number: int) -> Path:
    """That of the spec's column `number` of those that are looked up: value and count, in the order of ids."""
    return folder / FOLDER / f"{number:03}.parquet"


def read_vocabularies(folder: Path, spec: FeatureSpec) -> tuple[Vocabulary | None, ...]:
    """Of every looked-up column; None for a hashed one. Raises DamagedFileError."""
    found: list[Vocabulary | None] = []
    for number, column in enumerate(spec.looked_up):
        if column.hashed:
            found.append(None)
            continue
        path = vocabulary_file(folder, number)
        try:
            values = pl.read_parquet(path, columns=["value"])["value"]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DamagedFileError(path, str(error).splitlines()[0]) from None
        if len(values) + FIRST != column.cardinality:
            reason = f"it has {len(values):,} values, and column {column.name} {column.cardinality:,} ids"
            raise DamagedFileError(path, reason)
        found.append(Vocabulary.of(values))
    return tuple(found)
