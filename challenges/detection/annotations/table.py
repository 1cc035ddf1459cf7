"""Annotations as read, before any image was opened: images, boxes as columns, and what was found amiss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from common.errors import DataError
from common.language.telling import english

Kind = Literal["coco", "voc", "yolo", "table"]
Form = Literal["left, top, right, bottom", "centre and size", "left, top and size"]

FARTHEST = 1e9  # pixels or shares: what lies beyond is as far outside, and cannot overflow

CONSEQUENCES = {
    "annotation-unreadable": english("image left out"),
    "annotation-malformed": english("image left out"),
    "annotation-empty": english("image left out"),
    "no-annotation": english("image left out"),
    "missing-image": english("left out"),
    "ambiguous-image": english("left out"),
    "malformed-image": english("left out"),
    "duplicate-image-id": english("images left out"),
    "duplicate-image": english("boxes joined"),
    "in-both-splits": english("kept for validation only"),
    "size-mismatch": english("image left out"),
    "too-many-boxes": english("image left out"),
    "turned-boxes": english("boxes turned with the image"),
    "orientation-unclear": english("boxes taken as drawn on the upright image"),
    "name-mismatch": english("the annotation file's own name counts"),
    "malformed-box": english("box left out"),
    "not-a-number": english("box left out"),
    "unknown-category": english("box left out"),
    "unknown-image": english("box left out"),
    "label-without-image": english("label file left out"),
    "degenerate-box": english("box left out"),
    "outside-box": english("box left out"),
    "clipped-box": english("box cut at the image's edge"),
    "duplicate-box": english("second box left out"),
}
"""Code of a finding -> what the check does about it, in English."""


@dataclass(frozen=True)
class Finding:
    """Something amiss in the annotations.

    path: the image where it concerns one, else the annotation file. reason: in English, as pages tell it again.
    """

    path: str
    code: str
    reason: str


class UnusableError(DataError):
    """Annotations from which nothing can be learnt.

    findings: why each image or box was left out, for the quarantine list.
    """

    def __init__(self, given: str, allowed: str = "", remedy: str = "", findings: Sequence[Finding] = ()) -> None:
        super().__init__(given, allowed, remedy)
        self.findings = tuple(findings)


@dataclass(frozen=True)
class AnnotatedImage:
    """path: as in the listing. split: "train" or "val", "" where a split has to be drawn.

    width, height: pixels as the annotation states them; 0 where it does not.
    """

    path: str
    split: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, eq=False)
class Annotations:
    """What the annotation files say.

    classes, category_ids: in the order of the labels, which start at 1.
    owners:    (box,) int64, positions in `images`.
    corners:   (box, 4) float64: left, top, right, bottom; right and bottom exclusive.
    relative:  corners are shares of the upright image's sides instead of pixels.
    labels:    (box,) int64. areas: (box,) float64 square pixels, nan where not stated. ignored: (box,) bool.
    numbers:   (box,) int64, what names a box to the user: with `noun`, "annotation 17", "object 3", "line 4".
    thinnest:  a box whose width or height, in pixels, is not above this is degenerate.
    sources:   the annotation files or folders, for the record.
    notes:     what was left aside, or taken otherwise than written, in sentences.
    understood: how the files were taken, as `common.terminal.understanding` has it.
    form:      how a box was written; extents: (box,) bool, those that were measured around a polygon or mask instead.
    first:     number of the leftmost and topmost pixel: 1 for VOC.
    """

    kind: Kind
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[AnnotatedImage, ...]
    owners: np.ndarray
    corners: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    numbers: np.ndarray
    noun: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    extents: np.ndarray
    form: Form
    understood: Mapping[str, str] = field(default_factory=dict)
    first: float = 0.0
    relative: bool = False
    thinnest: float = 0.1


@dataclass
class BoxColumns:
    """Boxes while they are being read."""

    owners: list[int] = field(default_factory=list)
    corners: list[Sequence[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    extents: list[bool] = field(default_factory=list)

    def add(
        self,
        owner: int,
        corners: Sequence[float],
        label: int,
        number: int,
        ignored: bool = False,
        area: float = math.nan,
        extent: bool = False,
    ) -> None:
        self.owners.append(owner)
        self.corners.append(corners)
        self.labels.append(label)
        self.areas.append(area)
        self.ignored.append(ignored)
        self.numbers.append(number)
        self.extents.append(extent)

    def arrays(self) -> dict[str, Any]:
        """The columns as Annotations has them."""
        return {
            "owners": np.asarray(self.owners, np.int64),
            "corners": np.clip(np.asarray(self.corners, np.float64).reshape(-1, 4), -FARTHEST, FARTHEST),
            "labels": np.asarray(self.labels, np.int64),
            "areas": np.asarray(self.areas, np.float64),
            "ignored": np.asarray(self.ignored, bool),
            "numbers": np.asarray(self.numbers, np.int64),
            "extents": np.asarray(self.extents, bool),
        }


def plain(text: object, limit: int = 120) -> str:
    """What a file says, fit for a table: one line, no broken characters, not endless."""
    shown = " ".join(str(text)[: 4 * limit].encode("utf-8", "backslashreplace").decode().split())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many there are beyond them."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def number_in(text: str | None) -> float:
    """The finite number that a text holds; ValueError for anything else."""
    value = float(text or "")
    if not math.isfinite(value):
        raise ValueError(text)
    return value
