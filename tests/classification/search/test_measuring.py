"""Retrieval figures against hand-made cases and scikit-learn; histograms against counting."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from challenges.classification.search.embedding import normalised
from challenges.classification.search.measuring import colour_histograms, random_vectors, retrieval
from challenges.classification.search.report import similar_section
from common.files import write_json


def angles(*degrees):
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)


def test_a_case_by_hand():
    # on a circle: 0 and 10 are of one class, 11 and 90 of the other
    figures = retrieval(angles(0, 10, 11, 90), np.array([0, 0, 1, 1]), (1, 2, 3))
    assert figures["recall@1"] == 2 / 4  # 0 finds 10 and 90 finds 11; 10 and 11 find each other
    assert figures["recall@2"] == 3 / 4  # then 10 finds 0, and 11 finds 0, too
    assert figures["recall@3"] == 1
    assert figures["map"] == (1 + 1 / 2 + 1 / 3 + 1) / 4


def test_average_precision_is_that_of_scikit_learn():
    vectors, labels = random_vectors(60, 5), np.random.default_rng(1).integers(0, 4, 60)
    cosines = vectors @ vectors.T
    expected = []
    for row in range(60):
        others = np.arange(60) != row
        expected.append(average_precision_score(labels[others] == labels[row], cosines[row, others]))
    assert retrieval(vectors, labels)["map"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_picture_alone_in_its_class_asks_nothing():
    assert retrieval(angles(0, 1, 5), np.array([0, 0, 1]))["recall@1"] == 1


def test_histograms_count_colours():
    red, half = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0], half[:2, :, 0] = 255, 255
    found = colour_histograms(np.stack([red, half]))
    assert found.shape == (2, 512)
    assert found[0] @ found[1] == pytest.approx(0.5**0.5)


def test_vectors_have_length_one_and_zeros_stay():
    np.testing.assert_allclose(normalised(np.array([[3, 4], [0, 0]])), [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_the_page_shows_what_was_measured_and_nothing_else(tmp_path):
    assert similar_section(tmp_path / "none.json") == []
    figures = {"this run": retrieval(angles(0, 1, 5), np.array([0, 0, 1]))}
    write_json(tmp_path / "measured.json", {"pictures": 3, "figures": figures})
    (section,) = similar_section(tmp_path / "measured.json")
    assert "recall@5" in section.html
    assert "1.000" in section.html
    assert "Each of 3 validation pictures" in section.html
