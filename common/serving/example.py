"""A small picture made of nothing but the standard library: for warm-up, readiness and load."""

import struct
import zlib

SIDE = 64


def example_image() -> bytes:
    """A grey ramp as a PNG file."""
    rows = b"".join(b"\0" + bytes((x * 255 // SIDE + y) % 256 for x in range(SIDE)) for y in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
