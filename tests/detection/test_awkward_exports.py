"""Exports that are not what the format says, from any tool: each is read rightly or refused with its cause."""

import csv
import json
from collections import Counter
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from pycocotools import mask as coco_masks
from rich.console import Console

from challenges.detection.annotations.masks import extent
from tests.detection.annotated_folders import Box, coco_table, draw, voc_text, write_json, write_voc, write_yolo
from tests.detection.awkward_exports import (
    BOLT,
    BOXES,
    CLASSES,
    HEIGHT,
    NAMES,
    NUT,
    RIGHT,
    SPELLINGS,
    WIDTH,
    assert_all_right,
    check,
    coco,
    refusal,
    yolo,
)


def _each(key: str, value: Any) -> Any:
    def change(table: dict[str, Any]) -> None:
        for row in table["annotations"]:
            row[key] = value(row)

    return change


def polygon(row: dict[str, Any]) -> list[float]:
    left, top, width, height = row["bbox"]
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def mask_of(row: dict[str, Any], *, compressed: bool) -> dict[str, Any]:
    left, top, width, height = map(int, row["bbox"])
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[top : top + height, left : left + width] = 1
    if compressed:
        encoded = coco_masks.encode(pixels)
        return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], pixels.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


SEGMENTATIONS = {
    "polygons": lambda row: [polygon(row)],
    "flat polygon": polygon,
    "runs": lambda row: mask_of(row, compressed=False),
    "compressed": lambda row: mask_of(row, compressed=True),
}


@pytest.mark.parametrize("blank", ["missing", [], None, [0, 0, 0, 0]], ids=str)
@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_coco_without_boxes_takes_the_extent_of_polygons_and_masks(tmp_path, kind, blank):
    def change(table: dict[str, Any]) -> None:
        for row in table["annotations"]:
            row["segmentation"] = SEGMENTATIONS[kind](row)
            row["bbox"] = blank
            if blank == "missing":
                del row["bbox"]

    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert_all_right(report)
    assert any("24 annotations have no box" in warning for warning in report.warnings)
    assert "24 annotations the extent" in report.record["understood"]["numbers"]


def test_extents_of_masks_are_those_of_their_pixels():
    random = np.random.default_rng(0)
    for _ in range(50):
        height, width = random.integers(1, 9, 2).tolist()
        pixels = np.asfortranarray((random.random((height, width)) < 0.2).astype(np.uint8))
        encoded = coco_masks.encode(pixels)
        rows, columns = np.nonzero(pixels)
        wanted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
        assert extent({"size": [height, width], "counts": encoded["counts"].decode()}) == wanted
    for damaged in (
        {},
        {"size": [4, 4], "counts": "\n"},
        {"size": [1, 1], "counts": [9, 9]},
        [[1, 2]],
        "x",
        [["a"] * 6],
    ):
        assert extent(damaged) is None


def strings(table: dict[str, Any]) -> None:
    for row in table["images"] + table["categories"]:
        row["id"] = str(row["id"])
    for row in table["annotations"]:
        row["image_id"], row["category_id"] = str(row["image_id"]), str(row["category_id"])


def floats(table: dict[str, Any]) -> None:
    for row in table["images"] + table["categories"]:
        row["id"] = float(row["id"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (strings, "60 ids are written as texts"),
        (floats, "2 categories' ids are written as texts or decimals"),
        (_each("category_id", lambda row: f"{row['category_id']}.0"), "24 ids"),
        (_each("bbox", lambda row: [str(value) for value in row["bbox"]]), "24 boxes are written as texts"),
        (_each("iscrowd", lambda row: None), ""),
        (_each("iscrowd", lambda row: "0"), ""),
    ],
)
def test_coco_numbers_are_read_however_they_are_written(tmp_path, change, told):
    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert_all_right(report)
    assert not report.scenes.ignored.any()
    assert report.scenes.category_ids == (1, 2)
    assert any(told in warning for warning in report.warnings)
    assert not any(warning.startswith("0 ") for warning in report.warnings)


def test_coco_ids_that_are_words_are_numbered(tmp_path):
    def change(table: dict[str, Any]) -> None:
        for row in table["images"] + table["categories"]:
            row["id"] = f"id-{row['id']}"
        for row in table["annotations"]:
            row["image_id"], row["category_id"] = f"id-{row['image_id']}", f"id-{row['category_id']}"

    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert_all_right(report)
    assert report.scenes.category_ids == (1, 2)
    assert any("numbered from 1" in warning for warning in report.warnings)


@pytest.mark.parametrize("kind", SPELLINGS)
def test_coco_names_mean_the_file_however_they_are_spelt(tmp_path, kind):
    spell, pattern = SPELLINGS[kind]
    root = coco(tmp_path / "data", file_names=lambda name: spell(pattern % name[:2]))
    for name in NAMES:
        (root / "images" / f"{name}.jpg").rename(root / "images" / (pattern % name))
    report = check(root, tmp_path / "out")
    assert_all_right(report)
    assert kind == "windows" or any("12 names are spelt otherwise" in warning for warning in report.warnings)


def test_voc_files_belong_to_the_image_however_they_are_spelt(tmp_path):
    root = write_voc(tmp_path / "data", {f"é {name}": [NUT, BOLT] for name in NAMES})
    for file in (root / "Annotations").iterdir():
        file.rename(file.with_name(quote(file.name)))
    assert_all_right(check(root, tmp_path / "out"))


@pytest.mark.parametrize(
    "value",
    [
        lambda row: [row["bbox"][0], row["bbox"][1], row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3]],
        lambda row: [number / side for number, side in zip(row["bbox"], (WIDTH, HEIGHT) * 2, strict=True)],
    ],
    ids=["corners", "shares"],
)
def test_coco_numbers_of_other_kinds_are_taken_as_what_they_fit(tmp_path, value):
    report = check(coco(tmp_path / "data", _each("bbox", value)), tmp_path / "out")
    assert_all_right(report)
    assert any("not left, top and size in pixels" in warning for warning in report.warnings)


def test_voc_corners_as_shares_are_taken_as_such(tmp_path):
    root = write_voc(tmp_path / "data", {name: [] for name in NAMES})
    around = [
        (kind, left / WIDTH - 1, top / HEIGHT - 1, right / WIDTH, bottom / HEIGHT)
        for kind, left, top, right, bottom in (NUT, BOLT)
    ]
    for name in NAMES:
        (root / f"Annotations/{name}.xml").write_text(voc_text(around))
    report = check(root, tmp_path / "out")
    np.testing.assert_allclose(report.scenes.boxes, RIGHT * 12, atol=1e-3)


def test_right_boxes_are_never_taken_for_other_ones(tmp_path):
    """Close-ups, in which every width is beyond its centre, and some boxes beyond the edge."""
    close: Box = ("nut", 1, 1, 59, 43)
    beyond: Box = ("bolt", 40, 20, 64, 48)
    for kind in ("yolo", "coco"):
        root = tmp_path / kind
        boxes = {name: [close] if name < "10" else [close, beyond] for name in BOXES}
        if kind == "yolo":
            write_yolo(root, boxes, ["nut", "bolt"])
        else:
            coco(root, lambda table, boxes=boxes: table.update(coco_table(boxes, CLASSES)))
        report = check(root, tmp_path / f"{kind}-out")
        np.testing.assert_allclose(report.scenes.boxes[:10], [close[1:]] * 10, atol=1e-3)
        assert "size and place" not in report.record["understood"]["numbers"]
        assert report.record["findings"] == {"clipped-box": 2}


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (2 * WIDTH, 2 * HEIGHT), (0, 0), (WIDTH, 0)], ids=str)
def test_stated_sizes_that_are_wrong_give_way_to_boxes_that_fit(tmp_path, size):
    root = write_voc(tmp_path / "data", {name: [NUT, BOLT] for name in NAMES})
    for name in NAMES:
        (root / f"Annotations/{name}.xml").write_text(voc_text([NUT, BOLT], size=size))
    report = check(root, tmp_path / "out")
    np.testing.assert_allclose(report.scenes.boxes, RIGHT * 12, atol=1e-3)
    assert 0 in size or any(f"12 files ({size[0]} x {size[1]}" in warning for warning in report.warnings)


@pytest.mark.parametrize("factor", [2, 0.5])
def test_boxes_of_images_that_were_resized_are_scaled(tmp_path, factor):
    def change(table: dict[str, Any]) -> None:
        for row in table["images"]:
            row["width"], row["height"] = int(WIDTH * factor), int(HEIGHT * factor)
        for row in table["annotations"]:
            row["bbox"] = [value * factor for value in row["bbox"]]

    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert_all_right(report)
    assert any("are scaled with them" in warning for warning in report.warnings)


def test_sizes_that_the_boxes_do_not_decide_are_refused_with_the_cause(tmp_path):
    root = write_voc(tmp_path / "data", {name: [NUT] for name in NAMES})
    for name in NAMES:
        (root / f"Annotations/{name}.xml").write_text(voc_text([NUT], size=(HEIGHT, WIDTH)))
    told = refusal(root, tmp_path / "out")
    assert "the sizes look swapped, or the image was turned since" in told
    assert "Use the images that were annotated." in told


FOREIGN: dict[str, tuple[str, Any, str]] = {
    "labelme": ("00.json", {"version": "5", "shapes": [], "imagePath": "00.jpg"}, "LabelMe's JSON format"),
    "label studio": ("project.json", [{"id": 1, "data": {"image": "x"}, "annotations": []}], "Label Studio's"),
    "via": ("via.json", {"00.jpg1": {"filename": "00.jpg", "regions": []}}, "VGG Image Annotator"),
    "createml": ("x.json", [{"image": "00.jpg", "annotations": [{"label": "a"}]}], "CreateML"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_formats_of_other_tools_are_named(tmp_path, kind):
    name, table, told = FOREIGN[kind]
    draw(tmp_path / "data/00.jpg")
    write_json(tmp_path / "data" / name, table)
    text = refusal(tmp_path / "data", tmp_path / "out")
    assert told in text
    assert "Convert" in text or "Export" in text


def test_cvat_xml_is_named(tmp_path):
    draw(tmp_path / "data/00.jpg")
    (tmp_path / "data/annotations.xml").write_text("<annotations><image id='0' name='00.jpg'/></annotations>")
    text = refusal(tmp_path / "data", tmp_path / "out")
    assert "CVAT's own XML" in text
    assert "'COCO 1.0' or 'Pascal VOC 1.1'" in text


def test_a_refusal_keeps_its_reasons(tmp_path):
    root = coco(tmp_path / "data", _each("category_id", lambda row: 7))
    output = tmp_path / "out"
    text = refusal(root, output)
    assert "images/00.jpg: unknown-category, annotation 1: no category has the id 7" in text
    assert "24 of 24 fail alike" in text
    assert str(output / "quarantine.csv") in text
    with (output / "quarantine.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter(row["code"] for row in rows) == {"unknown-category": 24, "no-annotation": 12}
    one = yolo(tmp_path / "one", lambda k, *box: ())
    (one / "labels/00.txt").write_text("0 a b c d")
    assert "Mend that line." in refusal(one, output)


def test_what_most_boxes_share_is_said_first(tmp_path):
    def change(table: dict[str, Any]) -> None:
        lost = {"category_id": 9}
        table["annotations"] += [row | lost for row in table["annotations"]] * 10

    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert_all_right(report)
    assert report.warnings[0].startswith("240 of 264 fail alike (unknown-category): probably the boxes' class numbers")


def test_images_of_which_no_box_can_be_read_are_not_taken_for_empty_ones(tmp_path):
    def change(table: dict[str, Any]) -> None:
        for row in table["annotations"][:3]:
            row["bbox"] = "5,4,20,15"

    report = check(coco(tmp_path / "data", change), tmp_path / "out")
    assert report.record["without_boxes"] == {"train": 0, "val": 0}
    assert len(report.scenes) == 11
    told = "malformed-box: 3 (box left out), such as images/00.jpg: annotation 1: bbox is 5,4,20,15"
    assert any(warning.startswith(told) for warning in report.warnings)
    assert any(
        warning.startswith("no-annotation: 1 (image left out), such as images/00.jpg") for warning in report.warnings
    )


def test_names_never_reach_the_terminal_as_orders(tmp_path, capsys):
    root = coco(tmp_path / "data")
    table = json.loads((root / "result.json").read_text())
    table["categories"][0]["name"] = "nut\x1b]0;owned\x07\u202e"
    table["images"].append({"id": 99, "file_name": "\x1b[2Jgone.jpg"})
    write_json(root / "result.json", table)
    (root / "images/00.jpg").rename(root / "images/\x1b[2J00.jpg")
    report = check(root, tmp_path / "out")
    report.print(Console(width=200))
    printed = capsys.readouterr().out
    assert not any(letter in printed for letter in "\x1b\x07\x9b\u202e")
