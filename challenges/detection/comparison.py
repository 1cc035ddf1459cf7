"""When two engines found the same: boxes of the same class that cover each other."""

import numpy as np

from challenges.detection.detections import DetectionTable
from common.export.parity import Comparison, Judged, Tolerance, Tolerances
from common.export.runner import Arrays

COVER = {"fp32": 0.99, "fp16": 0.95, "bf16": 0.9, "int8": 0.9}
"""IoU from which two boxes are one answer, by precision."""
SHOWN = 0.3
"""Score from which a detection counts as an answer: a detector that has learnt little finds hundreds of weaker ones of
nearly equal score, of which rounding in any precision keeps one or another."""

TOLERANCES = Tolerances(
    fp32=Tolerance(absolute=2e-3, relative=2e-3, disagreement=0.005, metric_loss=0.0035, metric_floor=0.002),
    fp16=Tolerance(absolute=None, relative=0.10, disagreement=0.01, metric_loss=0.01, metric_floor=0.002),
    bf16=Tolerance(absolute=None, relative=0.25, disagreement=0.03, metric_loss=0.02, metric_floor=0.002),
    int8=Tolerance(absolute=None, relative=0.50, disagreement=0.05, metric_loss=0.03, metric_floor=0.002),
)
"""fp32: boxes and scores of matched detections; 0.0035 of an average precision of 0.57 is 0.002,
the floor for detectors that have learnt next to nothing."""


class DetectionComparison(Comparison):
    """Detections are sets: rounding may swap two of nearly equal score, and that is no difference."""

    def __init__(self) -> None:
        super().__init__(TOLERANCES)

    def align(self, expected: Arrays, answers: Arrays, precision: str) -> Arrays:
        """Every expected detection beside the one that matches it; those without a match are counted elsewhere."""
        if any(answers[name].shape != expected[name].shape for name in expected):
            return answers
        match, _ = _matches(expected, answers, COVER[precision])
        rows = np.arange(len(match))[:, None]
        found = match >= 0
        return {
            name: np.where(found[..., None] if name == "boxes" else found, answers[name][rows, match], expected[name])
            for name in expected
        }

    def same_answers(self, expected: Arrays, answers: Arrays, precision: str) -> np.ndarray:
        match, counted = _matches(expected, answers, COVER[precision])
        return np.asarray((match >= 0)[counted & (expected["scores"] > SHOWN)])

    def same_decisions(self, baseline: Judged, judged: Judged, precision: str) -> np.ndarray:
        return agreement(baseline.decisions, judged.decisions, precision)


def agreement(expected: DetectionTable, found: DetectionTable, precision: str) -> np.ndarray:
    """Per expected detection that counts, (row,) bool: whether `found` has it too."""
    counted = expected.select(expected.scores > SHOWN)
    same = np.zeros(len(counted), bool)
    begins, ends = (np.searchsorted(found.images, counted.images, side) for side in ("left", "right"))
    for offset in range(int((ends - begins).max(initial=0))):
        rows = np.minimum(begins + offset, max(0, len(found) - 1))
        alike = (begins + offset < ends) & (found.labels[rows] == counted.labels)
        same |= alike & (_cover(found.boxes[rows], counted.boxes) >= COVER[precision])
    return same


def _matches(expected: Arrays, answers: Arrays, cover: float) -> tuple[np.ndarray, np.ndarray]:
    """Per expected detection its best match or -1, and whether it is a detection: both (batch, detection)."""
    overlap = _cover(expected["boxes"][:, :, None], answers["boxes"][:, None])
    counted = expected["labels"] > 0
    alike = (expected["labels"][:, :, None] == answers["labels"][:, None]) & counted[:, :, None]
    overlap = np.where(alike, overlap, 0.0)
    best = overlap.argmax(2)
    matched = np.take_along_axis(overlap, best[..., None], 2)[..., 0] >= cover
    return np.where(matched, best, -1), counted


def _cover(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4), broadcast; equal boxes without area cover each other."""
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = np.prod(np.clip(high - low, 0, None), -1, dtype=np.float64)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], -1, dtype=np.float64) for boxes in (first, second)]
    union = areas[0] + areas[1] - common
    equal = (first == second).all(-1)
    return np.where(equal, 1.0, common / np.where(union > 0, union, 1.0))
