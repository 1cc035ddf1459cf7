"""Boxes in tables, as tutorials, exports and competitions have them: the same boxes, however columns are called."""

from pathlib import Path

import numpy as np
import pytest

from challenges.choosing import choose_model
from challenges.detection.annotations import reading
from common.errors import DataError
from tests.detection.test_check import check, codes
from tests.detection.test_layouts import draw

BOXES = [
    ("a", "cat", 10, 20, 40, 40),
    ("a", "dog", 5, 5, 30, 30),
    ("b", "cat", 0, 0, 60, 44),
    ("c", "dog", 8, 8, 20, 30),
]


def write(path: Path, header: str, row: str, boxes: list[tuple] = BOXES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        row.format(name, kind, left, top, right, bottom, right - left, bottom - top)
        for name, kind, left, top, right, bottom in boxes
    ]
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "{0}.jpg,60,44,{1},{2},{3},{4},{5}"),
        ("frame;xmin;xmax;ymin;ymax;label", "{0}.jpg;{2};{4};{3};{5};{1}"),
        ("image_id,bbox,category", '{0},"[{2}.0, {3}.0, {6}.0, {7}.0]",{1}'),
        ("path,x,y,w,h,name", "/data/images/{0}.JPG,{2},{3},{6},{7},{1}"),
        ("image,x_1,y_1,x_2,y_2,class", "{0},{2},{3},{4},{5},{1}"),
        ('"Image", "XMin" ,"YMin","XMax","YMax","Label, as drawn","class"', "{0}, {2},{3},{4},{5},-,{1}"),
    ],
)
def test_boxes_are_what_the_columns_say(tmp_path, header, row):
    for name in "abc":
        draw(tmp_path / "images" / f"{name}.jpg")
    write(tmp_path / "labels.csv", header, row)
    assert choose_model(tmp_path).why == "it has 3 images and boxes in labels.csv"
    found = reading.read(tmp_path, reading.list_scenes(tmp_path))
    assert (found.kind, found.classes, found.findings) == ("table", ("cat", "dog"), ())
    assert [image.path for image in found.images] == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
    assert found.owners.tolist() == [0, 0, 1, 2]
    assert found.labels.tolist() == [1, 2, 1, 2]
    np.testing.assert_array_equal(found.corners, [box[2:] for box in BOXES])


def test_tables_of_splits_and_what_they_do_not_say_are_told(tmp_path):
    header, row = "filename,class,xmin,ymin,xmax,ymax", "{0}.jpg,{1},{2},{3},{4},{5}"
    for name in "abcde":
        draw(tmp_path / "images" / f"{name}.jpg")
    write(tmp_path / "data/train_labels.csv", header, row, [*BOXES[:3], ("x", "cat", 1, 2, 3, 4)])
    write(tmp_path / "data/test_labels.csv", header, row, [BOXES[3]])
    with (tmp_path / "data/test_labels.csv").open("a") as stream:
        stream.write("d.jpg,,,,,\nc.jpg,cat,1,two,3,4\n")
    report = check(tmp_path, tmp_path / ".out")
    assert dict(zip(report.scenes.paths, report.scenes.splits, strict=True)) == {
        "images/a.jpg": "train", "images/b.jpg": "train", "images/c.jpg": "val", "images/d.jpg": "val",
    }  # fmt: skip
    assert codes(report) == {"missing-image": 1, "not-a-number": 1, "no-annotation": 1}
    assert report.record["without_boxes"] == {"train": 0, "val": 1}
    assert report.record["understood"]["splits"] == "by the tables' or the folders' names"
    assert check(tmp_path, tmp_path / ".out").reused
    write(tmp_path / "data/train_labels.csv", header, row, BOXES[:2])
    assert not check(tmp_path, tmp_path / ".out").reused


def test_roboflow_has_a_table_in_each_folder_of_a_split(tmp_path):
    for split, names in {"train": "ab", "valid": "c"}.items():
        for name in names:
            draw(tmp_path / split / f"{name}.jpg")
        write(
            tmp_path / split / "_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax",
            "{0}.jpg,60,44,{1},{2},{3},{4},{5}", [box for box in BOXES if box[0] in names],
        )  # fmt: skip
    found = reading.read(tmp_path, reading.list_scenes(tmp_path))
    assert [(image.path, image.split) for image in found.images] == [
        ("train/a.jpg", "train"), ("train/b.jpg", "train"), ("valid/c.jpg", "val"),
    ]  # fmt: skip


def test_boxes_without_a_class_are_objects_and_other_tables_are_none(tmp_path):
    draw(tmp_path / "a.jpg")
    (tmp_path / "boxes.csv").write_text("image,xmin,ymin,xmax,ymax\na.jpg,1,2,30,40\n")
    assert reading.read(tmp_path, reading.list_scenes(tmp_path)).classes == ("object",)
    (tmp_path / "boxes.csv").write_text("name,size,xmin\na.jpg,1,2\n")
    with pytest.raises(DataError, match="holds 1 images and no annotations"):
        reading.read(tmp_path, reading.list_scenes(tmp_path))


@pytest.mark.parametrize("empty_first", [False, True])
def test_a_table_whose_first_row_is_a_box_is_told(tmp_path, empty_first):
    for name in "abcd":
        draw(tmp_path / "images" / f"{name}.jpg")
    rows = [
        f"images/{name}.jpg,{left},{top},{right}.0,{bottom},{kind}" for name, kind, left, top, right, bottom in BOXES
    ]
    rows.insert(0 if empty_first else 4, "images/d.jpg,,,,,")
    (tmp_path / "annotations.csv").write_text("\n".join(rows) + "\nimages/e.jpg,1,2,3,4,cat\n")
    (tmp_path / "classes.csv").write_text("cat,0\ndog,1\n")
    assert choose_model(tmp_path).why == "it has 4 images and boxes in annotations.csv"
    found = reading.read(tmp_path, reading.list_scenes(tmp_path))
    np.testing.assert_array_equal(found.corners, [box[2:] for box in BOXES])
    assert found.classes == ("cat", "dog")
    assert [image.path for image in found.images].count("images/d.jpg") == 1
    assert [finding.reason for finding in found.findings] == ["row 6: no image is called images/e.jpg"]
    assert "whose columns have no names" in found.understood["format"]
    assert found.understood["numbers"] == "x1, y1, x2, y2: left, top, right, bottom in pixels"
