"""Matching of detections and boxes, against the same written out one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.detection import matching
from challenges.detection.matching import Truth, match, overlapping_pairs, ranks
from tests.detection.random_scenes import random_scenes_and_detections

THRESHOLDS = [0.3, 0.5, 0.8]


def overlap(detection, box, is_ignored):
    width = min(detection[2], box[2]) - max(detection[0], box[0])
    height = min(detection[3], box[3]) - max(detection[1], box[1])
    shared = max(0.0, width) * max(0.0, height)
    own, other = ((c[2] - c[0]) * (c[3] - c[1]) for c in (detection, box))
    return shared / (own if is_ignored else own + other - shared)


def written_out(truth, table, threshold, most):
    found = np.full(len(table), -1)
    for image, label in {*zip(table.images.tolist(), table.labels.tolist(), strict=True)}:
        rows = np.flatnonzero((table.images == image) & (table.labels == label))
        rows = sorted(rows, key=lambda row: -table.scores[row])[:most]
        boxes = np.flatnonzero((truth.images == image) & (truth.labels == label)).tolist()
        taken = set()
        for row in rows:
            for is_ignored in (False, True):
                best = None
                for box in boxes:
                    value = overlap(table.boxes[row].tolist(), truth.boxes[box].tolist(), is_ignored)
                    is_possible = truth.ignored[box] == is_ignored and box not in taken and value >= threshold
                    if is_possible and (best is None or value >= best[0]):
                        best = value, box
                if best is not None:
                    found[row] = best[1]
                    if not is_ignored:
                        taken.add(best[1])
                    break
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 8), most=st.sampled_from([2, 100]))
def test_matching_equals_the_written_out_version(seed, images, most):
    scenes, table = random_scenes_and_detections(seed, images, ignored=0.3)
    truth = Truth.of(scenes)
    found = match(truth, overlapping_pairs(truth, table, THRESHOLDS[0]), ranks(table), THRESHOLDS, most)
    for row, threshold in enumerate(THRESHOLDS):
        assert found[row].tolist() == written_out(truth, table, threshold, most).tolist()


def test_pairs_in_parts_are_the_pairs_at_once(monkeypatch):
    scenes, table = random_scenes_and_detections(1, 20)
    truth = Truth.of(scenes)
    whole = overlapping_pairs(truth, table, 0.2)
    monkeypatch.setattr(matching, "CHUNK", 13)
    for first, second in zip(whole, overlapping_pairs(truth, table, 0.2), strict=True):
        assert np.array_equal(first, second)
    assert len(whole.detections) > 40
