"""Image files of every kind, sound and broken, for the tests of what reads them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(width: int = 60, height: int = 44, seed: int = 0) -> Image.Image:
    """A smooth picture without any symmetry, so that every orientation looks different."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    tint = np.random.default_rng(seed).uniform(0.5, 1.0, 3)
    planes = [columns / width * 255, rows / height * 255, (columns + 2 * rows) % 97 * 2.5]
    return Image.fromarray((np.stack(planes, axis=-1) * tint).astype(np.uint8))


def dark_and_bright(folder: Path, *, count: int = 10, bright: int = 180, spread: int = 60) -> Path:
    """Two easily told classes of `count` pictures: noise over `spread` levels from 20, or from `bright`."""
    generator = np.random.default_rng(0)
    for label, base in (("dark", 20), ("bright", bright)):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(base, base + spread, (48, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.jpg")
    return folder


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "camera"
    return exif


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def deep_png() -> bytes:
    """RGB with 16 bits per channel, which Pillow cannot write."""
    pixels = np.asarray(photograph()).astype(">u2") * 257
    return png(60, 44, 16, 2, b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2")))


def bomb_png(side: int = 20_000) -> bytes:
    """A small file of 400 million pixels."""
    return png(side, side, 1, 0, bytes((1 + side // 8) * side))


def sound_files() -> dict[str, tuple[bytes, set[str]]]:
    """Name -> bytes and the notes that probing should make; every file is 60 x 44 once upright."""
    image = photograph()
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    grey16 = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    palette, turned = image.quantize(32), image.transpose(Image.Transpose.ROTATE_90)
    cmyk = encode(image.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe")
    files: dict[str, tuple[bytes, set[str]]] = {
        "plain.jpg": (encode(image, "JPEG"), set()),
        "upper.JPEG": (encode(image, "JPEG"), set()),
        "progressive.jpe": (encode(image, "JPEG", progressive=True), set()),
        "grey.jfif": (encode(image.convert("L"), "JPEG"), set()),
        "cmyk.jpg": (cmyk, {"cmyk"}),
        "ycck.jpg": (cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :], {"cmyk"}),
        "two.jpg": (encode(image, "MPO", save_all=True, append_images=[image]), set()),
        "tail.jpg": (encode(image, "JPEG") + b"after the end", set()),
        "plain.png": (encode(image, "PNG"), set()),
        "grey.png": (encode(image.convert("L"), "PNG"), set()),
        "bits.png": (encode(image.convert("1"), "PNG"), set()),
        "palette.png": (encode(palette, "PNG"), {"palette"}),
        "hole.png": (encode(palette, "PNG", transparency=3), {"palette", "transparent"}),
        "clear.png": (encode(clear, "PNG"), {"transparent"}),
        "grey16.png": (encode(grey16, "PNG"), {"16-bit"}),
        "deep.png": (deep_png(), {"16-bit"}),
        "plain.webp": (encode(image, "WEBP"), set()),
        "lossless.webp": (encode(image, "WEBP", lossless=True), set()),
        "clear.webp": (encode(clear, "WEBP"), {"transparent"}),
        "moving.webp": (encode(image, "WEBP", save_all=True, append_images=[image.rotate(90)]), {"animated"}),
        "plain.bmp": (encode(image, "BMP"), set()),
        "palette.bmp": (encode(palette, "BMP"), {"palette"}),
        "plain.tif": (encode(image, "TIFF"), set()),
        "lzw.tiff": (encode(image, "TIFF", compression="tiff_lzw"), set()),
        "grey16.tif": (encode(grey16, "TIFF"), {"16-bit"}),
        "cmyk.tif": (encode(image.convert("CMYK"), "TIFF"), {"cmyk"}),
        "pages.tif": (encode(image, "TIFF", save_all=True, append_images=[turned]), {"multi-page"}),
        "png.jpg": (encode(image, "PNG"), {"misnamed"}),
        "jpeg.png": (encode(image, "JPEG"), {"misnamed"}),
        "webp.jpg": (encode(image, "WEBP"), {"misnamed"}),
    }
    stored = {1: image, **{code: image.transpose(undo) for code, undo in UNDO.items()}}
    for code, picture in stored.items():
        notes = {"exif-rotated"} if code > 1 else set()
        exif = oriented(code)
        files[f"orientation{code}.jpg"] = (encode(picture, "JPEG", exif=exif, quality=95), notes)
        files[f"orientation{code}.png"] = (encode(picture, "PNG", exif=exif), notes)
        files[f"orientation{code}.webp"] = (encode(picture, "WEBP", exif=exif, quality=95), notes)
        files[f"orientation{code}.tif"] = (encode(picture, "TIFF", exif=exif), notes)
    return files


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how an upright picture is stored under it."""


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Name -> bytes and the code that probing should give."""
    image = photograph()
    jpeg, progressive = encode(image, "JPEG"), encode(image, "JPEG", progressive=True)
    lossless, bmp = encode(image, "PNG"), encode(image, "BMP")
    webp, tiff = encode(image, "WEBP"), encode(image, "TIFF", compression="tiff_lzw")
    frame = jpeg.index(b"\xff\xc0")
    huge = jpeg[: frame + 5] + struct.pack(">HH", 60_000, 60_000) + jpeg[frame + 9 :]
    cmyk = encode(image.convert("CMYK"), "JPEG")
    marker = cmyk.index(b"Adobe") - 4
    files = {
        "empty.jpg": (b"", "zero-byte"),
        "text.jpg": (b"<html>not found</html>", "not-an-image"),
        "zeros.png": (bytes(500), "not-an-image"),
        "moving.gif": (encode(image, "GIF"), "unsupported-format"),
        "gif.jpg": (encode(image, "GIF"), "unsupported-format"),
        "wavelet.jpg": (encode(image, "JPEG2000"), "unsupported-format"),
        "moving.png": (encode(image, "PNG", save_all=True, append_images=[image.rotate(9)]), "unsupported-format"),
        "two.tif": (encode(image.convert("LA"), "TIFF"), "unsupported-format"),
        "huge.jpg": (huge, "too-large"),
        "bomb.png": (bomb_png(), "too-large"),
        "half zero.jpg": (jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2), "truncated"),
        "bare.jpg": (cmyk[:marker] + cmyk[marker + 16 :], "undecodable"),
        "lab.tif": (encode(image.convert("LAB"), "TIFF"), "undecodable"),
        "float.tif": (encode(image.convert("F"), "TIFF"), "unsupported-format"),
        "exif.webp": (encode(image, "WEBP", lossless=True, exif=oriented(6)), "undecodable"),
        "spoilt.png": (lossless[: len(lossless) // 2] + b"spoilt" + lossless[len(lossless) // 2 + 6 :], "undecodable"),
    }
    for name, encoded in {
        "a.jpg": jpeg,
        "b.jpg": progressive,
        "c.png": lossless,
        "d.webp": webp,
        "e.tif": tiff,
    }.items():
        for kept in (40, len(encoded) // 2, len(encoded) * 9 // 10, len(encoded) - 3):
            files[f"{kept} of {name}"] = (encoded[:kept], "truncated")
    files["cut.bmp"] = (bmp[:-50], "truncated")
    return files
