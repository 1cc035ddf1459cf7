"""Where to look for small objects in a large image: at all of it, and at overlapping tiles of it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OVERLAP = 0.25  # of a tile's side, at least: an object no larger than this is whole in some tile, whatever its place
SMALLEST_TILE = 64  # pixels; a tile of a fifth of the network's input shows no more than its blurred pixels


def windows_of(width: int, height: int, tile: int | None) -> "NDArray[np.int32]":
    """The windows in which an image is searched: the whole of it, then its tiles from left to right, row by row.

    Tiles are as large as the image along a side that is shorter than they are; an image that is not larger than one
    tile has none. Along each side they lie evenly, and overlap by OVERLAP or more.

    tile:    side in pixels of the image; None: no tiles
    returns: (window, 4) left, top, right, bottom in pixels
    """
    import numpy as np  # not above: the recipes know SMALLEST_TILE, and `kit --help` the recipes

    whole = np.array([[0, 0, width, height]], np.int32)
    if tile is None or max(width, height) <= tile:
        return whole
    across, down = _starts(width, tile), _starts(height, tile)
    left, top = np.tile(across, len(down)), np.repeat(down, len(across))
    right, bottom = left + min(tile, width), top + min(tile, height)
    return np.concatenate([whole, np.stack([left, top, right, bottom], axis=1).astype(np.int32)])


def _starts(length: int, tile: int) -> "NDArray[np.int64]":
    import numpy as np

    free = max(0, length - tile)
    gaps = -(-free // max(1, int(tile * (1 - OVERLAP))))
    return np.arange(gaps + 1) * free // max(1, gaps)
