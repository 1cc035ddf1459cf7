"""Made-up clicks of any number: power-law ids, and a planted logistic truth of values, numbers and pairs of values.

Each chunk is a function of the seed and its number alone. Since every row's probability is known, so is the AUC that
no model can beat.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from challenges.recommendation.clicks.prepare.job import TRUTH, Chunk, Split
from challenges.recommendation.clicks.spec import Categorical, Cross, Dense, FeatureSpec

VERSION = 2
CHUNK_ROWS = 131_072
BYTES_PER_ROW = 240
DENSE, CATEGORICAL = 13, 26
SIZES = np.geomspace(4, 400_000, CATEGORICAL).astype(np.int64)
EXPONENT = 1.15
"""Rank r of a column is drawn with a probability in proportion to r ** -EXPONENT."""
HEAD, PAIRED_HEAD = 16, 8
"""Ranks below have effects of their own, and in pairs; those behind have none, so that 300,000 rows can teach it."""
PAIRS = ((1, 6), (2, 8), (3, 11), (4, 14), (5, 17), (7, 20))
WIDTH = 2  # of the vectors whose product is a pair's effect
BUCKETS = 16_384
"""Of the cross that Wide & Deep's wide part has for each pair."""
BIAS, VALUE_EFFECT, PAIR_EFFECT = -1.5, 0.3, 1.0
SLOPE, BEND = 0.2, 0.22
"""Of a number's logarithm, and of its distance from the middle, which no weight of the logarithm expresses."""
MIDDLE, DISTANCE = 1.9, 0.84  # of the logarithms, about
MISSING = 0.08


@dataclass(frozen=True)
class SyntheticRows:
    """rows: over all splits; of 20 chunks or more the last tenth is validation and test, fewer are dealt out.

    version: of the truth and its draws; rows of another one are other data.
    """

    rows: int
    seed: int = 0
    version: int = VERSION

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    @property
    def packed(self) -> tuple[Path, ...]:
        return ()

    def bytes_per_pass(self) -> int:
        return self.rows * BYTES_PER_ROW

    def chunks(self, unpacked: dict[str, Path]) -> list[Chunk]:
        begins = range(0, self.rows, CHUNK_ROWS)
        held = len(begins) // 20
        splits: list[Split | None] = [None] * len(begins)
        for place in range(len(begins)) if held else ():
            left = len(begins) - place
            splits[place] = "train" if left > 2 * held else "validation" if left > held else "test"
        ends = [min(begin + CHUNK_ROWS, self.rows) for begin in begins]
        return [Chunk("synthetic", *cut) for cut in zip(begins, ends, splits, strict=True)]

    def read(self, chunk: Chunk, columns: tuple[str, ...]) -> pl.DataFrame:
        return make_rows(self.seed, chunk.start // CHUNK_ROWS, chunk.stop - chunk.start)

    def place(self, chunk: Chunk, row: int) -> str:
        return f"synthetic row {chunk.start + row:,}"


def synthetic_spec() -> FeatureSpec:
    """Columns of Criteo's names and kinds, and a cross for each pair that has an effect of its own."""
    return FeatureSpec(
        dense=tuple(Dense(name=f"I{number}") for number in range(1, DENSE + 1)),
        categorical=tuple(Categorical(name=f"C{number}", threshold=2) for number in range(1, CATEGORICAL + 1)),
        crosses=tuple(Cross(columns=(f"C{left + 1}", f"C{right + 1}"), buckets=BUCKETS) for left, right in PAIRS),
    )


def make_rows(seed: int, chunk: int, rows: int) -> pl.DataFrame:
    """label, I1 to I13 (whole numbers or nothing), C1 to C26 (eight hexadecimal digits or nothing), and the truth."""
    draws = np.random.Generator(np.random.PCG64([seed, chunk]))
    ranks = np.stack([_power_law(draws, rows, size) for size in SIZES], axis=1)
    ranks[draws.random(ranks.shape, np.float32) < MISSING] = -1
    normal = draws.standard_normal((rows, DENSE), np.float32)
    numbers = np.floor(np.exp(1.5 * normal + 1.5)) - 1  # from -1 on, with a long tail
    absent = draws.random(numbers.shape, np.float32) < MISSING
    logs = np.log(np.where(absent, 0, numbers) + 3)
    truth = 1 / (1 + np.exp(-_logit(seed, ranks, logs)))
    label = (draws.random(rows) < truth).astype(np.int8)
    columns: dict[str, pl.Series] = {"label": pl.Series(label)}
    for place in range(DENSE):
        columns[f"I{place + 1}"] = pl.Series(numbers[:, place]).set(pl.Series(absent[:, place]), None)
    for place in range(CATEGORICAL):
        columns[f"C{place + 1}"] = _hexadecimal(ranks[:, place], place)
    return pl.DataFrame(columns | {TRUTH: pl.Series(truth.astype(np.float32))})


def expected_auc(probability: np.ndarray) -> float:
    """The AUC that ranking rows by these has, expected over labels drawn with them; ties count half."""
    values, where = np.unique(probability.astype(np.float64), return_inverse=True)
    positive, negative = np.bincount(where, values[where]), np.bincount(where, 1 - values[where])
    below = np.cumsum(negative) - negative
    # a row is not paired with itself
    itself = (values * (1 - values) * np.bincount(where)).sum()
    pairs = positive.sum() * negative.sum() - itself
    return float((positive @ (below + negative / 2) - itself / 2) / pairs)


def _power_law(draws: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """(row,) int64 ranks from 0 on, by the inverse of the continuous distribution."""
    power = 1 - EXPONENT
    reach = (size + 1) ** power - 1
    ranks = (draws.random(rows) * reach + 1) ** (1 / power) - 1
    values: np.ndarray = np.minimum(ranks.astype(np.int64), size - 1)
    return values


def _logit(seed: int, ranks: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """(row,) float64. The last place of an effect is that of what is missing or behind the head: nothing."""
    draws = np.random.Generator(np.random.PCG64([seed, 2**32]))
    effects = draws.standard_normal((CATEGORICAL, HEAD + 1)) * VALUE_EFFECT
    vectors = draws.standard_normal((len(PAIRS), 2, PAIRED_HEAD + 1, WIDTH)) * np.sqrt(PAIR_EFFECT / WIDTH)
    slopes, bends = draws.standard_normal((2, DENSE)) * [[SLOPE], [BEND]]
    effects[:, HEAD], vectors[:, :, PAIRED_HEAD] = 0, 0
    places, paired = (np.where((ranks < 0) | (ranks >= head), head, ranks) for head in (HEAD, PAIRED_HEAD))
    total: np.ndarray = BIAS + (logs - MIDDLE) @ slopes + (np.abs(logs - MIDDLE) - DISTANCE) @ bends
    for column in range(CATEGORICAL):
        total += effects[column, places[:, column]]
    for (left, right), (mine, theirs) in zip(PAIRS, vectors, strict=True):
        total += np.einsum("rw,rw->r", mine[paired[:, left]], theirs[paired[:, right]])
    return total


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def _hexadecimal(ranks: np.ndarray, column: int) -> pl.Series:
    """Another text for each rank and column: multiplying by an odd number and adding are undone modulo 2**32."""
    numbers = (ranks.astype(np.uint32) * np.uint32(2654435761)) + np.uint32(column * 0x9E3779B9 % 2**32)
    nibbles = (numbers[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & np.uint32(15)
    content = _DIGITS[nibbles].reshape(-1)
    offsets = np.arange(len(ranks) + 1, dtype=np.int32) * 8
    texts = pa.StringArray.from_buffers(len(ranks), pa.py_buffer(offsets), pa.py_buffer(content))
    return pl.Series(texts).set(pl.Series(ranks < 0), None)
