"""Files that nobody should bring to a page of pictures, and some that only look so."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SOUND = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
NAMES = (
    "../../../etc/passwd.png", "..\\..\\windows\\win.ini", "a" * 4000 + ".png", "a" * 254 + ".png", "nul\0l.png", "",
    " ", ".", "..", ".htaccess", "CON.png", "%2e%2e%2fup.png", "line\nfeed.png", "tab\t.png", "\N{CAT FACE}\u200d.png",
    "\u202egnp.exe", "é" * 200 + ".png", "<img src=x onerror=alert(1)>.png", "'; rm -rf ~;.png", "$(id).png", "-rf.png",
    "{{7*7}}.png", "a.png;type=text/html", '"quoted".png',
)  # fmt: skip
"""Of a sound picture."""


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header claims this size, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", header), *chunks, pixels, chunk(b"IEND", b"")))


def looping_tiff() -> bytes:
    """Whose directory says that the next one is itself."""
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 16)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 8)


def looping_exif() -> bytes:
    """A JPEG whose EXIF directory holds itself, as a directory of EXIF's, of GPS', and as the next one."""
    entries = [(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0x0112, 3, 1, 6)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + struct.pack("<I", 8)
    return encoded("JPEG", exif=b"Exif\0\0" + tiff)


def long_gif(frames: int) -> bytes:
    """Frames of one pixel each."""
    frame = b"!\xf9\x04\0\0\0\0\0" + b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


def float_tiff(value: float) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.float32)).save(stream, "TIFF")
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../up.png", encoded("PNG"))
    return stream.getvalue()


def kinds() -> dict[str, bytes]:
    """Of every kind one, by what it is."""
    wide = b"\0" * (60 << 20)
    return {
        "empty": b"",
        "one byte": b"\xff",
        "text": b"this is no picture\n" * 40,
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "SVG with a file": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
        "PDF": b"%PDF-1.7\n%%EOF",
        "ZIP": zipped(),
        "script": b"#!/bin/sh\nid\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(200),
        "AVIF": b"\0\0\0\x18ftypavif" + bytes(200),
        "GIF": encoded("GIF"),
        "GIF of 100,000 frames": long_gif(100_000),
        "PNG of 400 megapixels": png_of(20_000, 20_000),
        "PNG of 2**31 pixels a side": png_of(2**31 - 1, 2**31 - 1),
        "PNG of no pixels": png_of(0, 0),
        "PNG with too few pixels": png_of(3000, 3000),
        "PNG with a text of 60 MB": png_of(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(wide))),
        "PNG with a profile of 60 MB": png_of(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(wide))),
        "PNG in two bytes": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0"),
        "TIFF in a loop": looping_tiff(),
        "TIFF of NaN": float_tiff(float("nan")),
        "TIFF of infinity": float_tiff(float("inf")),
        "BMP of 2**30 pixels": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 200, 0, 54, 40, 2**15, 2**15, 1, 24, 0, 0, 0, 0, 0, 0),
        "EXIF in a loop": looping_exif(),
        "16 bits": encoded("PNG", "I;16"),
        "CMYK": encoded("JPEG", "CMYK"),
        "one bit": encoded("PNG", "1"),
        "palette": encoded("PNG", "P"),
        "transparent": encoded("PNG", "RGBA"),
        "one pixel": encoded("PNG", size=(1, 1)),
        "long and thin": encoded("PNG", size=(20_000, 1)),
        "picture and archive": encoded("JPEG") + zipped(),
    }


def damaged(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Sound files of every kind, cut or with some bytes changed."""
    lots, sound = random.Random(seed), {kind: encoded(kind) for kind in SOUND}
    for number in range(count):
        kind = SOUND[number % len(SOUND)]
        content = bytearray(sound[kind])
        if number % 2:
            content = content[: lots.randrange(1, len(content))]
        else:
            for _ in range(lots.randrange(1, 20)):
                content[lots.randrange(len(content))] = lots.randrange(256)
        yield f"damaged {kind} {number}", bytes(content)
