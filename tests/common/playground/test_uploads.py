"""Pictures that people bring: a sentence for each that cannot be read, and no file left."""

import io
import random
import tempfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from common.errors import DataError, KitError
from common.playground import corrections
from common.playground.uploads import MAX_UPLOAD, readable_picture


def encoded(kind="JPEG", size=(40, 30)):
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(stream, kind)
    return stream.getvalue()


def bomb(side):
    """A PNG whose header claims side x side pixels."""
    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    framed = [
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == [], "what was brought is gone"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_pictures_are_read_and_deleted(kind):
    with readable_picture(encoded(kind)) as (content, facts):
        assert content == encoded(kind)
        assert (facts.width, facts.height, facts.format) == (40, 30, kind)
        path = facts.path
    assert not path.exists()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (None, "no picture yet"),
        (b"", "no picture yet"),
        (b"MZ not a picture at all", "cannot be read"),
        (encoded()[:300], "cannot be read"),
        (encoded("GIF"), "GIF"),
        (bomb(20_000), "400 megapixels"),
        (bytes(MAX_UPLOAD + 1), "At most 32 MB"),
    ],
)
def test_others_are_refused_in_a_sentence_without_a_path(given, word, folder):
    with pytest.raises(DataError, match=word) as refused, readable_picture(given):
        raise AssertionError("it was read")
    assert str(folder) not in str(refused.value)


def test_two_hundred_damaged_files_are_each_refused_or_read():
    lots, sound = random.Random(0), [encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")]
    outcomes = set()
    for number in range(200):
        damaged = bytearray(sound[number % len(sound)])
        for _ in range(lots.randrange(1, 20)):
            damaged[lots.randrange(len(damaged))] = lots.randrange(256)
        try:
            with readable_picture(bytes(damaged[: lots.randrange(1, len(damaged) + 1)])) as (_, facts):
                outcomes.add(facts.format)
        except DataError:
            outcomes.add("refused")
    assert "refused" in outcomes


class TestCorrections:
    def test_a_picture_is_kept_once_under_one_name(self, folder):
        kept = corrections.write_picture(encoded(), "JPEG", folder / "cat")
        assert kept.read_bytes() == encoded()
        kept.write_bytes(b"changed by hand")
        assert corrections.write_picture(encoded(), "JPEG", folder / "cat") == kept
        assert kept.read_bytes() == b"changed by hand", "what is there is not written over"
        kept.unlink()
        kept.parent.rmdir()

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "nul\0"])
    def test_a_class_cannot_leave_the_folder(self, name):
        with pytest.raises(KitError):
            corrections.class_folder(Path("root"), name)
