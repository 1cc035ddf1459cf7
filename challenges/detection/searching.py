"""Searching images in several windows each, and one answer from what the windows show.

An object that several windows show is found in each of them, and one on a tile's border is found in part. Per class:

1. what is whole goes through greedy suppression, the best first;
2. a detection that ends at a border of its tile inside the image is a piece: it is dropped where something whole covers
   more than the suppression's threshold of it, and only the best `per_class` of an image go on;
3. pieces that are left, of objects that no window shows whole, are joined when they agree in what both windows show;
4. suppression once more over all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.recipes import NmsConfig
from common.training.task import Batch
from common.vision.suppression import iou, keep_best

BORDER = 0.01  # of a tile's side: how near to its border a detection ends there


class Found(NamedTuple):
    """The detections of images, from all windows together, and what the whole images alone gave."""

    table: DetectionTable
    untiled: DetectionTable


@dataclass(frozen=True, eq=False)
class Sightings:
    """Detections as single windows gave them.

    table:   one row per sighting, in the images' pixels.
    windows: (row, 4) left, top, right, bottom of the window, in pixels.
    sizes:   (row, 2) width and height of the image.
    """

    table: DetectionTable
    windows: NDArray[np.float32]
    sizes: NDArray[np.float32]

    def select(self, rows: np.ndarray) -> "Sightings":
        return Sightings(self.table.select(rows), self.windows[rows], self.sizes[rows])

    def in_whole_images(self) -> NDArray[np.bool_]:
        """(row,) whether the window is all of the image."""
        return np.asarray((self.windows[:, 2:] - self.windows[:, :2] == self.sizes).all(1))

    def are_pieces(self) -> NDArray[np.bool_]:
        """(row,) whether the detection ends at a border of its window that lies inside the image."""
        slack = BORDER * (self.windows[:, 2:] - self.windows[:, :2])
        low = (self.table.boxes[:, :2] <= self.windows[:, :2] + slack) & (self.windows[:, :2] > 0)
        high = (self.table.boxes[:, 2:] >= self.windows[:, 2:] - slack) & (self.windows[:, 2:] < self.sizes)
        return np.asarray((low | high).any(1))

    @staticmethod
    def join(parts: "list[Sightings]") -> "Sightings":
        order = np.argsort(np.concatenate([part.table.images for part in parts]), kind="stable")
        columns = [np.concatenate([getattr(part, name) for part in parts])[order] for name in ("windows", "sizes")]
        return Sightings(DetectionTable.join([part.table for part in parts]), *columns)


def search(
    detect: Callable[[Tensor], Detections],
    batches: Iterable[Batch],
    widths: NDArray[np.int32],
    heights: NDArray[np.int32],
    limits: NmsConfig,
) -> Found:
    """Find objects in batches of `images` of which `index` names the image.

    Where batches also have `window`, left, top, right, bottom in pixels of the image, an image comes as many times,
    one after the other, with windows that all together are merged into its answer.

    widths, heights: (image,) pixels of the images that `index` counts.
    """
    merged: list[DetectionTable] = []
    untiled: list[DetectionTable] = []
    waiting: list[Sightings] = []
    for batch in batches:
        rows = batch["index"].cpu().numpy()
        found = [part.cpu().numpy() for part in detect(batch["images"])]
        if "window" not in batch:
            untiled.append(DetectionTable.from_batch(rows, widths[rows], heights[rows], found))
            continue
        sizes = np.stack([widths[rows], heights[rows]], axis=1)
        seen = _sightings(rows, batch["window"].cpu().numpy(), sizes, found)
        untiled.append(seen.table.select(seen.in_whole_images()))
        waiting.append(seen)
        seen = Sightings.join(waiting)
        goes_on = seen.table.images == rows[-1]  # the next batch may bring more of the last image
        merged.append(merge(seen.select(~goes_on), limits))
        waiting = [seen.select(goes_on)]
    if not waiting:
        return Found(*[DetectionTable.join(untiled)] * 2)
    merged.append(merge(waiting[0], limits))
    return Found(DetectionTable.join(merged), DetectionTable.join(untiled))


def merge(seen: Sightings, limits: NmsConfig) -> DetectionTable:
    """The detections of each image from the sightings in its windows, best first, at most `limits.per_image` of them.

    What was seen of an image only as a whole stays as it is.
    """
    has_tiles = np.unique(seen.table.images[~seen.in_whole_images()])
    is_tiled = np.isin(seen.table.images, has_tiles)
    tiled = seen.select(is_tiled)
    is_piece = tiled.are_pieces()
    whole = suppress(tiled.table.select(~is_piece), limits)
    joined = _joined(whole, tiled.select(is_piece), limits)
    table = DetectionTable.join([seen.table.select(~is_tiled), suppress(DetectionTable.join([whole, joined]), limits)])
    place = np.arange(len(table)) - np.searchsorted(table.images, table.images)
    return table.select(place < limits.per_image)


def suppress(table: DetectionTable, limits: NmsConfig) -> DetectionTable:
    """Greedy suppression per image and class; the images rise, and within an image the scores fall."""
    group = np.unique(np.stack([table.images, table.labels]), axis=1, return_inverse=True)[1].ravel()
    order = np.lexsort((-table.scores, group))
    counts = np.bincount(group)
    kept = keep_best(
        torch.from_numpy(table.boxes[order]),
        torch.from_numpy(np.cumsum(counts) - counts),
        torch.from_numpy(counts),
        limits.iou_threshold,
    ).numpy()
    table = table.select(order[kept])
    return table.select(np.lexsort((table.labels, -table.scores, table.images)))


def _sightings(
    rows: NDArray[np.int64], windows: NDArray[np.int32], sizes: NDArray[np.int32], found: list[np.ndarray]
) -> Sightings:
    """A batch's answers, which are shares of the windows, in pixels of the images."""
    extents = windows[:, 2:] - windows[:, :2]
    local = DetectionTable.from_batch(np.arange(len(rows)), extents[:, 0], extents[:, 1], found)
    own, batch_row = windows[local.images].astype(np.float32), local.images
    boxes = local.boxes + np.tile(own[:, :2], 2)
    table = DetectionTable(rows[batch_row], local.labels, local.scores, boxes)
    return Sightings(table, own, sizes[batch_row].astype(np.float32))


def _joined(whole: DetectionTable, pieces: Sightings, limits: NmsConfig) -> DetectionTable:
    """What is left of the pieces beside what was seen whole, the parts of one object as one box."""
    parts = []
    table = pieces.table
    for image, label in np.unique(np.stack([table.images, table.labels]), axis=1).T.tolist():
        own = np.flatnonzero((table.images == image) & (table.labels == label))
        own = own[np.argsort(-table.scores[own], kind="stable")][: limits.per_class]
        covering = whole.boxes[(whole.images == image) & (whole.labels == label)]
        own = own[covered(table.boxes[own], covering) <= limits.iou_threshold]
        if len(own):
            parts.append(_objects(pieces.select(own), limits.iou_threshold))
    return DetectionTable.join(parts)


def covered(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(box,) the largest share of each box that lies inside one of the others; 0 for boxes without an area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2).max(1, initial=0.0)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shares: NDArray[np.float32] = np.divide(shared, areas, out=np.zeros_like(areas), where=areas > 0)
    return shares


def _objects(pieces: Sightings, threshold: float) -> DetectionTable:
    """The pieces of one image and class, joined where two windows' pieces overlap by more than the threshold (IoU) in
    what both windows show: the box around them all, with the best of their scores.
    """
    boxes, windows = torch.from_numpy(pieces.table.boxes), torch.from_numpy(pieces.windows)
    low = torch.maximum(windows[:, None, :2], windows[None, :, :2])
    high = torch.minimum(windows[:, None, 2:], windows[None, :, 2:])
    shown = torch.cat([boxes[:, None].expand(-1, len(boxes), -1)[..., side].maximum(low).minimum(high)
                       for side in (slice(0, 2), slice(2, 4))], dim=2)  # fmt: skip
    is_shared = (high > low).all(2)
    agree = is_shared & (iou(shown.unsqueeze(2), shown.transpose(0, 1).unsqueeze(2)).squeeze(3).squeeze(2) > threshold)
    count, group = connected_components(agree.numpy(), directed=False)
    corners = np.full((count, 4), np.inf, np.float32)
    corners[:, 2:] = -np.inf
    np.minimum.at(corners[:, :2], group, pieces.table.boxes[:, :2])
    np.maximum.at(corners[:, 2:], group, pieces.table.boxes[:, 2:])
    scores = np.zeros(count, np.float32)
    np.maximum.at(scores, group, pieces.table.scores)
    images, labels = (np.repeat(column[:1], count) for column in (pieces.table.images, pieces.table.labels))
    return DetectionTable(images, labels, scores, corners)
