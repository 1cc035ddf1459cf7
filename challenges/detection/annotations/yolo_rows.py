"""What the columns of YOLO's label rows are: a box, a polygon, and what some tools write behind a box."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from challenges.detection.annotations.masks import Extent
from challenges.detection.annotations.table import FARTHEST, number_in, plain
from common.language.telling import english

BOX = english("class, centre x, centre y, width, height")
_ALIKE = 0.9  # of the rows that must agree on a reading of further columns
_ENOUGH = 8  # rows from which on an agreement is no accident
_SLACK = 0.02  # of the image's side


@dataclass(frozen=True)
class Row:
    """A line's numbers behind the class. owner: position of the image. number: of the line, from 1."""

    owner: int
    number: int
    category: int
    values: tuple[float, ...]


class RowError(ValueError):
    """A line that is no row, with the finding's code and the reason in English, as pages tell it again."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def parse(line: str, names: dict[int, str] | None) -> tuple[int, tuple[float, ...]]:
    """Class number and further numbers of a line; the class may be written as 0, 0.0 or by its name in `names`.

    Whether a class of that number exists is left to the caller. Raises RowError.
    """
    written = line.split()
    first = 1
    while first < len(written) and not _is_finite(written[first]):
        first += 1
    category = _category(" ".join(written[:first]), names)
    if category is None and first > 1:
        raise RowError("not-a-number", plain(line))
    if len(written) - first < 4:
        raise RowError("malformed-box", english("{count} values instead of {columns}", count=len(written), columns=BOX))
    if category is None:
        raise RowError("unknown-category", english("class {name:s}", name=plain(" ".join(written[:first]), 40)))
    try:
        return category, tuple(number_in(text) for text in written[first:])
    except ValueError:
        raise RowError("not-a-number", plain(line)) from None


def spelling(line: str) -> str:
    """How a row that `parse` takes writes its class: "as decimals", "by name", or "" for a whole number."""
    text = line.split(maxsplit=1)[0]
    if text.isdecimal():
        return ""
    return "as decimals" if _is_finite(text) else "by name"


def _is_finite(text: str) -> bool:
    try:
        number_in(text)
    except ValueError:
        return False
    return True


def _category(text: str, names: dict[int, str] | None) -> int | None:
    """The class that a text means, None where it is none."""
    if _is_finite(text):
        value = float(text)
        return int(value) if value == int(value) and 0 <= value < 2**31 else None
    for number, name in (names or {}).items():
        if name.casefold() == text.casefold():
            return number
    return None


@dataclass(frozen=True)
class Columns:
    """How rows of more columns than a box has are read.

    count:    numbers behind the class that nearly all rows have; boxed: four of them, from `start` on, are the box.
    meaning:  for the record, in words. unclear: why rows of `count` numbers are refused, "" where they are not.
    """

    count: int = 4
    boxed: bool = True
    meaning: str = BOX
    unclear: str = ""
    start: int = 0

    def corners(self, values: Sequence[float]) -> tuple[Extent, bool]:
        """The box, and whether it is a polygon's extent. Raises RowError."""
        if len(values) == self.count and self.unclear:
            raise RowError("malformed-box", self.unclear)
        if len(values) == 4 or (len(values) == self.count and self.boxed):
            start = self.start if len(values) == self.count else 0
            x, y, width, height = values[start : start + 4]
            return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), False
        if len(values) >= 6 and len(values) % 2 == 0:
            return (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])), True
        told = english("{count} values instead of {columns}", count=len(values) + 1, columns=BOX)
        raise RowError("malformed-box", told)


def columns_of(rows: Sequence[Row], keypoint_values: int) -> Columns:
    """What the columns mean, from the counts and values of all rows.

    keypoint_values: how many values of keypoints follow each box, where data.yaml says so; else 0.
    """
    counts = Counter(len(row.values) for row in rows)
    if not counts:
        return Columns()
    count, times = counts.most_common(1)[0]
    if keypoint_values and counts[4 + keypoint_values]:
        return Columns(4 + keypoint_values, meaning=f"{BOX}; {keypoint_values} values of keypoints ignored")
    if count == 4 or times < _ALIKE * len(rows):
        polygons = sum(number for size, number in counts.items() if size >= 6 and size % 2 == 0)
        mixed = f"{BOX}; or class and a polygon, of which the extent is taken ({polygons:,} rows)"
        return Columns(meaning=mixed if polygons else BOX)
    kept = [row for row in rows if len(row.values) == count]
    values = np.clip(np.asarray([row.values for row in kept], np.float64), -FARTHEST, FARTHEST)
    return _odd(count, values, kept) if count % 2 else _even(count, values)


def _odd(count: int, values: np.ndarray, rows: Sequence[Row]) -> Columns:
    """Rows whose numbers make no polygon."""
    further = values[:, 4:]
    if count == 5:
        if _mostly((values[:, 0] >= 0) & (values[:, 0] <= 1)) and _inside(values[:, 1:]) and not _inside(values[:, :4]):
            told = f"{BOX}, with a column of 0 to 1 before them, as confidences are, ignored"
            return Columns(count, start=1, meaning=told)
        if _mostly((further >= 0) & (further <= 1)):
            return Columns(count, meaning=f"{BOX}; a sixth column of 0 to 1, as confidences are, ignored")
        pairs = {(row.owner, row.values[4]) for row in rows}
        whole = _mostly((further >= 0) & (further == np.round(further)))
        if whole and len(pairs) == len(rows) and len({row.owner for row in rows}) < len(rows):
            return Columns(count, meaning=f"{BOX}; a sixth column of numbers that differ, as tracking ids do, ignored")
        told = f"{BOX} and a sixth value that is no confidence or id: it may be an angle, whose boxes are not upright"
        return Columns(count, unclear=told, meaning="unclear: a sixth column")
    if _visibilities(further):
        return Columns(count, meaning=f"{BOX}; {count - 4} values of keypoints ignored")
    told = f"{count + 1} values: neither {BOX} nor a class and a polygon of pairs"
    return Columns(count, unclear=told, meaning=f"unclear: {count + 1} columns")


def _even(count: int, values: np.ndarray) -> Columns:
    """Rows whose numbers may be corners of a polygon, or a box and something behind it."""
    polygon = Columns(count, boxed=False, meaning="class and a polygon, of which the extent is taken")
    corners = values.reshape(len(values), -1, 2)
    if count == 8 and _mostly(np.abs(corners[:, 0] + corners[:, 2] - corners[:, 1] - corners[:, 3]) < _SLACK):
        oriented = "class and the four corners of an oriented box, of which the upright extent is taken"
        return Columns(count, boxed=False, meaning=oriented)
    confidences, numbers = values[:, 4], values[:, 5]
    whole = _mostly(numbers == np.round(numbers)) and (len(values) >= _ENOUGH or (numbers > 1).any())
    if count == 6 and whole and _mostly((confidences >= 0) & (confidences <= 1)):
        return Columns(count, meaning=f"{BOX}; a confidence and a tracking id ignored")
    boxes, further = values[:, :4], values[:, 4:]
    if not _inside(boxes):
        return polygon
    if _visibilities(further):
        return Columns(count, meaning=f"{BOX}; {count - 4} values of keypoints ignored")
    points = further.reshape(len(values), -1, 2)
    missing = (points == 0).all(2)
    near = (np.abs(points - boxes[:, None, :2]) <= boxes[:, None, 2:] / 2 + _SLACK).all(2)
    if not _mostly((near | missing).all(1)):
        return polygon
    if len(values) >= _ENOUGH:
        return Columns(count, meaning=f"{BOX}; {count - 4} values of points inside it, as keypoints are, ignored")
    told = f"{count + 1} values may be a box with keypoints or a polygon: say kpt_shape in data.yaml, or keep the box"
    return Columns(count, unclear=told, meaning=f"unclear: {count + 1} columns")


def _inside(boxes: np.ndarray) -> bool:
    """Whether centres and sizes, as shares, nearly always make a box inside the image. boxes: (row, 4)."""
    inside = np.abs(boxes[:, :2] - 0.5) + boxes[:, 2:] / 2 <= 0.5 + _SLACK
    return _mostly(inside.all(1) & (boxes[:, 2:] > 0).all(1))


def _visibilities(further: np.ndarray) -> bool:
    """Whether every third value is 0, 1 or 2, as keypoints with visibility have it."""
    return further.shape[1] % 3 == 0 and _mostly(np.isin(further[:, 2::3], (0, 1, 2)).all(1))


def _mostly(agrees: Any) -> bool:
    """agrees: (row, …) bool."""
    return bool(agrees.reshape(len(agrees), -1).all(1).mean() >= _ALIKE)
