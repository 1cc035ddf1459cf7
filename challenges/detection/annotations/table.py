"""Annotations as read, before any image was opened: images, boxes as columns, and what was found amiss."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from common.image_folders import Listing, displayed

Kind = Literal["coco", "voc", "yolo"]

CONSEQUENCES = {
    "annotation-unreadable": "image left out",
    "annotation-malformed": "image left out",
    "annotation-empty": "image left out",
    "no-annotation": "image left out",
    "missing-image": "left out",
    "ambiguous-image": "left out",
    "malformed-image": "left out",
    "duplicate-image-id": "images left out",
    "duplicate-image": "boxes joined",
    "in-both-splits": "kept for validation only",
    "size-mismatch": "image left out",
    "too-many-boxes": "image left out",
    "turned-boxes": "boxes turned with the image",
    "orientation-unclear": "boxes taken as drawn on the upright image",
    "name-mismatch": "the annotation file's own name counts",
    "malformed-box": "box left out",
    "not-a-number": "box left out",
    "unknown-category": "box left out",
    "unknown-image": "box left out",
    "degenerate-box": "box left out",
    "outside-box": "box left out",
    "clipped-box": "box cut at the image's edge",
    "duplicate-box": "second box left out",
}
"""Code of a finding -> what the check does about it."""


@dataclass(frozen=True)
class Finding:
    """Something amiss in the annotations; `path` names the image where it concerns one, else the annotation file."""

    path: str
    code: str
    reason: str


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
    notes:     what was left aside, in sentences.
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

    def add(
        self,
        owner: int,
        corners: Sequence[float],
        label: int,
        number: int,
        ignored: bool = False,
        area: float = math.nan,
    ) -> None:
        self.owners.append(owner)
        self.corners.append(corners)
        self.labels.append(label)
        self.areas.append(area)
        self.ignored.append(ignored)
        self.numbers.append(number)

    def arrays(self) -> dict[str, Any]:
        """The columns as Annotations has them."""
        return {
            "owners": np.asarray(self.owners, np.int64),
            "corners": np.asarray(self.corners, np.float64).reshape(-1, 4),
            "labels": np.asarray(self.labels, np.int64),
            "areas": np.asarray(self.areas, np.float64),
            "ignored": np.asarray(self.ignored, bool),
            "numbers": np.asarray(self.numbers, np.int64),
        }


class ImageIndex:
    """The image files of a folder by name."""

    def __init__(self, listing: Listing) -> None:
        self.paths = [file.path for file in listing.files]

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.paths)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """File name without folders -> paths."""
        return _grouped(self.paths, lambda path: path.rsplit("/", 1)[-1])

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """File name without folders and extension -> paths."""
        return _grouped(self.paths, stem)


def unmentioned(index: ImageIndex, used: Iterable[str], mentioned: Callable[[str], bool]) -> list[Finding]:
    """The images that lie among used ones and that no annotation mentions: whether they show objects is not known."""
    folders = {parent(path) for path in used}
    left = [path for path in index.paths if parent(path) in folders and not mentioned(path)]
    return [Finding(displayed(path), "no-annotation", "no annotation mentions the image") for path in left]


def _grouped(paths: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        found[key(path)].append(path)
    return dict(found)


def stem(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def parent(path: str) -> str:
    """The folder of a path with its slash, "" at the top."""
    return path[: path.rfind("/") + 1]


def plain(text: object, limit: int = 120) -> str:
    """What a file says, fit for a table: one line, no broken characters, not endless."""
    shown = " ".join(str(text)[: 4 * limit].encode("utf-8", "backslashreplace").decode().split())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def number_in(text: str | None) -> float:
    """The finite number that a text holds; ValueError for anything else."""
    value = float(text or "")
    if not math.isfinite(value):
        raise ValueError(text)
    return value
