"""Random windows of images with boxes, and the boxes as a window and flips leave them, many images at once."""

import numpy as np
from numpy.typing import NDArray

ATTEMPTS = 50  # windows drawn per image; a seventh of them are the whole image, so 1 image in 2,000 sees none that fits
NUMBERS = 5  # random numbers per attempt: choice, height, width, top, left
BOUNDS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # least IoU with a box, as published; the seventh choice is the whole image
TILE_SCALE = (0.75, 1.25)  # sides of training's tiles over those of the search: objects vary in size
RATIO = (0.5, 2.0)  # a window's width over its height, both as shares of the image's sides, as published


def random_windows(
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
    boxes: NDArray[np.float32],
    present: NDArray[np.bool_],
    uniform: NDArray[np.float64],
    scale: tuple[float, float],
    tile: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first of several random windows that suits the boxes, else the whole image (Liu et al. 2016,
    arXiv:1512.02325).

    Each attempt chooses with equal chance the whole image or one of `BOUNDS`. A window suits when its IoU with at least
    one box reaches the bound and at least one box has its centre inside; without boxes every window does.
    (DALI's random_bbox_crop by default asks the bound of all boxes, which crowded images hardly ever meet.)

    heights, widths: (sample,) pixels
    boxes:           (sample, box, 4) left, top, right, bottom in pixels
    present:         (sample, box), False in the padding
    uniform:         (sample, attempt, 5) numbers in [0, 1): choice, height, width, top, left
    scale:           least and largest side of a window as a share of the image's
    tile:            where given, windows of about this many pixels around a box of the image take the place of those
                     that ask for an overlap, which objects much smaller than a window never have
    returns:         starts and sizes, both (sample, 2) in pixels, height first
    """
    sides = np.stack([heights, widths], axis=1)[:, None].astype(np.float64)  # (sample, 1, 2)
    shares = scale[0] + (scale[1] - scale[0]) * uniform[..., 1:3]
    sizes = np.clip(np.rint(sides * shares), 1, sides)
    starts = np.minimum(np.floor(uniform[..., 3:5] * (sides - sizes + 1)), sides - sizes)

    choice = np.floor(uniform[..., 0] * (len(BOUNDS) + 1)).astype(np.int64)
    is_whole = choice == len(BOUNDS)
    bound = np.append(BOUNDS, 0.0)[choice]
    ratio = shares[..., 1] / shares[..., 0]
    if tile is not None:
        is_tile = (choice > 0) & ~is_whole & (sides > tile).any(2)
        nearby = _around_boxes(sides, boxes, present, uniform, starts, tile)
        starts, sizes = (np.where(is_tile[..., None], *pair) for pair in zip(nearby, (starts, sizes), strict=True))
        bound, ratio = np.where(is_tile, 0.0, bound), np.where(is_tile, 1.0, ratio)
    best, has_centre = _overlaps(starts, sizes, boxes, present)
    crops = (best >= bound) & has_centre | ~present.any(1, keepdims=True)
    crops &= (ratio >= RATIO[0]) & (ratio <= RATIO[1]) & ~is_whole

    rows = np.arange(len(heights))
    first = (crops | is_whole).argmax(1)
    is_crop = crops[rows, first][:, None]
    return (
        np.where(is_crop, starts[rows, first], 0).astype(np.int32),
        np.where(is_crop, sizes[rows, first], sides[:, 0]).astype(np.int32),
    )


def _around_boxes(
    sides: NDArray[np.float64],
    boxes: NDArray[np.float32],
    present: NDArray[np.bool_],
    uniform: NDArray[np.float64],
    elsewhere: NDArray[np.float64],
    tile: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Windows like tiles that show the centre of a random box: starts and sizes, (sample, attempt, 2), height first.

    elsewhere: (sample, attempt, 2) where the windows of images without boxes start, as far as there is room.
    """
    low, high = TILE_SCALE
    sizes = np.clip(np.rint(tile * (low + (high - low) * uniform[..., 1:3])), 1, sides)
    choice = uniform[..., 0] * (len(BOUNDS) + 1)
    counts = present.sum(1)[:, None]
    chosen = np.floor((choice - np.floor(choice)) * counts).astype(np.int64)  # what is left of the number is random too
    centres = (boxes[..., :2] + boxes[..., 2:])[..., ::-1].astype(np.float64) / 2
    if boxes.shape[1]:
        centre = np.take_along_axis(centres, chosen[..., None].clip(0, boxes.shape[1] - 1), axis=1)
        around = np.floor(centre - uniform[..., 3:5] * sizes)
        elsewhere = np.where(counts[..., None] > 0, around, elsewhere)
    return np.clip(elsewhere, 0, sides - sizes), sizes


def place_boxes(
    boxes: NDArray[np.float32],
    present: NDArray[np.bool_],
    starts: NDArray[np.int32],
    sizes: NDArray[np.int32],
    horizontal: NDArray[np.bool_],
    vertical: NDArray[np.bool_],
    smallest: float,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The boxes whose centre lies in the window, clipped to it, as shares of it, after the flips.

    boxes, present, starts, sizes: as `random_windows` takes and returns them
    horizontal, vertical:          (sample,) whether the window is flipped that way
    smallest:                      least side that a box keeps, as a share of the window's
    returns:                       boxes (sample, box, 4) left, top, right, bottom, and which of them remain
    """
    start, size = starts[:, None, ::-1].astype(np.float64), sizes[:, None, ::-1]  # (sample, 1, 2), width first
    low, high = (boxes[..., :2] - start) / size, (boxes[..., 2:] - start) / size
    centre = (low + high) / 2
    low, high = low.clip(0, 1), high.clip(0, 1)
    kept = present & ((centre > 0) & (centre < 1)).all(-1) & (high - low >= smallest).all(-1)
    flips = np.stack([horizontal, vertical], axis=1)[:, None]
    low, high = np.where(flips, 1 - high, low), np.where(flips, 1 - low, high)
    return np.concatenate([low, high], axis=-1).astype(np.float32), kept


def _overlaps(
    starts: NDArray[np.float64], sizes: NDArray[np.float64], boxes: NDArray[np.float32], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Each window's largest IoU with a box, and whether a box has its centre inside: both (sample, attempt)."""
    top, left = (starts[..., side, None] for side in (0, 1))  # (sample, attempt, 1)
    bottom, right = top + sizes[..., 0, None], left + sizes[..., 1, None]
    box_left, box_top, box_right, box_bottom = boxes[:, None].astype(np.float64).transpose(3, 0, 1, 2)
    width = np.minimum(right, box_right) - np.maximum(left, box_left)
    height = np.minimum(bottom, box_bottom) - np.maximum(top, box_top)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (box_right - box_left) * (box_bottom - box_top)
    iou = shared / (areas + sizes.prod(-1)[..., None] - shared)
    across, down = (box_left + box_right) / 2, (box_top + box_bottom) / 2
    is_inside = (across > left) & (across < right) & (down > top) & (down < bottom)
    shown = present[:, None]
    return np.where(shown, iou, 0.0).max(-1, initial=0.0), (is_inside & shown).any(-1)
