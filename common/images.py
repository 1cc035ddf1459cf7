"""Probing image files before training: what each holds, and whether DALI's CPU decoder will read it as it should.

DALI stops the whole pipeline at the first file it cannot decode, so nothing that fails here may reach it. A file passes
when nvImageCodec, the decoder inside DALI, and Pillow both decode all of it to the same picture.
"""

import hashlib
import io
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nvidia import nvimgcodec
from PIL import Image, UnidentifiedImageError

from common.processes import map_in_processes, usable_cores

ProblemCode = Literal[
    "zero-byte", "unreadable", "not-an-image", "truncated", "unsupported-format", "too-large", "undecodable"
]

EXTENSIONS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",  # looked at only to be reported: DALI has no GIF decoder
}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
NOTES = {
    "misnamed": "the extension names another format than the file holds",
    "exif-rotated": "turned or mirrored as its EXIF orientation says",
    "orientation-ignored": "an orientation DALI does not read (XMP, text chunk): the picture stays as stored",
    "cmyk": "CMYK colours, converted to RGB",
    "16-bit": "16 bits per channel, scaled to 8",
    "palette": "palette colours, converted to RGB",
    "transparent": "transparency, dropped",
    "animated": "an animation, of which the first frame is used",
    "multi-page": "several pages, of which the first is used",
}

_SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP", b"II*\0": "TIFF"}
_SIGNATURES[b"MM\0*"] = "TIFF"
_ORIENTATION, _SAMPLES_PER_PIXEL, _BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 274, 277, 258, 284  # TIFF 6.0 tags
_TOLERANCE = 3.0  # mean of 255 levels; honest files differ by at most 2.3 (5-bit BMP), misread ones by 7 and more


@dataclass(frozen=True)
class ImageFacts:
    """A file that training can use.

    width, height: pixels as DALI delivers them, after the EXIF orientation.
    mode:          Pillow's name of the stored colour mode.
    bytes:         size of the file.
    sha256:        digest of the file's bytes in hex.
    notes:         keys of NOTES: oddities that training survives.
    orientation:   the EXIF orientation that was applied, 1..8; 1 where the picture is as stored.
    """

    path: Path
    width: int
    height: int
    format: str
    mode: str
    bytes: int
    mtime_ns: int
    sha256: str
    notes: tuple[str, ...] = ()
    orientation: int = 1


@dataclass(frozen=True)
class ImageProblem:
    """A file that training must not meet, with the reason in words."""

    path: Path
    code: ProblemCode
    reason: str


class _UnusableError(Exception):
    def __init__(self, code: ProblemCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def probe(path: Path) -> ImageFacts | ImageProblem:
    """Read and hash one file and decode it twice; whatever it holds, the answer is returned, never raised."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ImageProblem(path, "unreadable", "not a regular file")
        if status.st_size > MAX_BYTES:
            return ImageProblem(path, "too-large", f"{status.st_size / 2**30:.1f} GiB; at most 1 GiB is read")
        encoded = path.read_bytes()
    except OSError as error:
        return ImageProblem(path, "unreadable", (error.strerror or str(error)).lower())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture, image_format, mode, orientation, notes = _examine(encoded)
    except _UnusableError as problem:
        return ImageProblem(path, problem.code, problem.reason)
    if image_format != EXTENSIONS.get(path.suffix.lower()):
        notes = ("misnamed", *notes)
    height, width = picture.shape[:2]
    digest = hashlib.sha256(encoded).hexdigest()
    return ImageFacts(
        path, width, height, image_format, mode, len(encoded), status.st_mtime_ns, digest, notes, orientation
    )


def _examine(encoded: bytes) -> tuple[np.ndarray, str, str, int, tuple[str, ...]]:
    """DALI's picture (height, width, 3) uint8, the format, the stored mode, the applied orientation and the notes."""
    if not encoded:
        raise _UnusableError("zero-byte", "the file is empty")
    image = _open(encoded)
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    if image_format not in FORMATS:
        raise _UnusableError("unsupported-format", f"{image_format}; usable are {', '.join(FORMATS)}")
    _refuse_bomb(image.width, image.height)
    mode, orientation = image.mode, _orientation(image)
    rotated = orientation != 1
    try:
        notes = _notes(image)
        _refuse_unreliable(image)
        image.load()
        reference = _as_rgb(image)
    except _UnusableError:
        raise
    except Exception as error:
        raise _failure(encoded, image_format, str(error)) from None
    picture, sixteen_bit = _decode_like_dali(encoded, image_format, rotated)
    if _agree(picture, _oriented(reference, _orientation(image))):  # Pillow turns TIFF itself, and says so
        notes += ("exif-rotated",) if rotated else ()
    elif rotated and _agree(picture, reference):
        notes += ("orientation-ignored",)
        orientation = 1
    else:
        raise _UnusableError(
            "undecodable", f"DALI and Pillow read this {mode} {image_format} as two different pictures"
        )
    return picture, image_format, mode, orientation, notes + (("16-bit",) if sixteen_bit and mode != "P" else ())


def _open(encoded: bytes) -> Image.Image:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(encoded))
    except Exception as error:
        image_format = next((name for start, name in _SIGNATURES.items() if encoded.startswith(start)), "")
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and not image_format:
            raise _UnusableError("not-an-image", "no known image format") from None
        raise _failure(encoded, image_format, "the header is damaged" if unknown else str(error)) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        size = f"{width} x {height} pixels, {width * height / 1e6:.0f} megapixels"
        raise _UnusableError("too-large", f"{size}; at most {MAX_PIXELS // 1_000_000} are decoded")


def _notes(image: Image.Image) -> tuple[str, ...]:
    claims = {
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "animated": image.format == "WEBP" and getattr(image, "n_frames", 1) > 1,
        "multi-page": image.format == "TIFF" and getattr(image, "n_frames", 1) > 1,
    }
    return tuple(name for name, holds in claims.items() if holds)


def _refuse_unreliable(image: Image.Image) -> None:
    """Refuse the kinds that DALI 2.4 accepts and decodes wrongly, or to other pixels each time."""
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise _UnusableError("unsupported-format", "animated PNG, which DALI does not decode reliably")
    tags: Any = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return
    if tags.get(_SAMPLES_PER_PIXEL, 1) == 2:
        raise _UnusableError("unsupported-format", "TIFF with two channels, which DALI decodes wrongly")
    if tags.get(_PLANAR_CONFIGURATION, 1) == 2 and max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8:
        raise _UnusableError("unsupported-format", "TIFF with separate 16-bit planes, which DALI decodes wrongly")


@cache
def _decoder() -> Any:
    backends = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
    return nvimgcodec.Decoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1, backends=backends)


def _decode_like_dali(encoded: bytes, image_format: str, rotated: bool) -> tuple[np.ndarray, bool]:
    """What DALI's CPU decoder makes of the bytes, (height, width, 3) uint8, and whether they hold 16-bit samples."""
    try:
        stream = nvimgcodec.CodeStream(encoded)
        sixteen_bit = np.dtype(stream.dtype).itemsize > 1  # raises for samples that DALI has no type for
        _refuse_bomb(stream.width, stream.height)
        decoded = _decoder().decode(stream)
        part = _decoder().decode(stream.get_sub_code_stream(region=nvimgcodec.Region(*_middle(stream))))
    except _UnusableError:
        raise
    except Exception:
        lossless_with_exif = image_format == "WEBP" and b"VP8L" in encoded and b"EXIF" in encoded
        kind = "lossless WEBP with EXIF data" if lossless_with_exif else f"kind of {image_format}"
        raise _failure(encoded, image_format, f"DALI cannot read this {kind}: save it again as JPEG") from None
    if decoded is None or part is None:
        raise _failure(encoded, image_format, "DALI cannot decode it")
    picture = np.asarray(decoded)
    top, left, bottom, right = _middle(stream)
    if not rotated and not _agree(np.asarray(part), picture[top:bottom, left:right]):
        raise _UnusableError("undecodable", "damaged data: DALI decodes a part of it differently from the whole")
    return picture, sixteen_bit


def _middle(stream: Any) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a part that lies inside the picture as stored and as turned: random crops are
    decoded on their own, often by another decoder than whole files."""
    side = min(stream.height, stream.width)
    return side // 4, side // 4, side - side // 4, side - side // 4


def _as_rgb(image: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8 of a loaded image, as stored; 16-bit grey is scaled."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The orientation, 1..8; 1 where there is none or its block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _oriented(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The stored (height, width, 3) pixels turned and mirrored to be upright: EXIF 2.32, tag 274."""
    if orientation >= 5:
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return picture[:, ::-1] if orientation in (2, 3, 6, 7) else picture


def _agree(ours: np.ndarray, reference: np.ndarray) -> bool:
    """Whether two pictures are the same up to rounding, judged on a grid of about 20,000 pixels."""
    if ours.shape != reference.shape:
        return False
    step = max(1, round((ours.shape[0] * ours.shape[1] / 20_000) ** 0.5))
    difference = ours[::step, ::step].astype(np.int16) - reference[::step, ::step]
    return bool(np.abs(difference).mean() <= _TOLERANCE)


def _failure(encoded: bytes, image_format: str, message: str) -> _UnusableError:
    """Tell a file that ends early from one that is damaged or of a kind DALI does not know."""
    size = len(encoded)
    ends_early = {
        "JPEG": b"\xff\xd9" not in encoded[-4096:],
        "PNG": not 0 <= encoded.rfind(b"IEND") <= size - 8,
        "WEBP": int.from_bytes(encoded[4:8], "little") + 8 > size,
        "TIFF": _tiff_ends_early(encoded),
    }.get(image_format, False)
    if ends_early or "truncated" in message.lower():
        return _UnusableError("truncated", f"the data ends early, after {size:,} bytes")
    return _UnusableError("undecodable", message.splitlines()[0][:200] if message.strip() else "damaged data")


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


def probe_all(
    paths: Sequence[Path], workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Iterator[ImageFacts | ImageProblem]:
    """Probe many files in parallel processes, yielding results as they come, in no fixed order.

    workers:  processes; None: one per usable core; 0: in this process, where a decoder's crash is not survived.
    progress: called with (files done, files in all) after each file.
    A process that dies is replaced; the file it held becomes an `undecodable` problem.
    """
    results: Iterator[ImageFacts | ImageProblem]
    if workers == 0:
        results = map(probe, paths)
    else:
        results = map_in_processes(probe, paths, workers or usable_cores(), when_lost=_crashed, quiet=True)
    for done, result in enumerate(results, start=1):
        if progress is not None:
            progress(done, len(paths))
        yield result


def _crashed(path: Path, exit_code: int | None) -> ImageProblem:
    return ImageProblem(path, "undecodable", f"the decoder crashed on it (exit code {exit_code})")
