import csv
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from challenges.classification import check as module
from challenges.classification.check import CheckReport, Manifest
from challenges.classification.layout import draw_validation, list_photographs
from challenges.classification.manifest import COLUMNS
from challenges.classification.recipes import DataConfig
from common.errors import DataError
from common.files import read_json
from common.vision.image_folders import told_facts
from common.vision.leaks import LIKELY_GROUP, groups
from tests.common.vision.picture_files import broken_files, encode, sound_files


def fill(root: Path, counts: dict[str, int], first: int = 0) -> None:
    """So many different pictures in each of the folders."""
    for position, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = encode(unlike(1000 * position + number + first), "JPEG", quality=40)
            (root / name / f"{number:03d}.jpg").write_bytes(picture)


def unlike(seed: int) -> Image.Image:
    """A picture of 32 x 24 pixels that no other seed's resembles."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((32, 24), Image.Resampling.BICUBIC)


def check(root: Path, output: Path, **options: object) -> CheckReport:
    """options: of the data's configuration, and a seed."""
    seed = options.pop("seed", 0)
    config = DataConfig(**options)  # type: ignore[arg-type]
    return module.check(root, output, config=config, seed=seed, workers=0, progress=lambda done, total: None)  # type: ignore[arg-type]


def error_of(root: Path, output: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        check(root, output, **options)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    assert not (output / "manifest.csv").exists()
    return message


def test_split_folders_are_taken_as_they_are(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"Train/cat": 4, "Train/dog/young": 3, "VALID/cat": 2, "VALID/dog": 1, "test/cat": 1})
    (root / "Train/cat/.hidden.jpg").write_bytes(b"junk")
    (root / "notes.txt").write_text("hello")
    report = check(root, output)
    manifest = report.manifest
    assert manifest.classes == ("cat", "dog")
    assert report.record["layout"] == "split"
    assert report.record["counts"] == {
        "train": {"cat": 4, "dog": 3},
        "val": {"cat": 2, "dog": 1},
        "test": {"cat": 1, "dog": 0},
    }
    assert "Train/dog/young/001.jpg" in manifest.paths.tolist()
    assert report.record["others"] == {".txt": 1}
    assert manifest.subset("test").paths.tolist() == ["test/cat/000.jpg"]
    assert {column.dtype for column in (manifest.labels,)} == {np.dtype(np.int64)}
    assert manifest.widths.dtype == manifest.heights.dtype == np.int32
    assert set(zip(manifest.widths.tolist(), manifest.heights.tolist(), strict=True)) == {(32, 24)}


def test_flat_folders_are_split_by_class_and_seed(tmp_path):
    root = tmp_path / "data"
    fill(root, {"a": 20, "b": 10, "c": 2})
    report = check(root, tmp_path / "one", seed=1)
    assert report.record["counts"] == {"train": {"a": 16, "b": 8, "c": 1}, "val": {"a": 4, "b": 2, "c": 1}}
    again = check(root, tmp_path / "two", seed=1).manifest
    other = check(root, tmp_path / "three", seed=2).manifest
    assert again.splits.tolist() == report.manifest.splits.tolist() != other.splits.tolist()


def test_manifest_survives_writing_and_reading(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {'a, "b"': 3, "ünï\nc": 3})
    manifest = check(root, output).manifest
    read = Manifest.read(output / "manifest.csv")
    for name in ("paths", "labels", "widths", "heights", "splits", "sizes", "mtimes_ns", "digests"):
        stored, fresh = getattr(read, name), getattr(manifest, name)
        assert stored.dtype == fresh.dtype, name
        assert stored.tolist() == fresh.tolist(), name
    assert (read.root, read.classes, read.fingerprint) == (manifest.root, manifest.classes, manifest.fingerprint)
    with (output / "manifest.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == list(COLUMNS)
    validation = manifest.subset("val")
    assert len(validation) == 2
    assert validation.classes == manifest.classes
    assert all((root / path).is_file() for path in validation.paths)
    other = manifest.with_files(tmp_path, ["x.jpg"], np.zeros(1, np.int64))
    assert (other.root, other.paths.tolist(), other.labels.tolist()) == (tmp_path, ["x.jpg"], [0])


def test_damaged_manifests_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.read(tmp_path / "manifest.csv")
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"a": 3, "b": 3})
    check(root, output)
    table = output / "manifest.csv"
    table.write_text(table.read_text().replace(",b,", ",unknown,"))
    with pytest.raises(DataError, match="not the file that was written"):
        Manifest.read(table)


def test_bad_files_are_quarantined_with_reasons_and_the_rest_is_kept(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"a": 4, "b": 4})
    bad, sound = broken_files(), sound_files()
    for name, (encoded, _) in bad.items():
        (root / "a" / name).write_bytes(encoded)
    for name, (encoded, _) in sound.items():
        (root / "b" / name).write_bytes(encoded)
    report = check(root, output)
    assert len(report.manifest) == 8 + len(sound)
    with (output / "quarantine.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"]: row["code"] for row in rows} == {f"a/{name}": code for name, (_, code) in bad.items()}
    assert all(row["reason"] for row in rows)
    stored = read_json(output / "check.json")
    assert stored == report.record
    assert stored["notes"]["exif-rotated"] == 28
    told = list(told_facts(stored))
    assert "exif-rotated 28: turned or mirrored as its EXIF orientation says" in told
    assert len(told) == 2 + len(stored["notes"])
    assert sorted(stored["noted_files"]["misnamed"]) == ["b/jpeg.png", "b/png.jpg", "b/webp.jpg"]
    assert any("left out" in warning for warning in report.warnings)


def test_an_unchanged_folder_is_not_opened_again(tmp_path, monkeypatch):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"a": 5, "b": 5})
    (root / "a" / "broken.png").write_bytes(b"broken")
    first = check(root, output)
    assert not first.reused
    with monkeypatch.context() as patch:
        patch.setattr(module, "probe_listed", lambda *arguments: pytest.fail("the folder was opened again"))
        again = check(root, output)
    assert again.reused
    assert again.problems == first.problems
    assert again.record == first.record
    assert again.manifest.paths.tolist() == first.manifest.paths.tolist()
    assert not check(root, output, seed=3).reused
    assert check(root, output, seed=3).reused
    os.utime(root / "b" / "001.jpg", ns=(1, 1))
    assert not check(root, output, seed=3).reused
    (output / "manifest.csv").write_text("damaged")
    assert not check(root, output, seed=3).reused


def test_a_given_split_needs_no_second_check_for_another_seed(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2})
    check(root, output)
    assert check(root, output, seed=3, validation_fraction=0.5).reused
    assert not check(root, output, seed=3, split="random").reused


def test_fingerprint_follows_names_sizes_and_times(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    seen = {list_photographs(tmp_path).fingerprint}
    (tmp_path / "a" / "README.txt").write_text("not an image")
    assert list_photographs(tmp_path).fingerprint in seen
    os.utime(tmp_path / "a" / "000.jpg", ns=(5, 5))
    seen.add(list_photographs(tmp_path).fingerprint)
    (tmp_path / "a" / "000.jpg").rename(tmp_path / "a" / "x.jpg")
    seen.add(list_photographs(tmp_path).fingerprint)
    (tmp_path / "b" / "001.jpg").unlink()
    seen.add(list_photographs(tmp_path).fingerprint)
    assert len(seen) == 4


def test_duplicates_stay_in_one_split_and_contradictions_are_named(tmp_path):
    root = tmp_path / "data"
    fill(root, {"a": 10, "b": 10})
    for number in range(6):
        copy = (root / "a" / "000.jpg").read_bytes()
        (root / "a" / f"copy{number}.jpg").write_bytes(copy)
    (root / "b" / "same.jpg").write_bytes((root / "a" / "001.jpg").read_bytes())
    report = check(root, tmp_path / "out")
    found = report.record["duplicates"]
    assert {name: found[name]["count"] for name in found} == {"inside": 2, "across": 0, "contradicting": 1}
    assert found["contradicting"]["files"] == [["a/001.jpg", "b/same.jpg"]]
    assert any("a/001.jpg = b/same.jpg" in warning for warning in report.warnings)


def test_duplicates_across_given_splits_are_reported(tmp_path):
    root = tmp_path / "data"
    fill(root, {"train/a": 4, "train/b": 4})
    fill(root, {"val/a": 2, "val/b": 2}, first=500)
    (root / "val/a/leak.jpg").write_bytes((root / "train/a/002.jpg").read_bytes())
    report = check(root, tmp_path / "out")
    assert report.record["duplicates"]["across"] == {"count": 1, "files": [["train/a/002.jpg", "val/a/leak.jpg"]]}
    assert any("1 of 5 validation pictures" in warning for warning in report.warnings)


def test_groups_are_kept_together_only_when_asked(tmp_path):
    root = tmp_path / "data"
    for position, name in enumerate(("a", "b")):
        (root / name).mkdir(parents=True)
        for patient in range(10):
            for shot in range(3):
                seed = position * 100 + patient * 3 + shot
                picture = encode(unlike(seed), "PNG")
                (root / name / f"patient{patient + 10 * position}_img{shot}.png").write_bytes(picture)
    loose = check(root, tmp_path / "loose")
    parted = loose.record["leaks"]["val"]
    assert parted["kinds"]["group"]["count"] == parted["affected"] > 0
    assert any("--data.split by-group" in warning for warning in loose.warnings)
    tied = check(root, tmp_path / "tied", group_pattern=r"(patient\d+)_")
    assert tied.record["leaks"]["pattern"] == r"(patient\d+)_"
    assert tied.record["leaks"]["val"]["affected"] == 0
    assert tied.record["counts"]["val"] == {"a": 6, "b": 6}
    assert "(patient" in error_of(root, tmp_path / "wrong", group_pattern="(patient")
    assert "single group" in error_of(root, tmp_path / "one", group_pattern="patient")


def test_likely_groups_are_conservative():
    names = {
        "x/patient12_img3.jpg": "patient12",
        "x/video07-frame0001.png": "video07",
        "x/IMG_0001_a.jpg": "IMG_0001",
        "x/scan_1234-2.tif": "scan_1234",
        "x/NORMAL2-IM-0035-0001.jpeg": "NORMAL2-IM-0035",
        "x/cat.123.jpg": None,
        "x/IMG_0001.jpg": None,
        "x/case12.jpg": None,
        "x/n01440764_18.JPEG": None,
        "x/bookcase12_3.jpg": None,
        "x/COCO_train2014_000000581929.jpg": None,
    }
    assert dict(zip(names, groups(list(names), LIKELY_GROUP), strict=True)) == names
    assert groups(["a/b1-2.jpg"], re.compile(r"b\d")) == ["b1"]


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_drawn_split_is_stratified(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    chosen = draw_validation([f"file {row}" for row in range(len(labels))], labels, fraction, seed)
    for label, size in enumerate(sizes):
        expected = min(max(round(fraction * size), 1), size - 1)
        assert chosen[labels == label].sum() == expected


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_units_are_never_parted(data):
    labels = np.sort(np.array(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=60))))
    units = [f"unit {data.draw(st.integers(0, 20))}" for _ in labels]
    chosen = draw_validation(units, labels, 0.25, seed=0)
    sides = {(unit, bool(side)) for unit, side in zip(units, chosen, strict=True)}
    assert len(sides) == len(set(units))
    for label in set(labels.tolist()):
        assert not chosen[labels == label].all()


def test_adding_a_picture_moves_few_others():
    labels = np.zeros(200, np.int64)
    names = [f"{number}.jpg" for number in range(200)]
    before = dict(zip(names, draw_validation(names, labels, 0.2, 0), strict=True))
    longer = [*names, "new.jpg"]
    after = dict(zip(longer, draw_validation(longer, np.zeros(201, np.int64), 0.2, 0), strict=True))
    assert sum(before[name] != after[name] for name in names) <= 1


def test_hopeless_folders_are_refused_in_three_lines(tmp_path):
    output = tmp_path / "out"
    root = tmp_path / "data"
    assert "does not exist" in error_of(root, output)
    root.mkdir()
    assert "holds no images. Found: nothing." in error_of(root, output)
    (root / "table.csv").write_text("1")
    assert "1 x .csv" in error_of(root, output)
    assert "is a file" in error_of(root / "table.csv", output)
    fill(tmp_path, {"data": 3})
    assert "without folders of classes" in error_of(root, output)
    fill(root, {"cat": 3})
    assert "one class only: cat" in error_of(root, output)
    fill(root, {"dog": 1})
    assert "Class dog has fewer than two usable pictures" in error_of(root, output)
    fill(root, {"dog": 2})
    (root / "dog" / "001.jpg").write_bytes(b"")
    assert "Left out: 1 zero-byte" in error_of(root, output)
    fill(root, {"dog": 2})
    assert len(check(root, output).manifest) == 5


def test_split_folders_that_do_not_fit_are_refused(tmp_path):
    root, output = tmp_path / "data", tmp_path / "out"
    fill(root, {"train/a": 3, "train/b": 3, "val/a": 1, "val/c": 2})
    assert "Class c is only in the validation folder" in error_of(root, output)
    (root / "val/c").rename(root / "train/c")
    assert any("b, c" in warning for warning in check(root, output).warnings)
    (root / "val/a/000.jpg").write_bytes(b"")
    assert "holds no usable picture" in error_of(root, tmp_path / "other")


def test_training_folder_alone_is_split(tmp_path):
    fill(tmp_path / "data", {"train/a": 5, "train/b": 5})
    report = check(tmp_path / "data", tmp_path / "out")
    assert report.manifest.classes == ("a", "b")
    assert report.record["layout"] == "flat"


def test_class_named_train_is_a_class(tmp_path):
    fill(tmp_path / "data", {"train": 5, "plane": 5})
    assert check(tmp_path / "data", tmp_path / "out").manifest.classes == ("plane", "train")


def test_unlistable_folders_are_named(tmp_path, monkeypatch):
    fill(tmp_path / "data", {"a": 2, "b": 2})
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "cannot be listed: permission denied" in error_of(tmp_path / "data", tmp_path / "out")


def test_read_only_data_and_links_that_turn_back_are_fine(tmp_path):
    root = tmp_path / "data"
    fill(root, {"a": 3, "b": 3})
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    for folder_, _, names in os.walk(root, topdown=False):
        for name in names:
            if not os.path.islink(os.path.join(folder_, name)):
                os.chmod(os.path.join(folder_, name), 0o444)
        os.chmod(folder_, 0o555)
    try:
        report = check(root, tmp_path / "out")
    finally:
        for folder_, _, _ in os.walk(root):
            os.chmod(folder_, 0o755)
    assert len(report.manifest) == 6
    assert [(str(problem.path), problem.code) for problem in report.problems] == [("b/gone.jpg", "unreadable")]


def test_names_that_are_not_unicode_are_quarantined(tmp_path):
    root = tmp_path / "data"
    fill(root, {"a": 3, "b": 3})
    name = os.fsdecode(b"caf\xe9.jpg")
    (root / "a" / name).write_bytes((root / "a" / "000.jpg").read_bytes())
    report = check(root, tmp_path / "out")
    assert [(str(problem.path), problem.code) for problem in report.problems] == [("a/caf\\xe9.jpg", "unreadable")]
    assert check(root, tmp_path / "out").reused


def test_report_is_printed_with_counts_warnings_and_reasons(tmp_path):
    root = tmp_path / "data"
    fill(root, {"a[red]": 30, "b": 3})
    (root / "b" / "broken.jpg").write_bytes(b"")
    (root / "b" / "phone.HEIC").write_bytes(b"x")
    report = check(root, tmp_path / "out")
    console = Console(record=True, width=140, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        report.print(console)
        text = console.export_text()
    for part in ("a[red]", "24", "b/broken.jpg", "zero-byte", "unbalanced", "1 .heic", "fewer than 20"):
        assert part in text, part
    assert Counter(report.manifest.splits.tolist()) == {"train": 26, "val": 7}
    report_again = check(root, tmp_path / "out")
    assert report_again.warnings == report.warnings


@pytest.mark.dataset
def test_real_photographs_pass(shared_data, tmp_path):
    report = check(shared_data / "vision" / "dogs_cats", tmp_path / "out")
    assert report.manifest.classes == ("cat", "dog")
    assert not report.problems


def patients(root: Path, split: str, name: str, numbers: range, shots: range) -> None:
    for patient in numbers:
        for shot in shots:
            path = root / split / name / f"person{patient}_{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(unlike(1000 * len(name) + 10 * patient + shot), "PNG"))


def test_leaks_count_the_affected_pictures_and_splitting_by_group_removes_them(tmp_path):
    root = tmp_path / "x rays"
    for name, first in (("ill", 0), ("healthy", 100)):
        patients(root, "train", name, range(first, first + 12), range(2))
        patients(root, "val", name, range(first + 9, first + 15), range(2, 4))  # 3 of 6 patients are known
    again = Image.open(root / "train" / "ill" / "person1_0.png").resize((64, 48), Image.Resampling.BICUBIC)
    (root / "val" / "ill" / "renamed.jpg").write_bytes(encode(again, "JPEG", quality=90))
    given = check(root, tmp_path / "given")
    found = given.record["leaks"]["val"]
    assert (found["pictures"], found["affected"]) == (25, 13)
    assert found["kinds"]["group"]["count"] == 12
    assert found["kinds"]["near-identical"]["pairs"] == [["val/ill/renamed.jpg", "train/ill/person1_0.png", ""]]
    (told,) = [warning for warning in given.warnings if "counterparts" in warning]
    assert told.startswith("13 of 25 validation pictures")
    assert told.endswith(f"kit challenge resnet50 --data '{root}' --data.split by-group")

    anew = check(root, tmp_path / "anew", split="by-group")
    assert anew.record["leaks"]["val"]["affected"] == 0
    assert anew.record["understood"]["splits"].startswith("train = train/, val = val/; ")
    assert len(anew.manifest) == len(given.manifest)
    assert 0.1 < (anew.manifest.splits == "val").mean() < 0.3
    assert check(root, tmp_path / "mixed", split="random").record["leaks"]["val"]["affected"] > 0


def test_a_test_folder_keeps_its_pictures_when_the_others_are_parted_anew(tmp_path):
    root = tmp_path / "data"
    fill(root, {"train/a": 6, "train/b": 6, "val/a": 3, "val/b": 3})
    fill(root, {"test/a": 2, "test/b": 2}, first=5000)
    (root / "test" / "b" / "copy.jpg").write_bytes((root / "train" / "b" / "003.jpg").read_bytes())
    report = check(root, tmp_path / "out", split="random")
    assert sorted(report.manifest.subset("test").paths) == [
        "test/a/000.jpg", "test/a/001.jpg", "test/b/000.jpg", "test/b/001.jpg", "test/b/copy.jpg"
    ]  # fmt: skip
    given = check(root, tmp_path / "given")
    assert any(
        warning.startswith("1 of 5 test pictures have counterparts in training: 1 are identical files")
        for warning in given.warnings
    )


Way = tuple[str, str, tuple[int, int]]  # suffix, colour mode, size
COLOUR: Way = ("jpg", "RGB", (32, 24))
SCAN: Way = ("png", "L", (32, 24))
ODD: list[Way] = [("png", "L", (40 + number, 24)) for number in range(24)]  # each size once: they tell nothing


@pytest.mark.parametrize(
    ("ways", "told"),
    [
        ({"ill": [COLOUR], "cold": [SCAN], "well": [SCAN]}, ("ill", "format", "JPEG")),
        ({"ill": [COLOUR, SCAN], "well": [COLOUR, SCAN, SCAN]}, None),
        ({"ill": [SCAN], "well": ODD}, ("ill", "size", "32 x 24")),
        ({"ill": ODD, "well": ODD}, None),
    ],
    ids=["another-format", "mixed", "one-size", "each-its-size"],
)
def test_a_class_that_is_told_by_how_it_was_saved_is_named(tmp_path, ways, told):
    root = tmp_path / "data"
    for position, (name, turns) in enumerate(ways.items()):
        (root / name).mkdir(parents=True)
        for number in range(24):
            suffix, mode, size = turns[number % len(turns)]
            picture = unlike(100 * position + number).resize(size).convert(mode)
            picture.save(root / name / f"{number:02d}.{suffix}")
    report = check(root, tmp_path / "out")
    warnings = [warning for warning in report.warnings if warning.startswith("A shortcut: ")]
    assert len(warnings) == len(report.record["shortcuts"]) == (told is not None)
    for found, warning in zip(report.record["shortcuts"], warnings, strict=True):
        assert (found["name"], found["aspect"], found["commonest"], found["inside"], found["outside"]) == (*told, 1, 0)
        assert f"(mostly {told[2]}) alone tells ill from all else, 100% of its pictures and 0% of" in warning


@pytest.mark.parametrize(
    ("mask", "is_one"), [("{}.png", True), ("{}_mask.jpg", True), ("{}_Mask_1.png", True), ("m{}.png", False)]
)
def test_masks_beside_their_pictures_are_left_aside(tmp_path, mask, is_one):
    root = tmp_path / "data"
    fill(root, {"benign": 8, "malignant": 8})
    for file in list(root.rglob("*.jpg")):
        flat = Image.new("L", (32, 24))
        flat.paste(255, (8, 8, 8 + len(file.stem), 8 + int(file.stem) + 1))
        flat.save(file.with_name(mask.format(file.stem)))
    report = check(root, tmp_path / "out")
    assert len(report.manifest) == (16 if is_one else 32)
    assert any(warning.startswith("16 images are masks") for warning in report.warnings) == is_one


def test_pictures_saved_in_two_formats_are_no_masks(tmp_path):
    fill(tmp_path / "data", {"a": 8, "b": 8})
    for file in list((tmp_path / "data").rglob("*.jpg")):
        with Image.open(file) as picture:
            picture.save(file.with_suffix(".png"))
    assert len(check(tmp_path / "data", tmp_path / "out").manifest) == 32
