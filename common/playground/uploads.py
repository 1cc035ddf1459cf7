"""Pictures that people bring: looked at before the model's decoder meets them, and gone once they are answered."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import DataError
from common.language.telling import english
from common.vision.images import ImageFacts, ImageProblem, probe

MAX_UPLOAD = 32 * 1024 * 1024
"""Bytes of a picture, as a server takes them."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}


@contextlib.contextmanager
def readable_picture(encoded: bytes | None) -> Iterator[tuple[bytes, ImageFacts]]:
    """The picture's bytes, and what is known of them in a file of its own, as long as the block runs.

    Raises DataError, in a sentence that names no file, for what is no picture, is too large or damaged.
    """
    if not encoded:
        raise DataError(
            english("There is no picture yet."), remedy=english("Drop one here, paste one, or choose an example.")
        )
    if len(encoded) > MAX_UPLOAD:
        raise DataError(
            english("The picture is too large."),
            english("At most {megabytes} MB are read.", megabytes=MAX_UPLOAD // 2**20),
            english("Save it smaller."),
        )
    with tempfile.TemporaryDirectory(prefix="kit-demo-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(encoded)
        facts = probe(path)
        if isinstance(facts, ImageProblem):
            raise DataError(
                english("This cannot be read as a picture: {reason}.", reason=facts.reason),
                english("Pictures are {kinds:s}.", kinds=", ".join(SUFFIXES)),
                english("Try another one."),
            )
        yield encoded, facts
