from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.language.telling import retell, speaking
from common.vision import images
from common.vision.images import MAX_PIXELS, NOTES, ImageFacts, ImageProblem, probe, probe_all
from tests.common.vision.picture_files import broken_files, encode, photograph, sound_files


def write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    for name, encoded in files.items():
        (folder / name).write_bytes(encoded)
    return [folder / name for name in files]


def decode_with_dali(paths: Sequence[Path]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Whole pictures and their middles, as the CPU pipelines of training and validation decode them."""
    from nvidia.dali import fn, pipeline_def, types

    encoded = [np.fromfile(path, np.uint8) for path in paths]

    @pipeline_def(batch_size=len(paths), num_threads=1, device_id=None)
    def pipeline():  # type: ignore[no-untyped-def]
        files = fn.external_source(source=lambda: encoded, batch=True, dtype=types.UINT8, ndim=1)
        start, size = np.array([0.25, 0.25], np.float32), np.array([0.5, 0.5], np.float32)
        whole = fn.decoders.image(files, device="cpu", output_type=types.RGB)
        return whole, fn.decoders.image_slice(files, start, size, device="cpu", output_type=types.RGB)

    built = pipeline()
    built.build()
    whole, middle = built.run()
    return [whole.at(row) for row in range(len(paths))], [middle.at(row) for row in range(len(paths))]


def test_sound_files_are_described(tmp_path):
    files = sound_files()
    for path in write(tmp_path, {name: encoded for name, (encoded, _) in files.items()}):
        facts = probe(path)
        assert isinstance(facts, ImageFacts), facts
        assert (facts.width, facts.height) == (60, 44), path.name
        assert set(facts.notes) == files[path.name][1], path.name
        wanted = int(path.stem[-1]) if path.name.startswith("orientation") else 1
        assert facts.orientation == wanted, path.name
        assert facts.bytes == path.stat().st_size
        assert facts.mtime_ns == path.stat().st_mtime_ns
        assert set(facts.notes) <= set(NOTES)


def test_dali_decodes_every_file_that_passes(tmp_path):
    paths = write(tmp_path, {name: encoded for name, (encoded, _) in sound_files().items()})
    whole, middles = decode_with_dali(paths)
    upright = np.asarray(photograph()).astype(int)
    for path, picture, middle in zip(paths, whole, middles, strict=True):
        assert picture.shape == (44, 60, 3), path.name
        assert np.abs(middle.astype(int) - picture[11:33, 15:45]).mean() < 2, path.name
        if path.name.startswith("orientation") or path.stem == "plain":
            assert np.abs(picture - upright).mean() < 12, path.name  # JPEG and WEBP lose detail, turns would cost 60


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (300, 2)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_tiny_files_pass_and_decode(tmp_path, size, image_format):
    path = tmp_path / f"tiny.{image_format.lower()}"
    path.write_bytes(encode(photograph(*size), image_format))
    facts = probe(path)
    assert isinstance(facts, ImageFacts)
    assert (facts.width, facts.height) == size
    assert decode_with_dali([path])[0][0].shape == (*size[::-1], 3)


def test_broken_files_are_named_with_their_reason(tmp_path):
    files = broken_files()
    for path in write(tmp_path, {name: encoded for name, (encoded, _) in files.items()}):
        problem = probe(path)
        assert isinstance(problem, ImageProblem), f"{path.name} passed"
        assert problem.code == files[path.name][1], (path.name, problem)
        assert problem.reason
        assert "\n" not in problem.reason
        with speaking("es"):
            assert retell(problem.reason) != problem.reason, path.name


def test_damaged_files_that_pass_never_stop_dali(tmp_path):
    random = np.random.default_rng(0)
    originals = [encoded for encoded, _ in sound_files().values()]
    passed = []
    for number in range(150):
        encoded = bytearray(originals[random.integers(len(originals))])
        for position in random.integers(0, min(len(encoded), 600), random.integers(1, 4)):
            encoded[position] = random.integers(256)
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encoded)
        if isinstance(probe(path), ImageFacts):
            passed.append(path)
    assert len(passed) > 30
    decode_with_dali(passed)


def test_a_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(broken_files()["bomb.png"][0])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("the bomb was decoded"))
    assert MAX_PIXELS == 100_000_000
    problem = probe(path)
    assert isinstance(problem, ImageProblem)
    assert problem.reason == "20000 x 20000 pixels, 400 megapixels; at most 100 are decoded"


def test_orientation_outside_exif_is_noted_and_not_applied(tmp_path):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    path = tmp_path / "xmp.jpg"
    path.write_bytes(encode(photograph(), "JPEG", xmp=packet))
    facts = probe(path)
    assert isinstance(facts, ImageFacts)
    assert (facts.width, facts.height, facts.notes) == (60, 44, ("orientation-ignored",))
    assert facts.orientation == 1
    assert decode_with_dali([path])[0][0].shape == (44, 60, 3)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("link.jpg", "folder.jpg"):
        problem = probe(tmp_path / name)
        assert isinstance(problem, ImageProblem)
        assert problem.code == "unreadable"
    (tmp_path / "locked.jpg").write_bytes(b"x")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    problem = probe(tmp_path / "locked.jpg")
    assert problem == ImageProblem(tmp_path / "locked.jpg", "unreadable", "permission denied")


def test_processes_find_what_one_process_finds(tmp_path):
    files = {name: encoded for name, (encoded, _) in (sound_files() | broken_files()).items()}  # type: ignore[operator]
    paths = write(tmp_path, files)
    counted: list[tuple[int, int]] = []
    together = list(probe_all(paths, workers=2, progress=lambda done, total: counted.append((done, total))))
    alone = {result.path: result for result in probe_all(paths, workers=0)}
    assert {result.path: result for result in together} == alone
    assert counted == [(done, len(paths)) for done in range(1, len(paths) + 1)]
    assert list(probe_all([])) == []


def test_pillows_own_limit_is_left_alone(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(photograph(), "JPEG"))
    probe(path)
    assert before == Image.MAX_IMAGE_PIXELS
    assert set(images.EXTENSIONS.values()) == {*images.FORMATS, "GIF"}
