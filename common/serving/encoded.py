"""Image files as a served model takes them: `encoded`, uint8 (image, bytes)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.serving.problems import InvalidRequestError

REQUEST_BYTES = 16 * 1024 * 1024
"""Bytes of the images that travel in one request, with their padding; a larger image travels alone."""


def image_requests(images: Sequence[Path | str | bytes], batch: int = 8) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of every request, at most `batch` images each; all files are read before the first is sent.

    images: files or their bytes. Raises InvalidRequestError where a file cannot be read.
    """
    encoded = [_image_bytes(image) for image in images]
    part: list[bytes] = []
    for data in encoded:
        longest = max(map(len, (*part, data)))
        if part and (len(part) == batch or longest * (len(part) + 1) > REQUEST_BYTES):
            yield {"encoded": padded(part)}
            part = []
        part.append(data)
    if part:
        yield {"encoded": padded(part)}


def padded(encoded: Sequence[bytes]) -> np.ndarray:
    """Files as one array (batch, bytes) of uint8, the shorter ones followed by zeros, which decoders skip."""
    if not encoded or not all(encoded):
        raise InvalidRequestError("An image is empty." if encoded else "There is no image to send.")
    batch = np.zeros((len(encoded), max(map(len, encoded))), np.uint8)
    for row, data in zip(batch, encoded, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return batch


def _image_bytes(image: Path | str | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{image} cannot be read: {error.strerror}.") from None
