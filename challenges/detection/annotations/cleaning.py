"""From annotations and probed images to clean boxes: turned with their image, clipped, dropped where they are none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from challenges.detection.annotations.sizes import difference
from challenges.detection.annotations.table import FARTHEST, AnnotatedImage, Annotations, Finding, plain
from common.language.telling import english
from common.vision.image_folders import displayed
from common.vision.images import ImageFacts

MAX_BOXES = 1000  # of an image: every batch has room for as many boxes as the fullest image
ROUNDING = 1.0  # pixels that a box may reach beyond its image without being reported
_THINNEST = 0.1  # pixels of width or height that are left of a box after clipping

_UNREAD_BOXES = ("malformed-box", "not-a-number", "unknown-category")
_RESIZED = english("the annotation says {stated}, the image is {actual}: the image looks resized")
_MISMATCHES = {
    "swapped": english(
        "the annotation says {stated}, the image is {actual}: the sizes look swapped, or the image was turned since"
    ),
    "smaller": _RESIZED,
    "larger": _RESIZED,
    "other": english("the annotation says {stated}, the image is {actual}"),
}


@dataclass(frozen=True, eq=False)
class CleanScenes:
    """Usable images by path, the boxes that are left in them, and what was found amiss.

    splits:    (image,) "train", "val", or "" where it has to be drawn.
    owners:    (box,) int64, positions in `images`, ascending.
    boxes:     (box, 4) float32 pixels of the upright image: left, top, right, bottom.
    rounded:   boxes that reached beyond the image by no more than rounding does.
    """

    images: tuple[ImageFacts, ...]
    paths: tuple[str, ...]
    splits: np.ndarray
    owners: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    findings: tuple[Finding, ...]
    rounded: int


def clean(annotations: Annotations, facts: Mapping[str, ImageFacts]) -> CleanScenes:
    """Bring the annotations into the pixels of the images as they are decoded.

    facts: usable images by path; boxes of the others are dropped with them.
    """
    findings: list[Finding] = []
    kept, turned = _fitting(annotations, facts, findings)
    order = sorted(np.flatnonzero(kept).tolist(), key=lambda position: annotations.images[position].path)
    positions = np.full(len(annotations.images), -1, np.int64)
    positions[order] = np.arange(len(order))
    images = tuple(facts[annotations.images[position].path] for position in order)
    turns = np.ones(len(turned), np.int64)
    turns[turned] = [facts[annotations.images[position].path].orientation for position in np.flatnonzero(turned)]
    paths = tuple(annotations.images[position].path for position in order)
    boxes = _Boxes(annotations, positions, images, paths, turns)
    boxes.drop_and_clip(findings)
    return CleanScenes(
        images=images,
        paths=paths,
        splits=np.asarray([annotations.images[position].split for position in order], object),
        owners=boxes.owners,
        boxes=boxes.corners.astype(np.float32),
        labels=boxes.labels,
        areas=boxes.areas.astype(np.float32),
        ignored=boxes.ignored,
        findings=tuple(findings),
        rounded=boxes.rounded,
    )


def _fitting(
    annotations: Annotations, facts: Mapping[str, ImageFacts], findings: list[Finding]
) -> tuple[np.ndarray, np.ndarray]:
    """Which images are used, and in which of them the boxes have to be turned: (image,) bool each."""
    counts = np.bincount(annotations.owners, minlength=len(annotations.images))
    robbed = {finding.path for finding in annotations.findings if finding.code in _UNREAD_BOXES}
    kept, turned = np.zeros(len(counts), bool), np.zeros(len(counts), bool)
    for position, (image, count) in enumerate(zip(annotations.images, counts.tolist(), strict=True)):
        fact = facts.get(image.path)
        if fact is None:
            continue
        if not count and displayed(image.path) in robbed:
            told = english("none of its boxes can be read: whether it shows objects is not known")
            findings.append(Finding(displayed(image.path), "no-annotation", told))
            continue
        code, reason = _judge(image, fact, count)
        if code and count:
            findings.append(Finding(displayed(image.path), code, reason))
        kept[position] = not count or code not in ("size-mismatch", "too-many-boxes")
        turned[position] = code == "turned-boxes"
    return kept, turned


def _judge(image: AnnotatedImage, fact: ImageFacts, count: int) -> tuple[str, str]:
    """Code and reason of what is to be said about an image's size and orientation, or two empty strings."""
    if count > MAX_BOXES:
        return "too-many-boxes", english("{count:,} boxes; at most {most:,} are used", count=count, most=MAX_BOXES)
    stated, upright = (image.width, image.height), (fact.width, fact.height)
    stored = upright[::-1] if fact.orientation >= 5 else upright
    told, actual = f"{stated[0]} x {stated[1]}", f"{upright[0]} x {upright[1]}"
    if 0 not in stated and stated not in (stored, upright):
        return "size-mismatch", english(_MISMATCHES[difference(image, fact)], stated=told, actual=actual)
    if fact.orientation == 1 or (stated == upright and stored != upright):
        return "", ""
    if stated == stored and stored != upright:
        message = english("the annotation says {stated}, as stored under EXIF orientation {turn}")
        return "turned-boxes", english(message, stated=told, turn=fact.orientation)
    message = english("EXIF orientation {turn}, and the annotation fits the image as stored and upright")
    if 0 in stated:
        message = english("EXIF orientation {turn}, and the annotation states no size")
    return "orientation-unclear", english(message, turn=fact.orientation)


class _Boxes:
    """Boxes of the usable images, ordered by image, in pixels of the upright image."""

    def __init__(
        self,
        annotations: Annotations,
        positions: np.ndarray,
        images: tuple[ImageFacts, ...],
        paths: tuple[str, ...],
        turns: np.ndarray,
    ) -> None:
        """positions: (annotated image,) places in `images`, -1 for those left out. turns: (annotated image,) EXIF."""
        self.annotations, self.images, self.paths = annotations, images, paths
        owners = positions[annotations.owners]
        rows = np.flatnonzero(owners >= 0)
        rows = rows[np.argsort(owners[rows], kind="stable")]
        self.owners, self.labels = owners[rows], annotations.labels[rows]
        self.areas, self.ignored = annotations.areas[rows], annotations.ignored[rows]
        self.numbers, self.rounded = annotations.numbers[rows], 0
        sides = np.asarray([(fact.width, fact.height) for fact in images], np.float64).reshape(-1, 2)
        self.limits = np.tile(sides[self.owners], 2)
        corners = np.clip(annotations.corners[rows], -FARTHEST, FARTHEST)
        corners = corners * self.limits if annotations.relative else corners
        self.corners = turn(corners, turns[annotations.owners[rows]], self.limits[:, :2])

    def drop_and_clip(self, findings: list[Finding]) -> None:
        """Drop what is no box, or lies elsewhere, or is there already; cut the others at the image's edges."""
        sizes = self.corners[:, 2:] - self.corners[:, :2]
        self._drop((sizes <= self.annotations.thinnest).any(1), "degenerate-box", findings)
        clipped = np.clip(self.corners, 0, self.limits)
        self._drop((clipped[:, 2:] - clipped[:, :2] < _THINNEST).any(1), "outside-box", findings)
        clipped = np.clip(self.corners, 0, self.limits)
        beyond = np.abs(clipped - self.corners).max(1, initial=0)
        self.rounded = int(np.count_nonzero((beyond > 1e-6) & (beyond <= ROUNDING)))
        self._report(beyond > ROUNDING, "clipped-box", findings)
        self.corners = clipped
        boxes = (clipped[:, 2:] - clipped[:, :2]).prod(1)
        believable = self.areas <= self.limits[:, :2].prod(1)  # not where none is stated, which is nan
        self.areas = np.where(believable, self.areas, boxes)
        self._drop(self._repeated(), "duplicate-box", findings)

    def _repeated(self) -> np.ndarray:
        """(box,) bool: an earlier box of the same image and class has the same corners."""
        keys = np.column_stack([self.owners, self.labels, self.ignored, np.round(self.corners, 3)])
        _, first = np.unique(keys, axis=0, return_index=True)
        repeated = np.ones(len(keys), bool)
        repeated[first] = False
        return repeated

    def _report(self, rows: np.ndarray, code: str, findings: list[Finding]) -> None:
        for row in np.flatnonzero(rows).tolist():
            image, corners = self.images[self.owners[row]], self.corners[row]
            left, top, right, bottom = corners.tolist()
            reason = english(
                "{noun} {number} ({name:s}): left {left:.6g}, top {top:.6g}, right {right:.6g}, bottom {bottom:.6g} "
                "in {width} x {height}",
                noun=self.annotations.noun,
                number=self.numbers[row],
                name=self.annotations.classes[self.labels[row] - 1],
                left=left,
                top=top,
                right=right,
                bottom=bottom,
                width=image.width,
                height=image.height,
            )
            findings.append(Finding(self._path(row), code, plain(reason, 300)))

    def _path(self, row: int) -> str:
        return displayed(self.paths[self.owners[row]])

    def _drop(self, rows: np.ndarray, code: str, findings: list[Finding]) -> None:
        self._report(rows, code, findings)
        for name in ("owners", "labels", "areas", "ignored", "numbers", "limits", "corners"):
            setattr(self, name, getattr(self, name)[~rows])


def turn(corners: np.ndarray, orientations: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Boxes drawn on the picture as stored, on the upright picture: EXIF 2.32, tag 274.

    corners: (box, 4) left, top, right, bottom. orientations: (box,) 1..8. sides: (box, 2) upright width and height.
    """
    corners = np.where((orientations >= 5)[:, None], corners[:, [1, 0, 3, 2]], corners)
    for axis, mirrored in ((1, (3, 4, 7, 8)), (0, (2, 3, 6, 7))):
        rows = np.isin(orientations, mirrored)
        low, high = corners[rows, axis].copy(), corners[rows, axis + 2].copy()
        corners[rows, axis], corners[rows, axis + 2] = sides[rows, axis] - high, sides[rows, axis] - low
    return corners
