"""Random windows of images for training, many at once."""

import math

import numpy as np
from numpy.typing import NDArray


def random_resized_crops(
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
    uniform: NDArray[np.float64],
    area: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Random windows of a share `area` of each image and a width/height `ratio` (Szegedy et al. 2014, arXiv:1409.4842).

    heights, widths: (sample,) pixels
    uniform:         (sample, attempt, 4) numbers in [0, 1): area, ratio, top, left; the first window that fits is taken
    returns:         starts and sizes, both (sample, 2) in pixels, height first; where no attempt fits, the largest
                     centred window whose ratio is within bounds
    """
    height, width = heights[:, None].astype(np.float64), widths[:, None].astype(np.float64)
    target = height * width * (area[0] + (area[1] - area[0]) * uniform[..., 0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * uniform[..., 1])
    window_width, window_height = np.rint(np.sqrt(target * shape)), np.rint(np.sqrt(target / shape))
    fits = (window_width >= 1) & (window_height >= 1) & (window_width <= width) & (window_height <= height)
    first = fits.argmax(1)
    rows = np.arange(len(heights))
    found = fits[rows, first]

    fallback_width = np.minimum(width[:, 0], np.maximum(1, np.rint(height[:, 0] * ratio[1])))
    fallback_height = np.minimum(height[:, 0], np.maximum(1, np.rint(width[:, 0] / ratio[0])))
    sizes = np.stack(
        [
            np.where(found, window_height[rows, first], fallback_height),
            np.where(found, window_width[rows, first], fallback_width),
        ],
        axis=1,
    )
    free = np.stack([heights, widths], axis=1) - sizes
    offsets = np.where(found[:, None], uniform[rows, first, 2:4], 0.5)
    starts = np.minimum(np.floor(offsets * (free + 1)), free)
    return starts.astype(np.int32), sizes.astype(np.int32)
