"""Rows of COCO's lists of images and annotations: their ids, the image each one means, its box."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from challenges.detection.annotations.masks import Extent, extent
from challenges.detection.annotations.names import ImageIndex, base, folded, parent, relative, split_named, stem
from challenges.detection.annotations.table import AnnotatedImage, BoxColumns, Finding, number_in, plain
from common.language.telling import english
from common.vision.image_folders import displayed

SAMPLED = 300  # image names looked up to tell which folder they are in
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0*)?")
_NOT = ("", "0", "0.0", "false", "no", "none", "null")


def fields(row: object, *names: str) -> tuple[Any, ...]:
    """The named values of a row, None for what is not there."""
    return tuple(row.get(name) if isinstance(row, dict) else None for name in names)


def identity(value: object) -> int | str | None:
    """An id as it is compared: 7, 7.0 and "7" are the same; other texts are themselves; None for what is no id."""
    if type(value) is int:  # nearly all of them: first
        return value if abs(value) < 2**53 else None
    if isinstance(value, str):
        text = value.strip()
        return int(float(text)) if _WHOLE.fullmatch(text) else text or None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else None


def is_true(value: object) -> bool:
    """Whether a flag is set, however it is written: 1, true, "1"; null is not."""
    return value.strip().lower() not in _NOT if isinstance(value, str) else bool(value)


class Reading:
    """Images and boxes of the files read so far."""

    def __init__(self, labels: Mapping[int | str, int], findings: list[Finding], index: ImageIndex) -> None:
        self.labels, self.findings, self.index = labels, findings, index
        self.images: list[AnnotatedImage] = []
        self.boxes = BoxColumns()
        self.mentioned: set[str | None] = set()
        self._taken: dict[str, tuple[int, str]] = {}  # path -> position in images, split
        self._mended: Counter[str] = Counter()

    def take(self, source: str, split: str, table: dict[str, Any]) -> None:
        positions = self._take_images(displayed(source), split, table["images"], source)
        self._take_boxes(displayed(source), table["annotations"], positions)

    def notes(self) -> tuple[str, ...]:
        """What was taken otherwise than written, in sentences."""
        told = {
            "ids": "{:,} ids are written as texts or decimals: '7' and 7.0 are taken as 7.",
            "numbers": "{:,} boxes are written as texts: read as numbers.",
            "extents": "{:,} annotations have no box: the extent of their polygon or mask is taken.",
        }
        return tuple(told[kind].format(count) for kind, count in self._mended.items())

    def kept(self) -> tuple[tuple[AnnotatedImage, ...], dict[str, Any]]:
        """The images and box columns without those that were left out on second sight."""
        columns = self.boxes.arrays()
        keeps = np.asarray([bool(image.path) for image in self.images], bool)
        chosen = keeps[columns["owners"]]
        columns = {name: column[chosen] for name, column in columns.items()}
        columns["owners"] = (np.cumsum(keeps) - 1)[columns["owners"]]
        return tuple(image for image in self.images if image.path), columns

    def _identity(self, value: object) -> int | str | None:
        key = identity(value)
        if key is not value and isinstance(key, int):
            self._mended["ids"] += 1
        return key

    def _take_images(self, shown: str, split: str, rows: Sequence[Any], source: str) -> dict[int | str, int | None]:
        """Image id -> position in `images`, None for images that are left out."""
        positions: dict[int | str, int | None] = {}
        names: dict[int | str, str] = {}
        folder = _image_folder(source, split, rows, self.index)
        for row in rows:
            written, name = fields(row, "id", "file_name")
            key = self._identity(written)
            if key is None or not isinstance(name, str) or not name:
                told = english("an image without id or file name: {row:s}", row=plain(row))
                self.findings.append(Finding(shown, "malformed-image", told))
                if key is not None:
                    positions[key] = None
            elif key not in positions:
                names[key] = name
                positions[key] = self._place(shown, split, name, row, folder)
            elif names.get(key) != name:
                self.mentioned.add(_resolve(name, folder, self.index)[0])
                told = english(
                    "image id {id:s} is {one:s} and {other:s}",
                    id=plain(key),
                    one=plain(names.get(key)),
                    other=plain(name),
                )
                self.findings.append(Finding(shown, "duplicate-image-id", told))
                self._forget(positions[key])
                positions[key] = None
        return positions

    def _place(self, source: str, split: str, name: str, row: Mapping[str, Any], folder: str) -> int | None:
        path, why = _resolve(name, folder, self.index)
        self.mentioned.add(path)
        if path is None:
            message = english("named in {file:s}, not in the folder")
            if why != "missing-image":
                message = english("named in {file:s}, in several folders")
            self.findings.append(Finding(plain(name), why, english(message, file=source)))
            return None
        if path in self._taken:
            position, other = self._taken[path]
            if other != split:
                told = english("{file:s} names an image of the validation split", file=source)
                self.findings.append(Finding(displayed(path), "in-both-splits", told))
                return None
            told = english("{file:s} lists the image under two ids", file=source)
            self.findings.append(Finding(displayed(path), "duplicate-image", told))
            return position
        self._taken[path] = len(self.images), split
        self.images.append(AnnotatedImage(path, split, _size(row.get("width")), _size(row.get("height"))))
        return len(self.images) - 1

    def _forget(self, position: int | None) -> None:
        """Leave an image out that was taken already; its row stays, without a path, and is dropped at the end."""
        if position is not None:
            self.images[position] = AnnotatedImage("", self.images[position].split)

    def _take_boxes(self, source: str, rows: Sequence[Any], positions: Mapping[int | str, int | None]) -> None:
        for order, row in enumerate(rows):
            try:
                number = identity(row.get("id", order))
                owner = positions[self._identity(row["image_id"])]  # type: ignore[index]
                if owner is None:
                    continue
                label = self.labels[self._identity(row["category_id"])]  # type: ignore[index]
                corners, measured = self._corners(row)
                area = row.get("area")
                stated = isinstance(area, (int, float)) and 0 < area < math.inf
                self.boxes.add(
                    owner,
                    corners,
                    label,
                    number if isinstance(number, int) else order,
                    is_true(row.get("iscrowd")),
                    float(area) if stated else math.nan,
                    measured,
                )
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
                self.findings.append(self._fault(source, order, row, positions))

    def _corners(self, row: Mapping[str, Any]) -> tuple[Extent, bool]:
        """The box, and whether it is the extent of a polygon or mask, as where `bbox` is missing, empty or zero.

        Raises TypeError or ValueError where there is neither.
        """
        box = row.get("bbox")
        blank = not box or (isinstance(box, list) and not any(box))
        around = extent(row.get("segmentation")) if blank else None
        if around is not None:
            self._mended["extents"] += 1
            return around, True
        if not isinstance(box, list):
            raise TypeError(box)
        left, top, width, height = (_number(value) for value in box)
        if str in map(type, box):
            self._mended["numbers"] += 1
        return (left, top, left + width, top + height), False

    def _fault(self, source: str, order: int, row: Any, positions: Mapping[int | str, int | None]) -> Finding:
        """What is wrong with an annotation that could not be taken."""
        if not isinstance(row, dict):
            told = english("annotation number {number} is {row:s}", number=order + 1, row=plain(row))
            return Finding(source, "malformed-box", told)
        name = plain(row.get("id", order))
        image, category, box = fields(row, "image_id", "category_id", "bbox")
        key = identity(image)
        if key is None or key not in positions:
            told = english("annotation {id:s}: no image has the id {image:s}", id=name, image=plain(image))
            return Finding(source, "unknown-image", told)
        position = positions[key]
        path = displayed(self.images[position].path) if position is not None else source
        if identity(category) not in self.labels:
            told = english("annotation {id:s}: no category has the id {category:s}", id=name, category=plain(category))
            return Finding(path, "unknown-category", told)
        if not isinstance(box, list) or len(box) != 4:
            told = english(
                "annotation {id:s}: bbox is {box:s}, not left, top, width, height, and there is no polygon or mask to "
                "measure",
                id=name,
                box=plain(box),
            )
            return Finding(path, "malformed-box", told)
        return Finding(path, "not-a-number", english("annotation {id:s}: bbox is {box:s}", id=name, box=plain(box)))


def _number(value: object) -> float:
    if isinstance(value, str):
        return number_in(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _size(value: object) -> int:
    whole = identity(value)
    return whole if isinstance(whole, int) and 0 < whole < 2**31 else 0


def _image_folder(source: str, split: str, rows: Sequence[Any], index: ImageIndex) -> str:
    """The folder, with its slash, that most of the named images lie in; among equals the one named after the split.

    "" where nothing but their names tells several apart: then images of one name in them are ambiguous.
    """
    names = [row.get("file_name") for row in rows[:: max(1, len(rows) // SAMPLED)] if isinstance(row, dict)]
    found: Counter[str] = Counter()
    for name in filter(None, (relative(name) for name in names if isinstance(name, str))):
        same = index.by_name.get(base(name)) or index.spelt_alike(name)
        for path in same:
            parts = path.split("/")
            above = len(parts) - name.count("/") - 1
            if above >= 0 and folded("/".join(parts[above:])) == folded(name):
                found["".join(f"{part}/" for part in parts[:above])] += 1
    wanted, beside = split or split_named(stem(source)), parent(source)

    def preference(folder: str) -> tuple[bool, bool, int, int, str]:
        close = beside.startswith(folder) or folder.startswith(beside)
        return (
            split_named(base(folder.rstrip("/"))) != wanted,
            not close,
            -found[folder],
            len(folder),
            folder,
        )

    most = max(found.values(), default=0)
    first, *others = sorted((folder for folder in found if found[folder] * 2 >= most), key=preference) or [""]
    rivals = [other for other in others if preference(other)[:3] == preference(first)[:3]]
    return first if all(other.startswith(first) for other in rivals) else ""


def _resolve(name: str, folder: str, index: ImageIndex) -> tuple[str | None, str]:
    """The listed path of an image's name, or None and the finding's code."""
    short = relative(name)
    if folder + short in index.known:
        return folder + short, ""
    same = index.by_name.get(base(short), [])
    ending = [path for path in same if path == short or path.endswith("/" + short)] or same
    if not ending:
        ending = index.spelt_alike(name, folder)
        if len(ending) == 1:
            index.respelt[name] = ending[0]
    if len(ending) == 1:
        return ending[0], ""
    return None, "ambiguous-image" if ending else "missing-image"
