"""Metrics of clicks against scikit-learn and written-out definitions."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from challenges.recommendation.clicks.metrics import (
    RankedRows,
    auc,
    by_part,
    entropy,
    grouped,
    intervals,
    log_losses,
    probabilities,
    summary,
)
from common.errors import DataError


def answers(rows=2000, levels=50, seed=0):
    """Labels, and scores with many ties."""
    random = np.random.default_rng(seed)
    score = random.integers(0, levels, rows) / levels * 6 - 3
    return (random.random(rows) < probabilities(score - 1)).astype(np.float32), score.astype(np.float32), random


@pytest.mark.parametrize("levels", [2, 50, 10**6])
def test_auc_is_scikit_learns_over_ties(levels):
    label, score, random = answers(levels=levels)
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    weight = random.integers(0, 4, len(label))
    expected = roc_auc_score(label, score, sample_weight=weight)
    assert RankedRows(label, score).auc(weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("label", [np.zeros(4), np.ones(4)])
def test_one_class_only_is_refused(label):
    with pytest.raises(DataError, match="All 4 labels"):
        auc(label, np.arange(4.0))


def test_the_summary_is_written_out():
    label, logit, _ = answers()
    chance = probabilities(logit)
    found = summary(label, logit)
    assert found["log_loss"] == pytest.approx(log_loss(label, chance))
    rate = label.mean(dtype=np.float64)
    assert found["normalised_entropy"] == pytest.approx(found["log_loss"] / log_loss(label, np.full(len(label), rate)))
    assert entropy(rate) == pytest.approx(log_loss(label, np.full(len(label), rate)))
    assert found["calibration"] == pytest.approx(chance.sum() / label.sum())
    assert found["accuracy"] == pytest.approx(((chance > 0.5) == label).mean())


def test_losses_of_certain_answers_do_not_saturate():
    assert log_losses(np.array([1, 0, 1]), np.array([-200.0, 300.0, 90.0])) == pytest.approx([200, 300, 0], abs=1e-12)


@pytest.mark.parametrize("levels", [3, 1000])
def test_grouped_metrics_are_those_of_each_group(levels):
    label, score, random = answers(rows=400, levels=levels)
    group = random.integers(0, 60, 400)
    areas, sizes, precisions = [], [], []
    for one in np.unique(group):
        own, ranked = label[group == one].astype(np.float64), score[group == one]
        if 0 < own.sum() < len(own):
            areas.append(roc_auc_score(own, ranked))
            sizes.append(len(own))
        if own.sum():
            hits = own[np.argsort(-ranked, kind="stable")]
            terms = [hits[: k + 1].mean() * hits[k] for k in range(min(3, len(hits)))]
            precisions.append(sum(terms) / min(3, own.sum()))
    found = grouped(label, score, group, 3)
    assert found["gauc"] == pytest.approx(np.average(areas, weights=sizes), abs=1e-12)
    assert found["map@3"] == pytest.approx(np.mean(precisions), abs=1e-12)


def test_average_precision_of_one_group_is_scikit_learns():
    label, score, _ = answers(rows=300, levels=10**6)
    found = grouped(label, score, np.zeros(300, np.int64), 300)
    assert found["map@300"] == pytest.approx(average_precision_score(label, score), abs=1e-12)


def test_intervals_hold_what_they_promise():
    """Of 60 samples of one distribution, about 95 % of the intervals hold its mean AUC."""
    drawn = [answers(rows=300, seed=seed)[:2] for seed in range(60)]
    middle = np.mean([auc(*one) for one in drawn])
    found = [intervals(*one, resamples=100, seed=0)["auc"] for one in drawn]
    assert sum(low <= middle <= high for low, high in found) >= 51
    assert intervals(*drawn[0], resamples=100, seed=0)["auc"] == found[0]
    assert intervals(*drawn[0], resamples=0, seed=0) == {}


def test_parts_of_one_class_have_no_auc():
    label, score = np.array([0, 1, 1, 1]), np.array([0.0, 1.0, 2.0, 3.0])
    parts = {"first": label < 2, "second": np.array([False, False, True, True]), "none": label > 2}
    parts["first"][:] = [True, True, False, False]
    assert by_part(label, score, parts) == {"auc/first": 1.0}
