"""Two engines agree where they found the same boxes, in whatever order; anything else is counted."""

import numpy as np
import pytest

from challenges.detection.comparison import DetectionComparison, agreement
from challenges.detection.detections import DetectionTable


def answers(boxes, scores, labels):
    return {
        "boxes": np.asarray([boxes], np.float32),
        "scores": np.asarray([scores], np.float32),
        "labels": np.asarray([labels], np.int64),
    }


FIRST, SECOND, NOTHING = [0.1, 0.1, 0.4, 0.5], [0.5, 0.5, 0.9, 0.8], [0, 0, 0, 0]
EXPECTED = answers([FIRST, SECOND, NOTHING], [0.9, 0.8999, 0], [1, 2, 0])


def test_the_order_of_near_equals_does_not_matter():
    swapped = answers([SECOND, FIRST, NOTHING], [0.9, 0.8999, 0], [2, 1, 0])
    comparison = DetectionComparison()
    assert comparison.same_answers(EXPECTED, swapped, "fp32").tolist() == [True, True]
    aligned = comparison.align(EXPECTED, swapped, "fp32")
    np.testing.assert_array_equal(aligned["boxes"], EXPECTED["boxes"])
    assert np.abs(aligned["scores"] - EXPECTED["scores"]).max() == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("boxes", "labels", "same"),
    [
        ([FIRST, NOTHING, NOTHING], [1, 0, 0], [True, False]),  # one is missing
        ([FIRST, SECOND, NOTHING], [1, 1, 0], [True, False]),  # another class
        ([FIRST, [0.5, 0.5, 0.9, 0.81], NOTHING], [1, 2, 0], [True, False]),  # moved by a thirtieth of its height
    ],
)
def test_every_difference_is_counted(boxes, labels, same):
    other = answers(boxes, [0.9, 0.8999, 0], labels)
    assert DetectionComparison().same_answers(EXPECTED, other, "fp32").tolist() == same


def test_weak_detections_do_not_count_and_reduced_precisions_look_less_closely():
    weak = answers([FIRST, SECOND, NOTHING], [0.9, 0.2, 0], [1, 2, 0])
    other = answers([[0.1, 0.1, 0.4, 0.51], NOTHING, NOTHING], [0.9, 0, 0], [1, 0, 0])
    assert DetectionComparison().same_answers(weak, other, "bf16").tolist() == [True]


def test_agreement_of_tables_is_per_detection():
    def table(*rows):
        return DetectionTable(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float32),
            np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
        )

    box, far = [10, 10, 50, 50], [60, 60, 90, 90]
    expected = table((0, 1, 0.9, box), (0, 2, 0.8, far), (2, 1, 0.7, box))
    found = table((0, 2, 0.9, far), (0, 1, 0.8, box), (1, 1, 0.7, box))
    assert agreement(expected, found, "fp32").tolist() == [True, True, False]
    assert agreement(expected, table(), "fp32").tolist() == [False, False, False]
    assert agreement(table(), found, "fp32").tolist() == []
