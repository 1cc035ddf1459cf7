"""Whether a picture is another one saved again, mirrored, or cut from it: by the middling detail that both show.

The one is laid over the other at every place and in every size from half of it on. What is compared are pictures
without their finest detail, which saving changes, and without their broad light, in which many pictures are alike.
Of 50 photographs each of pets and of blood cells, cut to sides of 60 to 90 %, mirrored or not, 95 % reach a cosine of
0.87; of 3,000 pairs of others none reaches 0.71.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from scipy import fft  # ten times as fast as numpy's for many small ones
from scipy.ndimage import uniform_filter

from common.vision.images import as_rgb

SIDE = 64  # pixels of the longer side of the whole
SIZES = range(SIDE // 2, SIDE + 1, 2)  # of the longer side of what is laid over it
FINE, BROAD = 3, 13  # pixels of a side of the squares between whose means the detail lies
SAME = 0.8  # cosine of the details from which on two pictures are one
FLATTEST = 1.0  # levels of the detail's deviation: what has less shows nothing

Kind = Literal["near-identical", "part", "mirrored"]


@dataclass(frozen=True, eq=False)
class Look:
    """A picture ready to be compared, in 16 KB at most. grey: (height, width) uint8, the longer side of 2 x SIDE."""

    grey: np.ndarray

    @staticmethod
    def of(picture: Image.Image) -> "Look":
        return Look(np.asarray(_sized(picture.convert("L"), 2 * SIDE)))

    @cached_property
    def whole(self) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Fourier transform (SIDE, SIDE // 2 + 1), sums of squares from the corner (SIDE + 1, SIDE + 1), the shape."""
        detail = self._detail(SIDE)
        padded = _padded(detail)
        sums = np.zeros((SIDE + 1, SIDE + 1))
        sums[1:, 1:] = (padded.astype(np.float64) ** 2).cumsum(0).cumsum(1)
        return fft.rfft2(padded), sums, (detail.shape[0], detail.shape[1])

    @cached_property
    def is_flat(self) -> bool:
        return bool(self._detail(SIDE).std() < FLATTEST)

    def as_part(self) -> "Part":
        """What is laid over others, in every size, as it is and then mirrored; it takes half a megabyte."""
        details = [self._detail(side) for side in SIZES]
        details += [detail[:, ::-1] for detail in details]
        unit = [detail / max(float(np.linalg.norm(detail)), 1e-6) for detail in details]
        spectra = fft.rfft2(np.stack([_padded(detail) for detail in unit]))
        return Part(np.conj(spectra), [(detail.shape[0], detail.shape[1]) for detail in details], self.is_flat)

    def _detail(self, side: int) -> np.ndarray:
        """(height, width) float32, the longer side of `side` pixels."""
        levels = np.asarray(_sized(Image.fromarray(self.grey), side), np.float32)
        return np.asarray(uniform_filter(levels, FINE) - uniform_filter(levels, BROAD))


@dataclass(frozen=True, eq=False)
class Part:
    """spectra: (size, SIDE, SIDE // 2 + 1), conjugate, of details of length one. shapes: of each detail."""

    spectra: np.ndarray
    shapes: list[tuple[int, int]]
    is_flat: bool

    def laid_over(self, whole: Look) -> tuple[float, Kind]:
        """The largest cosine with what lies under it, and how it lies there."""
        spectrum, sums, (height, width) = whole.whole
        fitting = [number for number, (tall, wide) in enumerate(self.shapes) if tall <= height and wide <= width]
        if not fitting or whole.is_flat or self.is_flat:
            return 0.0, "part"
        products = fft.irfft2(spectrum * self.spectra[fitting], (SIDE, SIDE))
        cosines = []
        for number, product in zip(fitting, products, strict=True):
            tall, wide = self.shapes[number]
            rows, columns = height - tall + 1, width - wide + 1
            under = sums[tall : tall + rows, wide : wide + columns] - sums[:rows, wide : wide + columns]
            under = under - sums[tall : tall + rows, :columns] + sums[:rows, :columns]
            cosines.append(float((product[:rows, :columns] / np.sqrt(np.maximum(under, 1e-6))).max()))
        best = int(np.argmax(cosines))
        is_mirrored, is_whole = fitting[best] >= len(SIZES), self.shapes[fitting[best]] == (height, width)
        return cosines[best], "mirrored" if is_mirrored else "near-identical" if is_whole else "part"


def open_upright(path: Path) -> Image.Image:
    """A file's picture in RGB, upright as its EXIF orientation says, read at a fraction of its size where that does."""
    with Image.open(path) as picture:
        picture.draft("RGB", (4 * SIDE, 4 * SIDE))
        return Image.fromarray(as_rgb(ImageOps.exif_transpose(picture)))


def _sized(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _padded(detail: np.ndarray) -> np.ndarray:
    whole = np.zeros((SIDE, SIDE), np.float32)
    whole[: detail.shape[0], : detail.shape[1]] = detail
    return whole
