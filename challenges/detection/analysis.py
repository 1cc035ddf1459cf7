"""Beyond the metrics: intervals per class, score thresholds to use, the images with most mistakes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from challenges.detection.detections import DetectionTable
from challenges.detection.evaluation import (
    IOU_THRESHOLDS,
    MOST,
    VOC_THRESHOLD,
    Matches,
    ranked_classes,
    voc_average_precision,
)
from challenges.detection.matching import Truth, match, overlapping_pairs, ranks
from challenges.detection.resampling import COVERAGE, average_precisions, drawn_images
from challenges.detection.scenes import Scenes

DRAWS = 1000


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Per class, in the classes' order, nan where a class has no boxes.

    interval: (class, 2) 95 % percentile interval of COCO's AP, by drawing images with replacement.
    voc:      (class,) PASCAL VOC's average precision at IoU 0.5.
    """

    interval: NDArray[np.float64]
    voc: NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """The score from which on a class is found with the best F1, and what it then comes to."""

    score: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


@dataclass(frozen=True, eq=False)
class ImageErrors:
    """Per image, (image,) int64: boxes found, boxes missed, detections of nothing."""

    found: NDArray[np.int64]
    missed: NDArray[np.int64]
    false: NDArray[np.int64]

    def worst(self) -> NDArray[np.int64]:
        """Images with mistakes, those with most missed boxes and false detections first."""
        mistakes = self.missed + self.false
        order = np.argsort(-mistakes, kind="stable")
        return order[mistakes[order] > 0]

    def best(self) -> NDArray[np.int64]:
        """Images in which a box was found, those with fewest mistakes first, and then those with most boxes found."""
        order = np.lexsort((-self.found, self.missed + self.false))
        return order[self.found[order] > 0]


def class_scores(scenes: Scenes, table: DetectionTable) -> ClassScores:
    truth, rank = Truth.of(scenes), ranks(table)
    pairs = overlapping_pairs(truth, table, IOU_THRESHOLDS[0])
    voc = voc_average_precision(truth, table, pairs, VOC_THRESHOLD, len(scenes.classes))
    interval = np.full((len(scenes.classes), 2), np.nan)
    present = np.flatnonzero(np.bincount(truth.labels[~truth.ignored], minlength=len(scenes.classes) + 1)[1:])
    if len(scenes) > 1 and len(present):
        found = match(truth, pairs, rank, IOU_THRESHOLDS.tolist(), MOST)
        ranked = ranked_classes(scenes, table, found, rank)
        weights = drawn_images(ranked, len(scenes), DRAWS, 0)  # as many as the metrics' intervals are from
        drawn = average_precisions(ranked, weights).mean(-1)  # (class, draw), nan in draws without a box of the class
        interval[present] = [np.nanpercentile(values, COVERAGE) for values in drawn]
    return ClassScores(interval, voc)


def best_thresholds(scenes: Scenes, table: DetectionTable, matches: Matches) -> list[Threshold | None]:
    """For each class the score with the best F1 on these very images; None for a class never found rightly.

    Detections of equal score stand or fall together; of equally good scores the highest is taken.
    """
    totals = np.bincount(scenes.labels[~scenes.ignored], minlength=len(scenes.classes) + 1)
    chosen: list[Threshold | None] = []
    for label in range(1, len(scenes.classes) + 1):
        rows = np.flatnonzero((table.labels == label) & ~matches.is_ignored)
        rows = rows[np.argsort(-table.scores[rows], kind="stable")]
        hits = np.cumsum(matches.is_correct[rows])
        if not len(hits) or not hits[-1]:
            chosen.append(None)
            continue
        scores = table.scores[rows]
        is_last = np.append(scores[1:] != scores[:-1], True)
        tried = np.arange(1, len(rows) + 1)
        f1 = np.where(is_last, 2 * hits / (tried + totals[label]), -1)
        best = int(f1.argmax())
        chosen.append(
            Threshold(float(scores[best]), float(hits[best] / tried[best]), float(hits[best] / totals[label]))
        )
    return chosen


def image_errors(scenes: Scenes, table: DetectionTable, matches: Matches, threshold: float) -> ImageErrors:
    """Mistakes among the detections that score at least `threshold`; ignored boxes and their detections do not count.

    The best detections choose their boxes first, so those below the threshold never change who found what.
    """
    shown = table.scores >= threshold
    is_found = found_boxes(table, matches, threshold)
    owner, counted = scenes.image_of_box(), ~scenes.ignored

    def per_image(images: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(images, minlength=len(scenes))

    return ImageErrors(
        per_image(owner[counted & is_found]),
        per_image(owner[counted & ~is_found]),
        per_image(table.images[shown & ~matches.is_correct & ~matches.is_ignored]),
    )


def found_boxes(table: DetectionTable, matches: Matches, threshold: float) -> NDArray[np.bool_]:
    """(box,) whether a detection of at least `threshold` found it."""
    scores = np.append(table.scores, np.float32(-np.inf))  # the last is that of no detection
    return scores[matches.detection_of_box] >= threshold
