"""How good detections are: COCO's average precision with intervals, VOC's, and which detection found which box."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from challenges.detection.detections import DetectionTable
from challenges.detection.matching import BACKGROUND, Pairs, Truth, match, overlapping_pairs, ranks
from challenges.detection.resampling import RECALLS, RankedClass, bootstrap
from challenges.detection.scenes import Scenes

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 100  # detections per image and class that COCO's average precision looks at
VOC_THRESHOLD = 0.5
SAME_OBJECT = 0.5  # IoU from which a detection is taken for a box in `confusion`

__all__ = ["RECALLS", "Matches", "Scores", "confusion", "evaluate", "voc_average_precision"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Who found whom at an IoU of 0.5.

    is_correct:       (row,) bool true positives.
    is_ignored:       (row,) bool detections that count as neither: of an ignored box, or beyond the best 100 of their
                      image and class. All others are false positives.
    detection_of_box: (box,) int64 the detection that found each box; -1: none. Of an ignored box the best one.
    """

    is_correct: NDArray[np.bool_]
    is_ignored: NDArray[np.bool_]
    detection_of_box: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """What `evaluate` finds; shares lie in 0..1 and are nan where no box defines them.

    metrics:   ap, ap50, ap75, ap_small, ap_medium, ap_large, ar100, voc_ap50.
    intervals: 95 % intervals of ap and ap50, by drawing images with replacement.
    per_class: ap and ap50, boxes (those not ignored) and detections, (class,) each, in the classes' order.
    curves:    (class, 101) precision at IoU 0.5 for `RECALLS`, made monotone as COCO does.
    matches:   who found whom.
    resamples: how many times images were drawn.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: Mapping[str, np.ndarray]
    curves: NDArray[np.float64]
    matches: Matches
    resamples: int


def evaluate(scenes: Scenes, table: DetectionTable, *, resamples: int = 1000, seed: int = 0) -> Scores:
    """Judge the detections of all images of `scenes`, as faster-coco-eval does on COCO's own format.

    resamples: draws of images for the intervals, fewer on large data (see `resampling.WORK`); 0 leaves them out
    """
    truth = Truth.of(scenes)
    pairs = overlapping_pairs(truth, table, IOU_THRESHOLDS[0])
    rank = ranks(table)
    found = match(truth, pairs, rank, IOU_THRESHOLDS.tolist(), MOST)
    precision, recall = _coco(scenes, truth, table)
    defined = precision[:, 0] > -1  # (threshold, class, area)
    ap = np.where(defined, precision.mean(1), np.nan)
    recall = np.where(recall > -1, recall, np.nan)
    classes = {
        "ap": _mean(ap[:, :, 0], 0),
        "ap50": ap[0, :, 0],
        "boxes": np.bincount(truth.labels[~truth.ignored] - 1, minlength=len(scenes.classes)),
        "detections": np.bincount(table.labels - 1, minlength=len(scenes.classes)),
    }
    metrics = {
        "ap": ap[:, :, 0],
        "ap50": ap[0, :, 0],
        "ap75": ap[5, :, 0],
        "ap_small": ap[:, :, 1],
        "ap_medium": ap[:, :, 2],
        "ap_large": ap[:, :, 3],
        "ar100": recall[:, :, 0],
        "voc_ap50": voc_average_precision(truth, table, pairs, VOC_THRESHOLD, len(scenes.classes)),
    }
    intervals, used = bootstrap(ranked_classes(scenes, table, found, rank), len(scenes), resamples, seed)
    return Scores(
        metrics={name: float(_mean(values)) for name, values in metrics.items()},
        intervals=intervals,
        per_class=classes,
        curves=np.where(defined[0, None, :, 0], precision[0, :, :, 0], np.nan).T,
        matches=_matches(truth, table, found[0], rank),
        resamples=used,
    )


def ranked_classes(
    scenes: Scenes, table: DetectionTable, found: NDArray[np.int64], rank: NDArray[np.int64]
) -> list[RankedClass]:
    """Every class that has boxes, its detections best first over all images; equal scores in the images' order."""
    truth = Truth.of(scenes)
    takes_part = rank < MOST
    order = np.lexsort((rank, table.images, -table.scores))
    order = order[takes_part[order]]
    is_ignored = (found != BACKGROUND) & np.append(truth.ignored, False)[found]
    result = []
    for label in range(1, len(scenes.classes) + 1):
        counts = np.bincount(truth.images[(truth.labels == label) & ~truth.ignored], minlength=len(scenes))
        if counts.any():
            rows = order[table.labels[order] == label]
            is_correct = (found[:, rows] != BACKGROUND) & ~is_ignored[:, rows]
            result.append(RankedClass(counts, table.images[rows], is_correct, is_ignored[:, rows]))
    return result


def voc_average_precision(
    truth: Truth, table: DetectionTable, pairs: Pairs, threshold: float, num_classes: int
) -> NDArray[np.float64]:
    """Per-class average precision as PASCAL VOC has counted it since 2010: (class,), nan where a class has no boxes.

    It is the area under the whole monotone curve.

    A detection belongs to the box that it overlaps most, be it taken or not; further detections of a box are wrong, and
    those of an ignored (difficult) box do not count.

    pairs: all pairs that overlap by `threshold` or more
    """
    best = np.lexsort((pairs.boxes, -pairs.iou, pairs.detections))
    best = best[np.append(True, np.diff(pairs.detections[best]) != 0)[: len(best)]]
    best = best[pairs.iou[best] >= threshold]
    box_of = np.full(len(table), BACKGROUND)
    box_of[pairs.detections[best]] = pairs.boxes[best]

    order = np.lexsort((table.images, -table.scores))
    boxes = box_of[order]
    is_first = np.zeros(len(table), bool)
    is_first[np.unique(boxes, return_index=True)[1]] = True
    ignored = np.append(truth.ignored, False)[boxes]
    correct = is_first & (boxes != BACKGROUND)
    result = np.full(num_classes, np.nan)
    for label in range(1, num_classes + 1):
        total = np.count_nonzero((truth.labels == label) & ~truth.ignored)
        counted = (table.labels[order] == label) & ~ignored
        if total:
            hits = np.cumsum(correct[counted])
            result[label - 1] = _area(hits / total, hits / np.arange(1, len(hits) + 1))
    return result


def confusion(scenes: Scenes, table: DetectionTable, threshold: float = 0.3) -> NDArray[np.int64]:
    """How often a box of each class (row) was found as each class (column): (class + 1, class + 1).

    Row and column 0 are the background: detections of nothing, and boxes that were missed. Detections must score at
    least `threshold`; each first looks for a box of its class, then those left for a box left of any class. Ignored
    boxes and their detections are left out.
    """
    truth, sure = Truth.of(scenes), table.select(table.scores >= threshold)
    own = match(truth, overlapping_pairs(truth, sure, SAME_OBJECT), ranks(sure), [SAME_OBJECT])[0]
    left_boxes = np.flatnonzero(~np.isin(np.arange(len(truth.labels)), own) & ~truth.ignored)
    left_rows = np.flatnonzero(own == BACKGROUND)
    others = truth.select(left_boxes)._replace(labels=np.ones(len(left_boxes), np.int64))
    rest = sure.select(left_rows)
    rest = DetectionTable(rest.images, np.ones(len(rest), np.int64), rest.scores, rest.boxes)
    mistaken = match(others, overlapping_pairs(others, rest, SAME_OBJECT), ranks(rest), [SAME_OBJECT])[0]
    own[left_rows] = np.append(left_boxes, BACKGROUND)[mistaken]

    counted = ~np.append(truth.ignored, False)[own]
    missed = np.flatnonzero(~np.isin(np.arange(len(truth.labels)), own) & ~truth.ignored)
    matrix = np.zeros((len(scenes.classes) + 1,) * 2, np.int64)
    np.add.at(matrix, (np.append(truth.labels, 0)[own][counted], sure.labels[counted]), 1)
    matrix[:, 0] += np.bincount(truth.labels[missed], minlength=len(matrix))
    return matrix


def _coco(scenes: Scenes, truth: Truth, table: DetectionTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """faster-coco-eval's precision (threshold, recall, class, area) and recall (threshold, class, area); -1: undefined.

    Areas: all, small (up to 32 x 32 pixels), medium (up to 96 x 96), large.
    """
    images = [{"id": image} for image in range(len(scenes))]
    categories = [{"id": label, "name": name} for label, name in enumerate(scenes.classes, start=1)]
    boxes = _annotations(truth.images, truth.labels, truth.boxes)
    for box, area, ignored in zip(boxes, scenes.areas.tolist(), truth.ignored.tolist(), strict=True):
        box["area"], box["iscrowd"] = area, int(ignored)
    found = _annotations(table.images, table.labels, table.boxes)
    for detection, score in zip(found, table.scores.tolist(), strict=True):
        detection["score"], detection["iscrowd"] = score, 0
        detection["area"] = detection["bbox"][2] * detection["bbox"][3]
    sides = []
    for annotations in (boxes, found):
        side = COCO()
        side.dataset = {"images": images, "categories": categories, "annotations": annotations}
        side.createIndex()
        sides.append(side)
    evaluator = COCOeval_faster(*sides, "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    last = evaluator.params.maxDets.index(MOST)
    return evaluator.eval["precision"][..., last], evaluator.eval["recall"][..., last]


def _annotations(images: np.ndarray, labels: np.ndarray, boxes: np.ndarray) -> list[dict[str, Any]]:
    corners = boxes.astype(np.float64)
    corners[:, 2:] -= corners[:, :2]
    columns = zip(images.tolist(), labels.tolist(), corners.tolist(), strict=True)
    return [
        {"id": number, "image_id": image, "category_id": label, "bbox": box}
        for number, (image, label, box) in enumerate(columns, start=1)
    ]


def _matches(truth: Truth, table: DetectionTable, found: NDArray[np.int64], rank: NDArray[np.int64]) -> Matches:
    has_box = found != BACKGROUND
    of_ignored = has_box & np.append(truth.ignored, False)[found]
    by_score = np.argsort(table.scores, kind="stable")
    by_score = by_score[has_box[by_score]]
    detection_of_box = np.full(len(truth.labels), -1)
    detection_of_box[found[by_score]] = by_score  # the best comes last and stays
    return Matches(has_box & ~of_ignored, of_ignored | (rank >= MOST), detection_of_box)


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Area under a curve made monotone."""
    height = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(np.sum(np.diff(recall, prepend=0.0) * height[:-1]))


def _mean(values: NDArray[np.float64], axis: int | None = None) -> np.ndarray:
    """The mean of what is defined; nan where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(count, 1), np.nan)
