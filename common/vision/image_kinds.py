"""Kinds of image files that training cannot use, told from their first bytes and their tags, and what to do instead."""

import io
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image, TiffImagePlugin

from common.language.telling import english

ProblemCode = Literal[
    "zero-byte", "unreadable", "not-an-image", "truncated", "unsupported-format", "too-large", "undecodable"
]

REMEDIES: Mapping[ProblemCode, str] = {
    "zero-byte": "Copy it again from where it came from.",
    "unreadable": "Make it a readable file with a UTF-8 name.",
    "not-an-image": "Remove it, or put the picture there.",
    "truncated": "Copy or download it again.",
    "unsupported-format": "",
    "too-large": "Save it again with fewer pixels.",
    "undecodable": "Save it again as JPEG or PNG.",
}
"""What to do about a file, by the code of its problem; the reasons of unsupported formats say it themselves."""

_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 258, 277, 284, 339  # TIFF 6.0 tags
_USABLE_BITS = (1, 2, 4, 8, 16)
_CONTAINERS = {b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF"}
_OTHER_FILES = {
    b"<!doctype html": english("a web page"),
    b"<html": english("a web page"),
    b"<?xml": "XML",
    b"<svg": "SVG",
    b"%pdf": "PDF",
    b"8bps": "PSD",
    b"pk\3\4": english("a ZIP archive"),
    b"version https://git-lfs": english("a Git LFS pointer in place of the picture"),
}


class UnusableError(Exception):
    """A file that training must not meet: the problem's code, and the reason in English, as pages tell it again."""

    def __init__(self, code: ProblemCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def unknown_kind(encoded: bytes) -> UnusableError:
    """Name what lies in a file that no decoder knows, as far as its first bytes tell."""
    brand = _CONTAINERS.get(encoded[8:12]) if encoded[4:8] == b"ftyp" else None
    if brand is None and encoded[128:132] == b"DICM":
        brand = "DICOM"
    if brand is not None:
        return UnusableError(
            "unsupported-format", english("{brand}, which is not read: convert it to JPEG", brand=brand)
        )
    start = encoded[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    name = next((name for magic, name in _OTHER_FILES.items() if start.startswith(magic)), "")
    told = english("no known image format: it holds {name}", name=name) if name else english("no known image format")
    return UnusableError("not-an-image", told)


def refuse_samples_of_tiff(encoded: bytes) -> None:
    """Refuse a TIFF whose samples are not unsigned integers of 1 to 16 bits; one with damaged tags passes."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(encoded[:8])
        stream = io.BytesIO(encoded)
        stream.seek(directory.next)
        directory.load(stream)
        bits = max(directory.get(_BITS_PER_SAMPLE, (1,)))
        kind = max(directory.get(_SAMPLE_FORMAT, (1,)))
    except Exception:
        return
    named = {2: english("signed integer"), 3: english("float")}.get(kind, english("integer"))
    if kind in (2, 3) or bits not in _USABLE_BITS:
        told = english("TIFF with {bits}-bit {kind} samples: save as 8- or 16-bit", bits=bits, kind=named)
        raise UnusableError("unsupported-format", told)


def refuse_unreliable(image: Image.Image) -> None:
    """Refuse the kinds that DALI 2.4 accepts and decodes wrongly, or to other pixels each time."""
    if image.format == "PNG" and getattr(image, "is_animated", False):
        told = english("animated PNG, which DALI does not decode reliably: save it as JPEG")
        raise UnusableError("unsupported-format", told)
    tags: Any = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return
    if tags.get(_SAMPLES_PER_PIXEL, 1) == 2:
        raise UnusableError(
            "unsupported-format",
            english("TIFF with two channels, which DALI decodes wrongly: save it as JPEG or PNG"),
        )
    if tags.get(_PLANAR_CONFIGURATION, 1) == 2 and max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8:
        raise UnusableError(
            "unsupported-format",
            english("TIFF with separate 16-bit planes, which DALI decodes wrongly: save it as JPEG or PNG"),
        )


def failure(encoded: bytes, image_format: str, message: str) -> UnusableError:
    """Tell a file that ends early from one that is damaged or of a kind DALI does not know."""
    size = len(encoded)
    ends_early = {
        "JPEG": b"\xff\xd9" not in encoded[-4096:],
        "PNG": not 0 <= encoded.rfind(b"IEND") <= size - 8,
        "WEBP": int.from_bytes(encoded[4:8], "little") + 8 > size,
        "TIFF": _tiff_ends_early(encoded),
    }.get(image_format, False)
    if ends_early or "truncated" in message.lower():
        return UnusableError("truncated", english("the data ends early, after {size:,} bytes", size=size))
    return UnusableError("undecodable", message.splitlines()[0][:200] if message.strip() else english("damaged data"))


def _tiff_ends_early(encoded: bytes) -> bool:
    """Whether the directory of a classic TIFF, or a value it points to, lies beyond the end."""
    order = "little" if encoded[:2] == b"II" else "big"

    def number(position: int, width: int) -> int:
        return int.from_bytes(encoded[position : position + width], order)  # type: ignore[arg-type]

    start = number(4, 4) + 2
    end = start + 12 * number(start - 2, 2)
    if not 2 < start < end <= len(encoded):
        return True
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}  # bytes of a value by TIFF 6.0's field types
    for entry in range(start, end, 12):
        size = number(entry + 4, 4) * sizes.get(number(entry + 2, 2), 1)
        if size > 4 and number(entry + 8, 4) + size > len(encoded):
            return True
    return False
