"""What a box's four numbers are where they cannot be what the format says: other units, corners, another order."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from challenges.detection.annotations.table import AnnotatedImage, Annotations, Form, UnusableError
from common.vision.images import ImageFacts

Unit = Literal["shares", "percent", "pixels"]
FORMS: tuple[Form, ...] = ("centre and size", "left, top, right, bottom", "left, top and size")
_ENOUGH = 10  # boxes from which on they tell what their numbers are
_FITS, _DOUBTFUL, _SURE = 0.8, 0.98, 0.995  # shares of boxes inside their image: as written, hardly, and otherwise
_SLACK = 0.015  # of the image's side that a box may reach beyond it
_PERCENT = 100.5
_MANY, _REACH = 20, 0.7  # so many boxes in pixels reach so much of the image; percentages, taken for pixels, do not
_CORNER = 0.3  # of the image, at its left and top, to which not even a few boxes in pixels keep


@dataclass(frozen=True)
class _Meaning:
    unit: Unit
    form: Form

    def __str__(self) -> str:
        whose = {"shares": "as shares of the image", "percent": "in percent of the image", "pixels": "in pixels"}
        return f"{self.form} {whose[self.unit]}"


def reinterpret(annotations: Annotations, facts: Mapping[str, ImageFacts]) -> Annotations:
    """Read the boxes as what they fit where nearly all fit one other meaning and many do not fit the format's own.

    Says so in `notes` and `understood`. Raises DataError where several meanings fit.
    """
    boxes = _Boxes.of(annotations, facts)
    for extents in (False, True):
        rows = boxes.rows(extents)
        if len(rows) < _ENOUGH:
            continue
        stated = _Meaning("shares" if annotations.relative else "pixels", FORMS[1] if extents else annotations.form)
        fitting = boxes.fitting(rows, stated)
        if len(fitting) > 1:
            raise UnusableError(
                f"The boxes of the annotations are not {stated}, as the format has it "
                f"({_numbers(boxes.written(rows[:1], stated)[0])} in {boxes.told(rows[0])}).",
                f"They may be {' or '.join(map(str, fitting))}.",
                "Convert them, or export them again in the format's own way.",
            )
        if fitting:
            annotations = boxes.taken_as(annotations, extents, stated, fitting[0])
        elif doubt := boxes.doubt(rows, stated):
            annotations = replace(annotations, notes=(*annotations.notes, doubt))
    return annotations


@dataclass(frozen=True)
class _Boxes:
    """All boxes, with the sides of the frame they lie in: (box, 2), the stated one, nan where an image is unusable."""

    annotations: Annotations
    sides: np.ndarray

    @staticmethod
    def of(annotations: Annotations, facts: Mapping[str, ImageFacts]) -> "_Boxes":
        sides = np.full((len(annotations.images), 2), np.nan)
        for position, image in enumerate(annotations.images):
            fact = facts.get(image.path)
            if fact is not None:
                sides[position] = _frame(image, fact)
        return _Boxes(annotations, sides[annotations.owners])

    def rows(self, extents: bool) -> np.ndarray:
        """The boxes that can tell: those written as boxes, or the extents of polygons and masks."""
        return np.flatnonzero((self.annotations.extents == extents) & np.isfinite(self.sides[:, 0]))

    def told(self, row: int) -> str:
        width, height = self.sides[row]
        image = self.annotations.images[self.annotations.owners[row]]
        return f"{image.path}, {width:g} x {height:g}"

    def written(self, rows: np.ndarray, stated: _Meaning) -> np.ndarray:
        """The four numbers as the file has them."""
        corners = self.annotations.corners[rows]
        if stated.form == FORMS[0]:
            return np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
        if stated.form == FORMS[2]:
            return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        moved: np.ndarray = corners + np.array([1, 1, 0, 0]) * self.annotations.first
        return moved

    def corners(self, rows: np.ndarray, stated: _Meaning, meaning: _Meaning) -> np.ndarray:
        """The boxes as shares of their images, were their numbers what `meaning` says."""
        numbers, sides = self.written(rows, stated), np.tile(self.sides[rows], 2)
        corners = as_corners(numbers, meaning.form)
        if meaning.unit == "pixels":
            first = self.annotations.first if meaning.form == FORMS[1] and not self.annotations.extents[rows[0]] else 0
            shares: np.ndarray = (corners - np.array([1, 1, 0, 0]) * first) / sides
            return shares
        return corners / 100 if meaning.unit == "percent" else corners

    def fit(self, rows: np.ndarray, stated: _Meaning, meaning: _Meaning) -> float:
        """The share of boxes that have a size and lie inside their image, were their numbers what `meaning` says."""
        corners = self.corners(rows, stated, meaning)
        inside = (corners[:, :2] >= -_SLACK).all(1) & (corners[:, 2:] <= 1 + _SLACK).all(1)
        return float((inside & (corners[:, 2:] > corners[:, :2]).all(1)).mean())

    def fitting(self, rows: np.ndarray, stated: _Meaning) -> list[_Meaning]:
        """What the numbers may be: the stated meaning where that fits well, else all that nearly all boxes fit."""
        units = self._units(rows, stated)
        own = [_Meaning(unit, stated.form) for unit in units]
        well = [one for one in own if self.fit(rows, stated, one) >= _FITS]
        if well:
            return [] if well == [stated] else well
        forms = [form for form in FORMS if not self.annotations.extents[rows[0]] or form == FORMS[1]]
        others = [_Meaning(unit, form) for unit in units for form in forms]
        return [one for one in others if self.fit(rows, stated, one) >= _DOUBTFUL]

    def _units(self, rows: np.ndarray, stated: _Meaning) -> list[Unit]:
        """The units that the numbers' size allows."""
        high = np.abs(self.written(rows, stated)).max(1)
        small = float((high <= 1 + _SLACK).mean())
        if small >= _DOUBTFUL and float((high > 0).mean()) >= _FITS:
            return ["shares"]
        if stated.unit == "pixels" or small > 1 - _FITS:
            return [stated.unit]
        ends = as_corners(self.written(rows, stated), stated.form)[:, 2:]
        if (ends > _PERCENT).any(1).mean() > 1 - _DOUBTFUL:
            return ["pixels"]
        reach = np.quantile(ends / self.sides[rows], 0.98, axis=0)
        crowded = reach.max() < _CORNER or (reach.min() < _REACH and len(rows) >= _MANY)
        return ["percent"] if crowded else ["percent", "pixels"]

    def doubt(self, rows: np.ndarray, stated: _Meaning) -> str:
        """A sentence where some boxes do not fit as they are read, and all would fit another form; else ""."""
        fit = self.fit(rows, stated, stated)
        others = [_Meaning(stated.unit, form) for form in FORMS if form != stated.form]
        better = [one for one in others if self.fit(rows, stated, one) >= _SURE]
        if self.annotations.extents[rows[0]] or fit >= _DOUBTFUL or len(better) != 1:
            return ""
        beyond = round((1 - fit) * len(rows))
        return (
            f"{beyond:,} of {len(rows):,} boxes reach beyond their images as {stated}, none would as {better[0]}: "
            "look at some of them, the numbers may be the latter."
        )

    def taken_as(self, annotations: Annotations, extents: bool, stated: _Meaning, meaning: _Meaning) -> Annotations:
        """The annotations with the boxes read as `meaning`, which is said."""
        rows = np.flatnonzero(annotations.extents == extents)
        sides = np.where(np.isfinite(self.sides), self.sides, 1.0)
        boxes = replace(self, sides=sides)
        shares = boxes.corners(rows, stated, meaning)
        known = np.isfinite(self.sides[rows, 0])
        corners, areas = annotations.corners.copy(), annotations.areas.copy()
        scale = 1.0 if annotations.relative else np.tile(sides[rows], 2)
        corners[rows[known]] = (shares * scale)[known]
        areas[rows] = np.nan
        first = self.rows(extents)[0]
        what = "polygons" if extents else "boxes"
        example = _numbers(self.written(np.array([first]), stated)[0])
        note = (
            f"The {what}' numbers are not {stated}, as the format has it, but look like {meaning} "
            f"({example} in {self.told(int(first))}): read as such. Look at some of them before you train."
        )
        key = "polygon numbers" if extents else "numbers"
        understood = {**annotations.understood, key: f"{meaning}, by their size and place"}
        return replace(
            annotations, corners=corners, areas=areas, notes=(note, *annotations.notes), understood=understood
        )


def _frame(image: AnnotatedImage, fact: ImageFacts) -> tuple[int, int]:
    """The width and height that an annotation states, else the image's."""
    return (image.width, image.height) if image.width and image.height else (fact.width, fact.height)


def as_corners(numbers: np.ndarray, form: Form) -> np.ndarray:
    """(box, 4) left, top, right, bottom of boxes written in a form."""
    if form == "centre and size":
        return np.hstack([numbers[:, :2] - numbers[:, 2:] / 2, numbers[:, :2] + numbers[:, 2:] / 2])
    if form == "left, top and size":
        return np.hstack([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]])
    return numbers


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6g}" for value in values)
