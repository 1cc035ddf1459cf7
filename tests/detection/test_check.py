import csv
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from challenges.detection import check as module
from challenges.detection.check import CheckReport
from challenges.detection.reach import View
from challenges.detection.scenes import Scenes
from common.errors import DataError
from common.files import read_json
from common.language.telling import retell, speaking
from tests.common.vision.picture_files import UNDO, broken_files, encode, oriented, photograph
from tests.detection.annotated_folders import Box, coco_table, draw, voc_text, write_json, write_voc, write_yolo

CAT: Box = ("cat", 5, 6, 25, 30)
DOG: Box = ("dog", 10, 8, 50, 40)
CLASSES = {1: "cat", 2: "dog"}
COLUMNS = ("paths", "widths", "heights", "splits", "digests", "offsets", "boxes", "labels", "areas", "ignored")


def check(root: Path, output: Path, **options: object) -> CheckReport:
    return module.check(root, output, workers=0, progress=lambda done, total: None, **options)  # type: ignore[arg-type]


def codes(report: CheckReport) -> dict[str, int]:
    with speaking("es"):
        assert [problem.reason for problem in report.problems if retell(problem.reason) == problem.reason] == []
    return dict(Counter(problem.code for problem in report.problems))


def one_image(root: Path, picture: bytes, boxes: list[Box], stated: tuple[int, int], name: str = "a.jpg") -> Path:
    """A folder of the given image, which has the boxes, for training, and a plain one for validation."""
    (root / "train").mkdir(parents=True)
    (root / "train" / name).write_bytes(picture)
    draw(root / "val" / "b.jpg")
    write_json(root / "train.json", coco_table({name: boxes}, CLASSES, size=stated))
    write_json(root / "val.json", coco_table({"b.jpg": [CAT, DOG]}, CLASSES))
    return root


def test_what_is_written_is_what_is_read(tmp_path):
    root = write_voc(tmp_path / "data", {"a": [CAT, DOG], "b": [], "c": [DOG]}, {"trainval": ["a", "b"], "test": ["c"]})
    report = check(root, tmp_path / "out")
    scenes, stored = report.scenes, Scenes.read(tmp_path / "out")
    for name in COLUMNS:
        fresh, read = getattr(scenes, name), getattr(stored, name)
        assert fresh.dtype == read.dtype, name
        assert fresh.tolist() == read.tolist(), name
    assert (stored.root, stored.classes, stored.category_ids) == (root, ("cat", "dog"), (1, 2))
    assert stored.fingerprint == scenes.fingerprint
    assert scenes.paths.tolist() == [f"JPEGImages/{name}.jpg" for name in "abc"]
    assert scenes.splits.tolist() == ["train", "train", "val"]
    assert scenes.offsets.tolist() == [0, 2, 2, 3]
    assert scenes.boxes.tolist() == [list(CAT[1:]), list(DOG[1:]), list(DOG[1:])]
    assert scenes.labels.tolist() == [1, 2, 2]
    assert scenes.areas.tolist() == [480, 1280, 1280]
    record = read_json(tmp_path / "out" / "check.json")
    assert record == report.record
    assert record["images"] == {"train": 2, "val": 1}
    assert record["counts"] == {"train": {"cat": 1, "dog": 1}, "val": {"cat": 0, "dog": 1}}
    assert record["without_boxes"] == {"train": 1, "val": 0}
    assert record["boxes_per_image"] == {"smallest": 0, "median": 1, "largest": 2}
    assert any("cat: no validation boxes" in warning for warning in report.warnings)


def test_the_three_formats_say_the_same(tmp_path):
    boxes = {f"{name}.jpg": [CAT, DOG] for name in "abcdefgh"}
    write_voc(tmp_path / "voc", {Path(name).stem: around for name, around in boxes.items()})
    write_yolo(tmp_path / "yolo", boxes, ["cat", "dog"])
    write_json(tmp_path / "coco" / "all.json", coco_table(boxes, CLASSES))
    for name in boxes:
        draw(tmp_path / "coco" / name)
    scenes = [check(tmp_path / kind, tmp_path / "out" / kind).scenes for kind in ("voc", "yolo", "coco")]
    for other in scenes[1:]:
        np.testing.assert_allclose(other.boxes, scenes[0].boxes, rtol=1e-5)
        assert other.labels.tolist() == scenes[0].labels.tolist()
        assert other.classes == scenes[0].classes
    assert Counter(scenes[0].splits.tolist()) == {"train": 6, "val": 2}


def test_a_drawn_split_depends_on_the_seed_alone_and_keeps_copies_together(tmp_path):
    root = tmp_path / "data"
    boxes = {f"{number:02d}": [CAT] if number % 5 else [CAT, DOG] for number in range(40)}
    write_voc(root, boxes)
    for number in range(1, 6):
        picture = (root / "JPEGImages/00.jpg").read_bytes()
        (root / "JPEGImages" / f"{number:02d}.jpg").write_bytes(picture)
    one, again, other = (
        check(root, tmp_path / name, seed=seed) for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one.scenes.splits.tolist() == again.scenes.splits.tolist() != other.scenes.splits.tolist()
    assert len(set(one.scenes.splits[:6])) == 1
    assert one.record["duplicates"]["inside"]["count"] == 1
    assert one.record["duplicates"]["across"]["count"] == 0
    assert 6 <= one.record["images"]["val"] <= 9
    assert one.record["counts"]["val"]["dog"] in (1, 2)


def test_boxes_that_are_wrong_are_dropped_or_clipped_and_told(tmp_path):
    boxes: list[Box] = [
        ("cat", 10, 10, 10, 20),
        ("cat", 10, 20, 20, 10),
        ("cat", 30, 30, 30.05, 40),
        ("cat", 70, 10, 80, 20),
        ("cat", -30, -30, 0, 0),
        ("cat", -5, 10, 20, 20),
        ("cat", 10, 10, 60.8, 44.8),
        ("cat", -1e30, -1e30, 1e30, 1e30),
        CAT,
        CAT,
        ("dog", *CAT[1:]),
    ]
    report = check(one_image(tmp_path / "data", encode(photograph(), "JPEG"), boxes, (60, 44)), tmp_path / "out")
    assert codes(report) == {"degenerate-box": 3, "outside-box": 2, "clipped-box": 2, "duplicate-box": 1}
    assert report.record["rounded"] == 1
    kept = report.scenes.subset("train")
    wanted = [[0, 10, 20, 20], [10, 10, 60, 44], [0, 0, 60, 44], list(CAT[1:]), list(CAT[1:])]
    assert kept.boxes.tolist() == wanted
    assert kept.labels.tolist() == [1, 1, 1, 1, 2]
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["reason"] for row in rows if row["code"] == "duplicate-box"] == [
        "annotation 10 (cat): left 5, top 6, right 25, bottom 30 in 60 x 44"
    ]
    assert {row["path"] for row in rows} == {"train/a.jpg"}


def test_crowds_and_difficult_objects_are_marked(tmp_path):
    root = write_voc(tmp_path / "voc", {"a": [CAT, DOG], "b": [CAT]}, {"train": ["a"], "val": ["b"]})
    (root / "Annotations/a.xml").write_text(voc_text([CAT, DOG], difficult=[1]))
    report = check(root, tmp_path / "out")
    assert report.scenes.ignored.tolist() == [False, True, False]
    assert report.record["counts"]["train"] == {"cat": 1, "dog": 0}
    assert report.record["ignored"] == 1


def marked(boxes: list[Box]) -> Image.Image:
    """A grey picture of 60 x 44 pixels with the boxes filled in white."""
    pixels = np.full((44, 60, 3), 90, np.uint8)
    for _, left, top, right, bottom in boxes:
        pixels[int(top) : int(bottom), int(left) : int(right)] = 255
    return Image.fromarray(pixels)


def box_of_white(picture: Image.Image) -> list[int]:
    rows, columns = np.nonzero(np.asarray(picture)[..., 0] > 180)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_drawn_on_the_stored_picture_are_turned_with_it(tmp_path, orientation):
    upright = marked([CAT])
    stored = upright if orientation == 1 else upright.transpose(UNDO[orientation])
    raw_box: Box = ("cat", *box_of_white(stored))
    picture = encode(stored, "PNG", exif=oriented(orientation))
    raw = check(one_image(tmp_path / "raw", picture, [raw_box], stored.size, "a.png"), tmp_path / "1")
    told = {"turned-boxes": 1} if orientation >= 5 else {"orientation-unclear": 1} if orientation > 1 else {}
    assert codes(raw) == told
    if orientation == 1 or orientation >= 5:
        assert raw.scenes.subset("train").boxes.tolist() == [list(CAT[1:])]
    assert (raw.scenes.widths[0], raw.scenes.heights[0]) == (60, 44)
    as_seen = check(one_image(tmp_path / "seen", picture, [CAT], upright.size, "a.png"), tmp_path / "2")
    assert as_seen.scenes.subset("train").boxes.tolist() == [list(CAT[1:])]
    assert codes(as_seen) == ({"orientation-unclear": 1} if orientation in (2, 3, 4) else {})


def test_turning_agrees_with_turned_pictures_of_every_orientation():
    from challenges.detection.annotations.cleaning import turn

    for orientation, undo in UNDO.items():
        stored = marked([CAT]).transpose(undo)
        corners = np.asarray([box_of_white(stored)], float)
        turned = turn(corners, np.asarray([orientation]), np.asarray([[60, 44]]))
        assert turned.tolist() == [list(CAT[1:])], orientation


def test_annotations_of_another_size_are_left_out(tmp_path):
    root = tmp_path / "data"
    write_voc(root, {"a": [CAT], "b": [DOG], "c": [CAT], "d": [CAT]}, {"train": ["a", "b", "d"], "val": ["c"]})
    (root / "Annotations/b.xml").write_text(voc_text([DOG], size=(600, 440)))
    (root / "Annotations/d.xml").write_text(voc_text([CAT], size=(0, 0)))
    report = check(root, tmp_path / "out")
    assert codes(report) == {"size-mismatch": 1}
    assert "600 x 440, the image is 60 x 44" in report.problems[0].reason
    assert len(report.scenes) == 3


def test_odd_images_are_taken_with_right_sizes(tmp_path):
    root = tmp_path / "data"
    pictures = {
        "tiny.png": (encode(photograph(1, 1), "PNG"), ("cat", 0, 0, 1, 1), (1, 1)),
        "long.png": (encode(photograph(5000, 1), "PNG"), ("cat", 0, 0, 4000, 1), (5000, 1)),
        "tall.png": (encode(photograph(1, 5000), "PNG"), ("dog", 0, 0, 1, 4000), (1, 5000)),
        "grey.jpg": (encode(photograph().convert("L"), "JPEG"), CAT, (60, 44)),
        "cmyk.jpg": (encode(photograph().convert("CMYK"), "JPEG"), DOG, (60, 44)),
    }
    for name, (picture, box, size) in pictures.items():
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "JPEGImages" / name).write_bytes(picture)
        written = voc_text([box], size=size)
        (root / "Annotations" / name).with_suffix(".xml").write_text(written)
    report = check(root, tmp_path / "out")
    assert len(report.scenes) == 5
    found = {
        Path(path).name: (width, height)
        for path, width, height in zip(
            report.scenes.paths, report.scenes.widths.tolist(), report.scenes.heights.tolist(), strict=True
        )
    }
    assert found == {name: size for name, (_, _, size) in pictures.items()}
    assert codes(report) == {"degenerate-box": 3}  # corners that coincide are no box to VOC, even in one pixel
    table = coco_table({name: [box] for name, (_, box, _) in pictures.items()}, CLASSES)
    for row, (_, _, size) in zip(table["images"], pictures.values(), strict=True):
        row["width"], row["height"] = size
    write_json(root / "all.json", table)
    report = check(root, tmp_path / "out")
    assert codes(report) == {}
    assert len(report.scenes.boxes) == 5


def test_unusable_images_are_left_out_with_their_boxes(tmp_path):
    root = tmp_path / "data"
    files = broken_files()
    table = coco_table({name: [CAT] for name in (*files, "good.jpg", "fine.jpg")}, CLASSES)
    (root / "images").mkdir(parents=True)
    for name, (encoded, _) in files.items():
        (root / "images" / name).write_bytes(encoded)
    draw(root / "images/good.jpg")
    draw(root / "images/fine.jpg")
    write_json(root / "all.json", table)
    report = check(root, tmp_path / "out")
    assert {problem.path: problem.code for problem in report.problems} == {
        f"images/{name}": code for name, (_, code) in files.items()
    }
    assert len(report.scenes) == len(report.scenes.boxes) == 2


def test_an_unchanged_folder_is_not_opened_again(tmp_path, monkeypatch):
    root, output = tmp_path / "data", tmp_path / "out"
    write_voc(root, {name: [CAT, DOG] for name in "abcdef"})
    (root / "Annotations/g.xml").write_text("cut")
    first = check(root, output)
    assert not first.reused
    with monkeypatch.context() as patch:
        patch.setattr(module, "probe_listed", lambda *arguments: pytest.fail("the folder was opened again"))
        patch.setattr(module.annotation_files, "read", lambda *arguments: pytest.fail("annotations were read again"))
        again = check(root, output)
    assert again.reused
    assert (again.problems, again.record, again.warnings) == (first.problems, first.record, first.warnings)
    assert not check(root, output, seed=3).reused
    assert check(root, output, seed=3).reused
    os.utime(root / "Annotations/b.xml", ns=(1, 1))
    assert not check(root, output, seed=3).reused
    os.utime(root / "JPEGImages/b.jpg", ns=(1, 1))
    assert not check(root, output, seed=3).reused
    (output / "boxes.csv").write_text("damaged")
    assert not check(root, output, seed=3).reused


def test_copies_across_given_splits_are_reported(tmp_path):
    root = write_voc(tmp_path / "data", {name: [CAT] for name in "abcd"}, {"train": ["a", "b"], "val": ["c", "d"]})
    check(root, tmp_path / "out")
    assert check(root, tmp_path / "out", seed=3, validation_fraction=0.5).reused  # no split is drawn
    (root / "JPEGImages/c.jpg").write_bytes((root / "JPEGImages/a.jpg").read_bytes())
    report = check(root, tmp_path / "out")
    assert report.record["duplicates"]["across"]["files"] == [["JPEGImages/a.jpg", "JPEGImages/c.jpg"]]
    assert any("1 are identical files (JPEGImages/c.jpg = JPEGImages/a.jpg)" in warning for warning in report.warnings)


def test_images_with_absurdly_many_boxes_are_left_out(tmp_path):
    root = tmp_path / "data"
    crowd: list[Box] = [("cat", x, y, x + 2, y + 2) for x in range(40) for y in range(30)]
    write_voc(root, {"a": crowd, "b": [CAT], "c": [CAT]}, {"train": ["a", "b"], "val": ["c"]})
    report = check(root, tmp_path / "out")
    assert codes(report) == {"too-many-boxes": 1}
    assert len(report.scenes) == 2


def test_hopeless_folders_are_refused_in_three_lines(tmp_path):
    output = tmp_path / "out"

    def error_of(root: Path, **options: object) -> str:
        with pytest.raises(DataError) as caught:
            check(root, output, **options)
        assert len(str(caught.value).splitlines()) <= 3
        assert not (output / "check.json").exists()
        return str(caught.value)

    empty = write_voc(tmp_path / "empty", {"a": [], "b": []})
    assert "no box to learn from" in error_of(empty)
    flat = write_voc(tmp_path / "flat", {"a": [("cat", 5, 5, 5, 5)], "b": []})
    assert "1 degenerate-box" in error_of(flat)
    single = write_voc(tmp_path / "single", {"a": [CAT]})
    assert "no usable validation image" in error_of(single)
    assert "validation fraction" in error_of(single, validation_fraction=1.5)
    lists = write_voc(tmp_path / "lists", {"a": [CAT], "b": [CAT]}, {"train": ["a"], "val": ["b"]})
    (lists / "JPEGImages/b.jpg").write_bytes(b"")
    assert "Left out or changed: 1 zero-byte" in error_of(lists)
    (lists / "JPEGImages/a.jpg").write_bytes(b"")
    assert "0 usable training images" in error_of(lists)


def test_names_that_are_not_unicode_are_quarantined(tmp_path):
    root = write_voc(tmp_path / "data", {name: [CAT] for name in "abc"})
    for folder_, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        os.rename(root / folder_ / f"c{suffix}", root / folder_ / os.fsdecode(b"caf\xe9" + suffix.encode()))
    table = coco_table({"a.jpg": [], "b.jpg": [CAT], "\ud800.jpg": [CAT]}, {1: "cat\ud800[red]\n"} | {2: "cat"})
    report = check(root, tmp_path / "out")
    assert [(problem.path, problem.code) for problem in report.problems] == [
        ("JPEGImages/caf\\xe9.jpg", "unreadable"),
        ("Annotations/caf\\xe9.xml", "name-mismatch"),
    ]
    write_json(root / "all.json", table)
    report = check(root, tmp_path / "out")
    assert report.scenes.classes == ("cat\\ud800[red]", "cat")
    assert codes(report) == {"missing-image": 1, "no-annotation": 1}
    assert check(root, tmp_path / "out").reused


def test_the_report_is_printed(tmp_path):
    root = write_voc(tmp_path / "data", {f"{number:02d}": [("c[red]", 1, 1, 3, 3), DOG] for number in range(30)})
    (root / "Annotations/00.xml").write_text("<html/>")
    draw(root / "JPEGImages/phone.png")
    (root / "x.HEIC").write_bytes(b"x")
    report = check(root, tmp_path / "out")
    console = Console(record=True, width=160, file=io.StringIO())
    report.print(console)
    text = console.export_text()
    for part in (
        "c[red]",
        "(voc)",
        "annotation-malformed",
        "image left out",
        "100.0%",
        "are too small for 300 px: reachable recall",
        "1 .heic",
    ):
        assert part in text, part
    assert "boxes per image: 2 to 2, median 2; 0 images without boxes" in text


def test_another_input_size_judges_the_sizes_again_without_opening_an_image(tmp_path, monkeypatch):
    root = write_voc(tmp_path / "data", {f"{number:02d}": [("dot", 1, 1, 3, 3)] for number in range(3)})
    first = check(root, tmp_path / "out")
    monkeypatch.setattr(module, "probe_listed", None)
    larger = check(root, tmp_path / "out", view=View(512))
    assert read_json(tmp_path / "out" / "check.json") == larger.record
    assert (first.record["sizes"]["input"], larger.record["sizes"]["input"]) == (300, 512)
    sides = [report.record["sizes"]["all"]["sides"][1] for report in (first, larger)]
    assert sides[1] == pytest.approx(sides[0] * 512 / 300, abs=0.1)
    assert [any("too small" in told for told in report.warnings) for report in (first, larger)] == [True, False]
    assert check(root, tmp_path / "out").record["warnings"] == first.record["warnings"]


@pytest.mark.dataset
def test_blood_cells_as_they_are_published(shared_data, tmp_path):
    report = module.check(shared_data / "vision" / "bccd", tmp_path / "out", progress=lambda done, total: None)
    scenes = report.scenes
    assert scenes.classes == ("Platelets", "RBC", "WBC")
    assert (len(scenes.subset("train")), len(scenes.subset("val"))) == (292, 72)
    assert codes(report) == {"degenerate-box": 2}
    assert len(scenes.boxes) == 4888 - 2
    assert [Path(problem.path).stem for problem in report.problems] == ["BloodImage_00338", "BloodImage_00343"]
    assert report.record["boxes_per_image"] == {"smallest": 1, "median": 13, "largest": 30}
    assert report.record["duplicates"] == {kind: {"count": 0, "files": []} for kind in ("inside", "across")}
    assert report.record["sizes"]["classes"]["Platelets"]["below"] > 0.4
    assert min(row["recall"] for row in report.record["sizes"]["classes"].values()) > 0.98
