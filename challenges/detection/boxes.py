"""Boxes: their two forms, their overlaps, the default boxes of an SSD, and which of these learn which object.

A box is left, top, right, bottom, or centre x, centre y, width, height; all are shares of the image's sides.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from common.vision.suppression import iou

__all__ = [
    "SSD128",
    "SSD192",
    "SSD300",
    "SSD512",
    "DefaultBoxes",
    "centres",
    "corners",
    "decode",
    "encode",
    "iou",
    "match",
]

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # Liu et al. 2016, arXiv:1512.02325, as in the authors' code


def corners(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) of centre x, centre y, width, height as left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def centres(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) of left, top, right, bottom as centre x, centre y, width, height."""
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


@dataclass(frozen=True)
class DefaultBoxes:
    """The boxes an SSD judges: of several shapes around the centre of every cell of its feature maps.

    image_size: pixels of the image's sides.
    maps:       cells along the sides of each feature map.
    steps:      pixels between the cells' centres, per map.
    scales:     pixels of the smaller square of each map, and one more for the last map's larger square.
    ratios:     per map, the sides' ratios of the other shapes; each stands for itself and its inverse.
    """

    image_size: int
    maps: tuple[int, ...]
    steps: tuple[int, ...]
    scales: tuple[float, ...]
    ratios: tuple[tuple[int, ...], ...]

    @property
    def shapes_per_cell(self) -> tuple[int, ...]:
        """Boxes around each cell's centre, per map: two squares, and two for every ratio."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)

    @property
    def count(self) -> int:
        return sum(cells * cells * shapes for cells, shapes in zip(self.maps, self.shapes_per_cell, strict=True))

    def boxes(self) -> Tensor:
        """All boxes, clamped to [0, 1]: map by map, in a map shape by shape, in a shape row by row.

        The order, and clamping centres and sizes rather than corners, are NVIDIA's (DeepLearningExamples, SSD).
        returns: (anchor, 4) float32 centre x, centre y, width, height
        """
        parts = []
        for position, (cells, step) in enumerate(zip(self.maps, self.steps, strict=True)):
            centre = (torch.arange(cells, dtype=torch.float64) + 0.5) * step / self.image_size
            sizes = torch.tensor(self._sizes(position), dtype=torch.float64) / self.image_size
            grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1).reshape(1, -1, 2)
            spread = (len(sizes), cells * cells, 2)
            parts.append(torch.cat([grid.expand(spread), sizes[:, None].expand(spread)], dim=-1).reshape(-1, 4))
        return torch.cat(parts).clamp(0, 1).float()

    def _sizes(self, position: int) -> list[tuple[float, float]]:
        """Width and height in pixels of each shape of a map."""
        small, large = self.scales[position], self.scales[position + 1]
        sizes = [(small, small), (math.sqrt(small * large),) * 2]
        for ratio in self.ratios[position]:
            long, short = small * math.sqrt(ratio), small / math.sqrt(ratio)
            sizes += [(long, short), (short, long)]
        return sizes


SSD128 = DefaultBoxes(
    image_size=128,
    maps=(16, 8, 4, 2, 1),
    steps=(8, 16, 32, 64, 128),
    scales=(20.48, 43.52, 66.56, 89.6, 112.64, 135.68),  # 16, 34, 52, ... 106 % of the image
    ratios=((2,), (2, 3), (2, 3), (2,), (2,)),
)
"""1,524 boxes: a fifth of the work at 300 pixels, for objects of a seventh of the image's sides and more"""

SSD192 = DefaultBoxes(
    image_size=192,
    maps=(24, 12, 6, 3, 1),
    steps=(8, 16, 32, 64, 192),
    scales=(21.12, 48, 86.4, 124.8, 163.2, 201.6),  # 11, 25, 45, ... 105 % of the image
    ratios=((2,), (2, 3), (2, 3), (2,), (2,)),
)
"""3,424 boxes: two fifths of the work at 300 pixels, for objects of a tenth of the image's sides and more"""

SSD300 = DefaultBoxes(
    image_size=300,
    maps=(38, 19, 10, 5, 3, 1),
    steps=(8, 16, 32, 64, 100, 300),
    scales=(21, 45, 99, 153, 207, 261, 315),
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)
"""8,732 boxes, with the scales of the COCO models of paper and NVIDIA"""

SSD512 = DefaultBoxes(
    image_size=512,
    maps=(64, 32, 16, 8, 4, 2, 1),
    steps=(8, 16, 32, 64, 128, 256, 512),
    scales=(20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),  # 4, 10, 26, ... 106 % of the image
    ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
)
"""24,564 boxes, with the paper's scales for COCO"""

BY_IMAGE_SIZE = {boxes.image_size: boxes for boxes in (SSD128, SSD192, SSD300, SSD512)}
"""The input's side in pixels -> the default boxes made for it."""


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """What a detector answers for its anchors when it finds these boxes; they must have an area.

    boxes:   (..., anchor, 4) left, top, right, bottom
    anchors: (anchor, 4) centre x, centre y, width, height
    returns: (..., anchor, 4)
    """
    found = centres(boxes)
    shift = (found[..., :2] - anchors[..., :2]) / anchors[..., 2:] / CENTRE_VARIANCE
    return torch.cat([shift, (found[..., 2:] / anchors[..., 2:]).log() / SIZE_VARIANCE], dim=-1)


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """The boxes a detector means; undoes `encode`.

    offsets: (..., anchor, 4)
    anchors: (anchor, 4) centre x, centre y, width, height
    returns: (..., anchor, 4) left, top, right, bottom, not clipped to the image
    """
    centre = offsets[..., :2] * CENTRE_VARIANCE * anchors[..., 2:] + anchors[..., :2]
    size = (offsets[..., 2:] * SIZE_VARIANCE).exp() * anchors[..., 2:]
    return corners(torch.cat([centre, size], dim=-1))


def match(boxes: Tensor, labels: Tensor, anchors: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Which object each anchor is to learn.

    An anchor takes the object it overlaps most (the first of equals) if their IoU reaches `threshold`. Besides, each
    object gets the anchor that overlaps it most (the first of equals), whatever the IoU and whoever else would have
    it; the last of several objects with the same best anchor gets it. Objects that overlap no anchor, as those without
    an area, get none.

    boxes:   (batch, box, 4) left, top, right, bottom
    labels:  (batch, box) int64 from 1 on, 0 in the padding
    anchors: (anchor, 4) centre x, centre y, width, height
    returns: offsets (batch, anchor, 4), 0 for the background, and labels (batch, anchor) int64, 0 for the background
    """
    batch, box = labels.shape
    if box == 0:
        none = labels.new_zeros(batch, len(anchors))
        return boxes.new_zeros(batch, len(anchors), 4), none
    overlaps = iou(boxes, corners(anchors)) * (labels > 0).unsqueeze(-1)  # (batch, box, anchor)
    best_overlap, best_anchor = overlaps.amax(2), overlaps.argmax(2)
    order = torch.arange(box, device=labels.device)
    claims = torch.where(best_overlap > 0, order, -1)
    claimed = claims.new_full((batch, len(anchors)), -1).scatter_reduce_(1, best_anchor, claims, "amax")
    closest, nearest = overlaps.max(1)  # five times as fast as argmax across rows
    chosen = torch.where(claimed >= 0, claimed, nearest)
    positive = (claimed >= 0) | (closest >= threshold)
    wanted = boxes.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
    offsets = torch.where(positive.unsqueeze(-1), encode(wanted, anchors), 0)
    return offsets, labels.gather(1, chosen) * positive
