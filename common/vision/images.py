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
from typing import Any

import numpy as np
from nvidia import nvimgcodec
from PIL import Image, UnidentifiedImageError

from common.language.telling import english
from common.machine.processes import map_in_processes, usable_cores
from common.vision.image_depth import SampleRange
from common.vision.image_kinds import (
    ProblemCode,
    UnusableError,
    failure,
    refuse_samples_of_tiff,
    refuse_unreliable,
    unknown_kind,
)
from common.vision.near_duplicates import Thumbnail, thumbnail

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
    "narrow-16-bit": "16 bits per channel of which a quarter of the range or less is used: nearly one grey",
    "palette": "palette colours, converted to RGB",
    "transparent": "transparency, dropped",
    "animated": "an animation, of which the first frame is used",
    "multi-page": "several pages, of which the first is used",
}

_SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP", b"BM": "BMP", b"II*\0": "TIFF"}
_SIGNATURES[b"MM\0*"] = "TIFF"
_ORIENTATION = 274  # EXIF 2.32
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
    samples:       of a file with 16 bits per channel; None for all others.
    thumbnail:     for finding near-duplicates.
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
    samples: SampleRange | None = None
    thumbnail: Thumbnail = b""


@dataclass(frozen=True)
class ImageProblem:
    """A file that training must not meet, with the reason in English, as pages tell it again."""

    path: Path
    code: ProblemCode
    reason: str


def probe(path: Path) -> ImageFacts | ImageProblem:
    """Read and hash one file and decode it twice; whatever it holds, the answer is returned, never raised."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ImageProblem(path, "unreadable", english("not a regular file"))
        if status.st_size > MAX_BYTES:
            told = english("{size:.1f} GiB; at most 1 GiB is read", size=status.st_size / 2**30)
            return ImageProblem(path, "too-large", told)
        encoded = path.read_bytes()
    except OSError as error:
        return ImageProblem(path, "unreadable", (error.strerror or str(error)).lower())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture, image_format, mode, orientation, notes = _examine(encoded)
    except UnusableError as problem:
        return ImageProblem(path, problem.code, problem.reason)
    if image_format != EXTENSIONS.get(path.suffix.lower()):
        notes = ("misnamed", *notes)
    samples = _sample_range(encoded, picture) if "16-bit" in notes else None
    if samples is not None and samples.is_narrow:
        notes = (*notes, "narrow-16-bit")
    return ImageFacts(
        path=path,
        width=picture.shape[1],
        height=picture.shape[0],
        format=image_format,
        mode=mode,
        bytes=len(encoded),
        mtime_ns=status.st_mtime_ns,
        sha256=hashlib.sha256(encoded).hexdigest(),
        notes=notes,
        orientation=orientation,
        samples=samples,
        thumbnail=thumbnail(picture),
    )


def _examine(encoded: bytes) -> tuple[np.ndarray, str, str, int, tuple[str, ...]]:
    """DALI's picture (height, width, 3) uint8, the format, the stored mode, the applied orientation and the notes."""
    if not encoded:
        raise UnusableError("zero-byte", english("the file is empty"))
    image = _open(encoded)
    image_format = "JPEG" if image.format == "MPO" else str(image.format)
    if image_format not in FORMATS:
        told = english("{format}: save it as one of {known}", format=image_format, known=", ".join(FORMATS))
        raise UnusableError("unsupported-format", told)
    _refuse_bomb(image.width, image.height)
    mode, orientation = image.mode, _orientation(image)
    rotated = orientation != 1
    try:
        notes = _notes(image)
        if image_format == "TIFF":
            refuse_samples_of_tiff(encoded)
        refuse_unreliable(image)
        image.load()
        reference = as_rgb(image)
    except UnusableError:
        raise
    except Exception as error:
        raise failure(encoded, image_format, str(error)) from None
    picture, sixteen_bit = _decode_like_dali(encoded, image_format, rotated)
    if _agree(picture, _oriented(reference, _orientation(image))):  # Pillow turns TIFF itself, and says so
        notes += ("exif-rotated",) if rotated else ()
    elif rotated and _agree(picture, reference):
        notes += ("orientation-ignored",)
        orientation = 1
    else:
        told = english(
            "DALI and Pillow read this {mode} {format} as two different pictures", mode=mode, format=image_format
        )
        raise UnusableError("undecodable", told)
    return picture, image_format, mode, orientation, notes + (("16-bit",) if sixteen_bit and mode != "P" else ())


def _open(encoded: bytes) -> Image.Image:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(encoded))
    except Exception as error:
        image_format = next((name for start, name in _SIGNATURES.items() if encoded.startswith(start)), "")
        unknown = isinstance(error, UnidentifiedImageError)
        if unknown and not image_format:
            raise unknown_kind(encoded) from None
        if image_format == "TIFF":
            refuse_samples_of_tiff(encoded)
        raise failure(encoded, image_format, english("the header is damaged") if unknown else str(error)) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _refuse_bomb(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        told = english(
            "{width} x {height} pixels, {megapixels:.0f} megapixels; at most {most} are decoded",
            width=width,
            height=height,
            megapixels=width * height / 1e6,
            most=MAX_PIXELS // 1_000_000,
        )
        raise UnusableError("too-large", told)


def _notes(image: Image.Image) -> tuple[str, ...]:
    claims = {
        "cmyk": image.mode == "CMYK",
        "palette": image.mode in ("P", "PA"),
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "animated": image.format == "WEBP" and getattr(image, "n_frames", 1) > 1,
        "multi-page": image.format == "TIFF" and getattr(image, "n_frames", 1) > 1,
    }
    return tuple(name for name, holds in claims.items() if holds)


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
    except UnusableError:
        raise
    except Exception:
        lossless_with_exif = image_format == "WEBP" and b"VP8L" in encoded and b"EXIF" in encoded
        told = english("DALI cannot read this kind of {format}: save it again as JPEG", format=image_format)
        if lossless_with_exif:
            told = english("DALI cannot read this lossless WEBP with EXIF data: save it again as JPEG")
        raise failure(encoded, image_format, told) from None
    if decoded is None or part is None:
        raise failure(encoded, image_format, english("DALI cannot decode it"))
    picture = np.asarray(decoded)
    top, left, bottom, right = _middle(stream)
    if not rotated and not _agree(np.asarray(part), picture[top:bottom, left:right]):
        raise UnusableError(
            "undecodable", english("damaged data: DALI decodes a part of it differently from the whole")
        )
    return picture, sixteen_bit


def _sample_range(encoded: bytes, picture: np.ndarray) -> SampleRange:
    """The range of a sound file's 16-bit samples; `picture` is what it was scaled to."""
    stored = _decoder().decode(encoded, params=nvimgcodec.DecodeParams(allow_any_depth=True))
    values = np.asarray(stored)
    return SampleRange(int(values.min()), int(values.max()), round(float(picture.mean()), 1))


def _middle(stream: Any) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a part that lies inside the picture as stored and as turned: random crops are
    decoded on their own, often by another decoder than whole files.
    """
    side = min(stream.height, stream.width)
    return side // 4, side // 4, side - side // 4, side - side // 4


def as_rgb(image: Image.Image) -> np.ndarray:
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
    return ImageProblem(path, "undecodable", english("the decoder crashed on it (exit code {code})", code=exit_code))
