"""How pixels become a model's input: one contract for training, evaluation, export, serving and the client."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import RecipeError

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 times (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 times (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """Sizes in pixels, mean and standard deviation per RGB channel on the 0..255 scale.

    centre-crop: the shorter side becomes `resize`, the centre `crop` x `crop` is kept, proportions survive.
    squash:      the whole image becomes `crop` x `crop`.
    Both resize bilinearly with antialiasing, as Pillow does; the orientation that EXIF states is applied first.
    """

    resize: int = 256
    crop: int = 224
    mode: Literal["centre-crop", "squash"] = "centre-crop"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize:
            raise RecipeError(
                f"preprocessing.crop is {self.crop} and preprocessing.resize {self.resize}.",
                "The crop must fit into the resized image: 1 <= crop <= resize.",
            )

    def to_plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "ImagePreprocessing":
        return cls(**{**plain, "mean": tuple(plain["mean"]), "std": tuple(plain["std"])})

    def pixels(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Undo the normalisation: (batch, 3, height, width) float -> (batch, height, width, 3) bytes to look at."""
        restored = images.transpose(0, 2, 3, 1) * np.float32(self.std) + np.float32(self.mean)
        return np.clip(np.rint(restored), 0, 255).astype(np.uint8)


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
