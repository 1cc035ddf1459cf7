"""Accuracy, balanced and not, against scikit-learn, and intervals that hold the truth."""

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from challenges.classification.accuracy import accuracies, balanced_interval


def test_both_accuracies_are_scikit_learns():
    generator = np.random.default_rng(0)
    labels = generator.choice(5, 300, p=[0.6, 0.2, 0.1, 0.1, 0.0])
    predicted = np.where(generator.random(300) < 0.7, labels, generator.integers(0, 4, 300))
    found = accuracies(predicted, labels, num_classes=5)
    np.testing.assert_allclose(found["top1"], accuracy_score(labels, predicted))
    np.testing.assert_allclose(found["balanced_top1"], balanced_accuracy_score(labels, predicted))


def test_the_commonest_class_buys_no_balanced_accuracy():
    skewed = accuracies(np.zeros(10, int), np.array([0] * 9 + [1]), num_classes=2)
    assert skewed == {"top1": 0.9, "balanced_top1": 0.5}


def test_the_interval_holds_the_true_share_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    labels, chance = np.repeat([0, 1, 2], [80, 15, 5]), np.array([0.9, 0.7, 0.6])
    held = []
    for _ in range(400):
        predicted = np.where(generator.random(100) < chance[labels], labels, (labels + 1) % 3)
        low, high = balanced_interval(predicted, labels, 3)
        held.append(low <= chance.mean() <= high)
    assert 0.9 <= np.mean(held) <= 0.99
