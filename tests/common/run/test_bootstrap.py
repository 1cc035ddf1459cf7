"""Intervals from resamples, against the normal law and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from common.run import bootstrap as module
from common.run.bootstrap import bootstrap, bootstrap_means


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = bootstrap(values, np.mean, seed=0, resamples=4000)
    half = 1.959964 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_bootstrap_agrees_with_scipy_for_a_median():
    values = np.random.default_rng(2).exponential(size=201)
    expected = stats.bootstrap((values,), np.median, n_resamples=4000, method="percentile", rng=3).confidence_interval
    assert bootstrap(values, np.median, resamples=4000) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_bootstrap_resamples_rows_in_any_chunks(monkeypatch):
    pairs = np.random.default_rng(4).normal(size=(50, 2))

    def mean_difference(resampled, axis):
        return resampled.mean(axis=axis)[:, 0] - resampled.mean(axis=axis)[:, 1]

    whole = bootstrap(pairs, mean_difference, seed=5, resamples=300)
    monkeypatch.setattr("common.run.bootstrap.CHUNK", 700)
    assert bootstrap(pairs, mean_difference, seed=5, resamples=300) == whole
    with pytest.raises(ValueError, match="no values"):
        bootstrap(np.empty(0))


def test_means_lie_as_the_normal_law_says():
    values = (np.random.default_rng(0).random((4000, 2)) < [0.3, 0.7]).astype(float)
    low, high = bootstrap_means(values)
    mean, deviation = values.mean(0), values.std(0) / 4000**0.5
    np.testing.assert_allclose(low, mean - 1.96 * deviation, atol=0.2 * deviation.max())
    np.testing.assert_allclose(high, mean + 1.96 * deviation, atol=0.2 * deviation.max())


def test_resamples_are_the_same_whether_they_are_kept_or_not(monkeypatch):
    values = np.random.default_rng(0).random((500, 3))
    kept = bootstrap_means(values), bootstrap_means(values)
    monkeypatch.setattr(module, "KEPT_CELLS", 0)
    np.testing.assert_array_equal(kept, [bootstrap_means(values)] * 2)
