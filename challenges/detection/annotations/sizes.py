"""Whose pixels boxes lie in where the size that annotations state is not the image's: decided over all such images."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from challenges.detection.annotations.table import AnnotatedImage, Annotations
from common.vision.images import ImageFacts

Difference = Literal["", "swapped", "smaller", "larger", "other"]
_ROUNDED = 1.5  # pixels that a box may reach beyond the frame it was drawn in
_BEYOND, _HARDLY = 0.05, 0.02  # shares of boxes outside of a frame that speak against it, and that do not
_ASPECT = 0.02  # relative difference of the aspects of one picture in two sizes
_ENOUGH, _REACH = 20, 0.7  # boxes, and the share of the small frame they must fill, to be believed to lie in it

_TOLD = {
    "swapped": "width and height look swapped in {}: the boxes fit the images and not the stated sizes, and are used.",
    "stale": "another size than the image's is stated in {}: the boxes fit the images as they are, and are used.",
    "scaled": "images were resized after annotating in {}: the boxes fit the stated sizes and are scaled with them.",
}


def difference(image: AnnotatedImage, fact: ImageFacts) -> Difference:
    """How the stated size differs from the image's; "smaller" and "larger" are the image of the same shape."""
    stated, actual = (image.width, image.height), (fact.width, fact.height)
    if 0 in stated or stated == actual:
        return ""
    if stated == actual[::-1]:
        return "swapped"
    factors = stated[0] / actual[0], stated[1] / actual[1]
    if abs(factors[0] - factors[1]) > _ASPECT * max(factors):
        return "other"
    return "smaller" if factors[0] < 1 else "larger"


def reconcile(annotations: Annotations, facts: Mapping[str, ImageFacts]) -> Annotations:
    """Correct stated sizes, or scale boxes, where the boxes themselves tell which size they were drawn in.

    Images that EXIF turns are left as they are, and so is what the boxes do not decide.
    """
    if annotations.relative or not len(annotations.owners):
        return annotations
    kinds = np.asarray([_kind(image, facts) for image in annotations.images], object)
    for kind in ("swapped", "smaller", "larger"):
        rows = np.flatnonzero(kinds[annotations.owners] == kind)
        if not len(rows):
            continue
        stated, actual = _sides(annotations, facts, rows)
        verdict = _verdict(kind, annotations.corners[rows], stated, actual)
        if verdict:
            annotations = _changed(annotations, facts, np.flatnonzero(kinds == kind), rows, verdict)
    return annotations


def _kind(image: AnnotatedImage, facts: Mapping[str, ImageFacts]) -> Difference:
    fact = facts.get(image.path)
    return difference(image, fact) if fact is not None and fact.orientation == 1 else ""


def _sides(
    annotations: Annotations, facts: Mapping[str, ImageFacts], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stated and actual width and height of the images of boxes: (box, 2) each."""
    images = [annotations.images[owner] for owner in annotations.owners[rows].tolist()]
    stated = [(image.width, image.height) for image in images]
    actual = [(facts[image.path].width, facts[image.path].height) for image in images]
    return np.asarray(stated, np.float64), np.asarray(actual, np.float64)


def _verdict(kind: str, corners: np.ndarray, stated: np.ndarray, actual: np.ndarray) -> str:
    """The key of _TOLD that the boxes speak for, "" where they do not decide."""
    ends = corners[:, 2:]
    beyond_stated = float((ends > stated + _ROUNDED).any(1).mean())
    beyond_actual = float((ends > actual + _ROUNDED).any(1).mean())
    if beyond_stated >= _BEYOND and beyond_actual <= _HARDLY:
        return "swapped" if kind == "swapped" else "stale"
    if kind == "swapped":
        return ""
    if beyond_actual >= _BEYOND and beyond_stated <= _HARDLY:
        return "scaled"
    small = actual if kind == "larger" else stated
    fills = bool((np.quantile(ends / small, 0.98, axis=0) >= _REACH).all())
    if max(beyond_stated, beyond_actual) <= _HARDLY and len(ends) >= _ENOUGH and fills:
        return "stale" if kind == "larger" else "scaled"
    return ""


def _changed(
    annotations: Annotations, facts: Mapping[str, ImageFacts], positions: np.ndarray, rows: np.ndarray, verdict: str
) -> Annotations:
    corners, areas = annotations.corners.copy(), annotations.areas.copy()
    if verdict == "scaled":
        stated, actual = _sides(annotations, facts, rows)
        corners[rows] *= np.tile(actual / stated, 2)
        areas[rows] *= (actual / stated).prod(1)
    images = list(annotations.images)
    for position in positions.tolist():
        fact = facts[images[position].path]
        images[position] = replace(images[position], width=fact.width, height=fact.height)
    first = annotations.images[positions[0]]
    fact = facts[first.path]
    where = f"{len(positions):,} files ({first.width} x {first.height} for an image of {fact.width} x {fact.height})"
    note = _TOLD[verdict].format(where)
    note = note[0].upper() + note[1:]
    return replace(annotations, images=tuple(images), corners=corners, areas=areas, notes=(*annotations.notes, note))
