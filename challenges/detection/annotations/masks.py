"""The extent of what COCO draws around an object: polygons, or masks as lengths of runs, plain or compressed."""

import math
from typing import Any

import numpy as np

Extent = tuple[float, float, float, float]
_MOST_RUNS = 1 << 24


def extent(segmentation: Any) -> Extent | None:
    """Left, top, right and bottom of a `segmentation` in pixels, None where it is empty or none.

    Polygons come as a list of lists x, y, x, y, …, or as one such list; masks as {"size": [height, width], "counts"}.
    """
    if isinstance(segmentation, dict):
        return _extent_of_runs(segmentation)
    if not isinstance(segmentation, list):
        return None
    polygons = segmentation if all(isinstance(part, list) for part in segmentation) else [segmentation]
    xs, ys = [], []
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            continue
        try:
            numbers = [float(value) for value in polygon]
        except (TypeError, ValueError):
            return None
        xs += numbers[::2]
        ys += numbers[1::2]
    if not xs or not all(map(math.isfinite, (*xs, *ys))):
        return None
    found = (min(xs), min(ys), max(xs), max(ys))
    return found if found[2] > found[0] and found[3] > found[1] else None


def _extent_of_runs(mask: dict[str, Any]) -> Extent | None:
    """Runs of background and object take turns, down the columns from the left one on."""
    try:
        height, width = (int(value) for value in mask["size"])
        counts = mask["counts"]
        runs = np.asarray(decompress(counts) if isinstance(counts, str) else counts, np.int64)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if runs.ndim != 1 or (runs < 0).any() or height <= 0 or width <= 0 or runs.sum() > height * width:
        return None
    ends = np.cumsum(runs)
    starts, ends = (ends - runs)[1::2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return None
    first, last = starts // height, (ends - 1) // height
    wraps = (first != last).any()  # a run that goes on in the next column touches the bottom and the top
    top = 0 if wraps else int((starts % height).min())
    bottom = height if wraps else int(((ends - 1) % height).max()) + 1
    return float(first.min()), float(top), float(last.max() + 1), float(bottom)


def decompress(text: str) -> list[int]:
    """The lengths of runs in COCO's compressed form: five bits a letter from "0" on, the sixth says that more follow.

    From the third length on, each is written as its difference from the one before the last.
    Raises ValueError for other text.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text[:_MOST_RUNS]:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(letter)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > 60:
                raise ValueError(letter)
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError(text[-1:])
    return lengths
