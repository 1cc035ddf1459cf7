"""How far a figure would move with other samples: seeded percentile bootstraps.

Source: Efron and Tibshirani 1993, chapter 13.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 22  # resampled values held at once: 32 MiB of float64
MEANS_RESAMPLES = 1000
KEPT_CELLS = 2**24  # of resamples that are kept from one interval of means to the next: 64 MiB


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The interval of a statistic.

    values:    (sample, ...), resampled along the first axis.
    statistic: (resample, sample, ...) and `axis=1` -> (resample,), as np.mean and np.median do.
    """
    if len(values) == 0:
        raise ValueError("There are no values to resample.")
    drawn = _drawn(len(values), resamples, seed, max(1, CHUNK // values.size))
    estimates = [np.asarray(statistic(values[rows], axis=1)) for rows in drawn]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(estimates), [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_means(values: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of the means over samples, from 1,000 resamples: low and high, both (metric,).

    values: (sample, metric); all metrics are resampled together
    """
    samples = len(values)
    kept = _kept_counts if MEANS_RESAMPLES * samples <= KEPT_CELLS else _counts
    means = np.concatenate([counts @ values.astype(np.float32) / samples for counts in kept(samples, seed)])
    low, high = np.quantile(means.astype(np.float64), [0.025, 0.975], axis=0)
    return low, high


def _drawn(count: int, resamples: int, seed: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Which samples each resample draws: tables (resample, sample), `at_once` rows each."""
    generator = np.random.default_rng(seed)
    for first in range(0, resamples, at_once):
        yield generator.integers(0, count, size=(min(at_once, resamples - first), count))


def _counts(samples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each resample draws each sample: tables (resample, sample), a few rows each."""
    for drawn in _drawn(samples, MEANS_RESAMPLES, seed, max(1, CHUNK // samples)):
        rows = len(drawn)
        places = drawn + np.arange(rows)[:, None] * samples
        yield np.bincount(places.ravel(), minlength=rows * samples).reshape(rows, samples).astype(np.float32)


@lru_cache(maxsize=2)  # those judged, and those that weights are chosen by
def _kept_counts(samples: int, seed: int) -> tuple[NDArray[np.float32], ...]:
    """The same for all evaluations of a run: to draw them took a fifth of an autoencoder's."""
    return tuple(_counts(samples, seed))
