"""Text files as any system writes them: UTF-8, or UTF-16 and UTF-32 where a byte order mark says so."""

import codecs
from pathlib import Path

from common.language.telling import english

MAX_BYTES = 16 << 20
_MARKS = (  # the longer mark first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(path: Path) -> str:
    """The file's text. Raises OSError, and ValueError with the reason in words, where it cannot be read."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(english("more than {size} MiB", size=MAX_BYTES >> 20))
    return decoded(path.read_bytes())


def decoded(encoded: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if encoded.startswith(mark)), "utf-8-sig")
    try:
        text = encoded.decode(encoding)
    except UnicodeDecodeError:
        told = english("its encoding is not {name}: save it as UTF-8", name=encoding.removesuffix("-sig").upper())
        raise ValueError(told) from None
    if "\0" in text:
        raise ValueError(english("it has zero bytes, like UTF-16 without a byte order mark: save it as UTF-8"))
    return text


def lines_of(path: Path) -> list[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1. Raises as `text_of` does."""
    return [(number, line) for number, line in enumerate(text_of(path).splitlines(), start=1) if line.strip()]
