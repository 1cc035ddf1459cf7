"""Which detection found which box: COCO's greedy matching over many images and IoU thresholds at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from challenges.detection.detections import DetectionTable
from challenges.detection.scenes import Scenes

BACKGROUND = -1  # the box of a detection that found none
CHUNK = 4_000_000  # pairs of a detection and a box that are looked at together, which bounds the memory


class Truth(NamedTuple):
    """The annotated boxes as columns; see `Scenes`."""

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    ignored: NDArray[np.bool_]

    @staticmethod
    def of(scenes: Scenes) -> "Truth":
        return Truth(scenes.image_of_box(), scenes.labels, scenes.boxes, scenes.ignored)

    def select(self, rows: NDArray[np.int64]) -> "Truth":
        return Truth(self.images[rows], self.labels[rows], self.boxes[rows], self.ignored[rows])


class Pairs(NamedTuple):
    """Detections and boxes of the same image and class that overlap.

    detections, boxes: (pair,) rows of both; by detection, rising.
    iou:               (pair,) intersection over union.
    cover:             (pair,) what COCO compares: the IoU, but for an ignored box the share of the detection inside it.
    """

    detections: NDArray[np.int64]
    boxes: NDArray[np.int64]
    iou: NDArray[np.float64]
    cover: NDArray[np.float64]


def overlapping_pairs(truth: Truth, table: DetectionTable, least: float) -> Pairs:
    """All pairs of the same image and class whose IoU or cover reaches `least`."""
    width = 1 + max(truth.labels.max(initial=0), table.labels.max(initial=0))
    keys = truth.images * width + truth.labels
    order = np.argsort(keys, kind="stable")
    wanted = table.images * width + table.labels
    begins, ends = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
    counts = ends - begins
    edges = np.searchsorted(np.cumsum(counts), np.arange(CHUNK, counts.sum() + CHUNK, CHUNK), "right")
    parts = []
    for low, high in zip(np.append(0, edges[:-1]), np.append(edges[:-1], len(table)), strict=True):
        some = counts[low:high]
        detections = np.repeat(np.arange(low, high), some)
        within = np.arange(len(detections)) - np.repeat(np.cumsum(some) - some, some)
        boxes = order[begins[detections] + within]
        iou, cover = _overlaps(table.boxes[detections], truth.boxes[boxes])
        cover = np.where(truth.ignored[boxes], cover, iou)
        kept = np.maximum(iou, cover) >= least
        parts.append(Pairs(detections[kept], boxes[kept], iou[kept], cover[kept]))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def ranks(table: DetectionTable) -> NDArray[np.int64]:
    """(row,) the place of each detection among those of its image and class, best first, from 0."""
    order = np.lexsort((-table.scores, table.labels, table.images))
    images, labels = table.images[order], table.labels[order]
    is_first = np.ones(len(table), bool)
    is_first[1:] = (np.diff(images) != 0) | (np.diff(labels) != 0)
    places = np.arange(len(table))
    result = np.empty(len(table), np.int64)
    result[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return result


def match(
    truth: Truth, pairs: Pairs, rank: NDArray[np.int64], thresholds: Sequence[float], most: int | None = None
) -> NDArray[np.int64]:
    """The box that each detection found, or `BACKGROUND`: (threshold, row).

    As COCO does it: the best detection of an image and class chooses first, each takes the box that it covers best
    among those still free, ignored boxes only when there is none else, and those are never used up.

    most: detections per image and class that take part; all by default
    """
    found = np.full((len(thresholds), len(rank)), BACKGROUND, np.int64)
    is_free = np.ones((len(truth.labels), len(thresholds)), bool)
    order = np.lexsort((-pairs.boxes, -pairs.cover, truth.ignored[pairs.boxes], pairs.detections))
    order = order[np.argsort(rank[pairs.detections[order]], kind="stable")]
    detections, boxes, cover = (column[order] for column in (pairs.detections, pairs.boxes, pairs.cover))
    least = np.minimum(thresholds, 1 - 1e-10)  # as COCO's code, so that rounding does not cost a perfect box
    turns = np.arange(min(rank.max(initial=-1) + 1, most if most is not None else len(rank)))
    pair_ranks = rank[detections]
    begins, ends = (np.searchsorted(pair_ranks, turns, side) for side in ("left", "right"))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if begin == end:
            continue
        row, box = detections[begin:end], boxes[begin:end]
        possible = (cover[begin:end, None] >= least) & (is_free[box] | truth.ignored[box, None])
        groups = np.flatnonzero(np.append(True, np.diff(row) != 0))
        places = np.where(possible, np.arange(len(row))[:, None], len(row))
        first = np.minimum.reduceat(places, groups, axis=0)  # (detection, threshold)
        which, threshold = np.nonzero(first < len(row))
        chosen = box[first[which, threshold]]
        found[threshold, row[groups[which]]] = chosen
        is_free[chosen, threshold] = False
    return found


def _overlaps(
    detections: NDArray[np.float32], boxes: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU of each detection and box, (pair, 4) both, and the share of the detection inside the box."""
    first, second = detections.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = sides.clip(0).prod(1)
    own, other = ((corners[:, 2:] - corners[:, :2]).prod(1) for corners in (first, second))
    union = own + other - shared
    return shared / np.where(union > 0, union, 1), shared / np.where(own > 0, own, 1)
