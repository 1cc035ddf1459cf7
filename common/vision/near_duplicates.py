"""Pictures that are nearly identical: the same one saved again, resized or slightly touched up.

Two are taken for one where their thumbnails differ, root mean square, by DIFFERENCE levels at most and by a small share
of their contrast. The mean levels of two such thumbnails differ by no more than that, so that only neighbours in the
order of the means are compared.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

SIDE, COLOURS = 16, 4  # pixels of a side of the green picture, and of the coarser coloured one
DIFFERENCE = (
    3.0  # of 255 levels; 1,399 photographs saved again or at half the size: up to 2; any two others: from 10 on
)
CONTRAST = 0.08  # of the green levels' standard deviation
FLATTEST = 4.0  # levels of that deviation: what is nearly one grey tells nothing
AT_ONCE = 256  # pictures compared together

Thumbnail = bytes
"""SIDE x SIDE levels of green, row by row, then COLOURS x COLOURS of red, green and blue."""


def thumbnail(picture: np.ndarray) -> Thumbnail:
    """What is kept of a picture (height, width, 3) uint8 for comparing it, in a tenth of a millisecond."""
    green = Image.fromarray(np.ascontiguousarray(picture[..., 1]))
    factor = max(1, min(green.size) // (4 * SIDE))  # whole blocks first, which is far faster than exact means
    width, height = (side / factor for side in green.size)  # the last blocks may be cut
    small = green.reduce(factor).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(0, 0, width, height))
    sampled = Image.fromarray(np.ascontiguousarray(picture[::factor, ::factor]))
    return small.tobytes() + sampled.resize((COLOURS, COLOURS), Image.Resampling.BILINEAR).tobytes()


def nearest_copies(learnt: Sequence[Thumbnail], judged: Sequence[Thumbnail]) -> np.ndarray:
    """(judged,) int64: the position among `learnt` of each one's most similar near-duplicate; -1 where there is none.

    learnt, judged: thumbnails.
    """
    found = np.full(len(judged), -1, np.int64)
    for rows, columns, difference, is_close in _compared(_levels(judged), _levels(learnt)):
        best = np.where(is_close, difference, np.inf).argmin(1)
        found[rows] = np.where(is_close.any(1), columns[best], -1)
    return found


def sets_of_copies(thumbnails: Sequence[Thumbnail]) -> np.ndarray:
    """(picture,) int64: the same number for pictures that a chain of near-duplicates joins."""
    levels = _levels(thumbnails)
    number = np.arange(len(levels))
    for _, columns, _, is_close in _compared(levels, levels):
        for close in is_close:  # a picture is close to itself
            joined = np.unique(number[columns[close]])
            if len(joined) > 1:
                number[np.isin(number, joined)] = joined[0]
    return number


def _levels(thumbnails: Sequence[Thumbnail]) -> np.ndarray:
    """(picture, pixel) float32."""
    width = len(thumbnails[0]) if len(thumbnails) else 0
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), width).astype(np.float32)


def _compared(
    judged: np.ndarray, learnt: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Parts of both: rows (part,), columns (other,), mean squared difference and whether it is close (part, other)."""
    if not judged.size or not learnt.size:
        return
    means, known_means = judged.mean(1), learnt.mean(1)
    contrasts = judged[:, : SIDE**2].std(1)
    bounds = np.minimum(DIFFERENCE, CONTRAST * contrasts)
    telling = np.flatnonzero(contrasts >= FLATTEST)
    order, known = telling[np.argsort(means[telling], kind="stable")], np.argsort(known_means, kind="stable")
    squares = (learnt**2).sum(1)
    for begin in range(0, len(order), AT_ONCE):
        rows = order[begin : begin + AT_ONCE]
        ends = means[rows[0]] - DIFFERENCE, means[rows[-1]] + DIFFERENCE
        columns = known[slice(*np.searchsorted(known_means[known], ends))]
        if not len(columns):
            continue
        difference = (judged[rows] ** 2).sum(1)[:, None] + squares[columns] - 2 * judged[rows] @ learnt[columns].T
        difference = np.maximum(difference / judged.shape[1], 0)
        yield rows, columns, difference, difference <= bounds[rows, None] ** 2
