"""Photographs small enough to be embedded in the page."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIZE, LARGE = 160, 480  # longest side of an embedded picture in pixels
QUALITY = 80


def jpeg_uri(image: Image.Image | np.ndarray, size: int = SIZE) -> str:
    """A data URI of the image, its longest side at most `size` pixels.

    image: a Pillow image or an array (height, width, 3) uint8.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = picture.convert("RGB")
    picture.thumbnail((size, size))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def thumbnail(path: Path, size: int = SIZE) -> str | None:
    """A data URI of a picture file, upright as its EXIF orientation says; None where it cannot be read any more."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))
            return jpeg_uri(ImageOps.exif_transpose(image), size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
