"""Pictures with 16 bits per channel: what is told about their range, and which samples are refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.vision.image_depth import narrow_warnings
from common.vision.images import ImageFacts, ImageProblem, probe
from tests.common.vision.picture_files import encode, photograph, png

GREY = np.asarray(photograph().convert("L")).astype(np.uint16)  # 0 to about 200


def probed(folder: Path, name: str, encoded: bytes) -> ImageFacts:
    (folder / name).write_bytes(encoded)
    facts = probe(folder / name)
    assert isinstance(facts, ImageFacts), facts
    return facts


def grey(values: np.ndarray, image_format: str = "PNG") -> bytes:
    return encode(Image.fromarray(values.astype(np.uint16)), image_format)


def colour(values: np.ndarray, alpha: bool) -> bytes:
    """PNG with 16 bits per channel, which Pillow cannot write; `values` (height, width) in every channel."""
    planes = [values] * 3 + [np.full_like(values, 65535)] * alpha
    rows = np.stack(planes, axis=-1).astype(">u2")
    return png(values.shape[1], values.shape[0], 16, 6 if alpha else 2, b"".join(b"\0" + row.tobytes() for row in rows))


def tiff(bits: int, kind: int, data: bytes, width: int, height: int) -> bytes:
    """One grey strip without compression. kind: 1 unsigned, 2 signed, 3 float (TIFF 6.0, tag 339)."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data), 339: kind}
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag == 279 else 3, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + directory + bytes(4)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_told(tmp_path, image_format):
    values = GREY * 19  # up to 3,800 of 4,095
    facts = [probed(tmp_path, f"{n}.{image_format.lower()}", grey(values + n, image_format)) for n in range(3)]
    samples = facts[0].samples
    assert samples is not None
    assert (samples.smallest, samples.largest) == (int(values.min()), int(values.max()))
    assert samples.brightness == pytest.approx(values.mean() / 257, abs=0.6)
    assert "narrow-16-bit" in facts[0].notes
    (warning,) = narrow_warnings(tmp_path, facts)
    told = f"3 of 3 16-bit pictures use only values of {values.min():,} to {values.max() + 2:,} of 65,535"
    assert warning.startswith(told)
    assert "nearly black" in warning
    assert "multiply all by 16," in warning


@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_measured_without_their_transparency(tmp_path, alpha):
    samples = probed(tmp_path, "a.png", colour(GREY * 15, alpha)).samples
    assert samples is not None
    assert (samples.smallest, samples.largest) == (int(GREY.min()) * 15, int(GREY.max()) * 15)


def test_other_ranges_are_told_by_their_own_words(tmp_path):
    (labels,) = narrow_warnings(tmp_path, [probed(tmp_path, "labels.png", grey(GREY))])
    assert "multiply all by 256," in labels
    (fog,) = narrow_warnings(tmp_path, [probed(tmp_path, "fog.png", grey(GREY * 10 + 32_000))])
    assert "nearly one grey" in fog
    assert "one range for all" in fog


def test_pictures_that_use_their_bits_are_not_told_of(tmp_path):
    full = probed(tmp_path, "full.png", grey(GREY * 257))
    narrow = probed(tmp_path, "narrow.png", grey(GREY * 19))
    plain = probed(tmp_path, "plain.png", encode(photograph(), "PNG"))
    assert (plain.samples, full.notes) == (None, ("16-bit",))
    assert narrow_warnings(tmp_path, []) == narrow_warnings(tmp_path, [plain, full]) == []
    assert narrow_warnings(tmp_path, [full] * 20 + [narrow]) == []  # a night among days
    assert narrow_warnings(tmp_path, [full] * 5 + [narrow] * 5)  # two cameras
    bright = probed(tmp_path, "bright.png", grey(GREY * 19 + 60_000))
    assert narrow_warnings(tmp_path, [narrow, bright]) == []  # little contrast in each, the whole range in all


@pytest.mark.parametrize(
    ("bits", "kind", "dtype", "told"),
    [
        (32, 3, "<f4", "32-bit float"),
        (64, 3, "<f8", "64-bit float"),
        (16, 3, "<f2", "16-bit float"),
        (16, 2, "<i2", "16-bit signed integer"),
        (32, 1, "<u4", "32-bit integer"),
        (32, 2, "<i4", "32-bit signed integer"),
    ],
)
def test_samples_that_are_not_read_are_named(tmp_path, bits, kind, dtype, told):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(bits, kind, GREY.astype(dtype).tobytes(), 60, 44))
    told = f"TIFF with {told} samples: save as 8- or 16-bit"
    assert probe(path) == ImageProblem(path, "unsupported-format", told)


def test_the_same_strip_of_usable_samples_passes(tmp_path):
    facts = probed(tmp_path, "a.tif", tiff(16, 1, (GREY * 257).astype("<u2").tobytes(), 60, 44))
    assert facts.notes == ("16-bit",)


@pytest.mark.parametrize(
    ("start", "code", "told"),
    [
        (b"\0\0\0\x18ftypheic", "unsupported-format", "HEIC, which is not read: convert it to JPEG"),
        (b"\0\0\0\x1cftypmif1", "unsupported-format", "HEIC"),
        (bytes(128) + b"DICM", "unsupported-format", "DICOM"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html>", "not-an-image", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "not-an-image", "a Git LFS pointer"),
        (b"anything", "not-an-image", "no known image format"),
    ],
)
def test_renamed_files_of_other_kinds_are_named(tmp_path, start, code, told):
    (tmp_path / "a.jpg").write_bytes(start + bytes(300))
    problem = probe(tmp_path / "a.jpg")
    assert isinstance(problem, ImageProblem)
    assert problem.code == code
    assert told in problem.reason
