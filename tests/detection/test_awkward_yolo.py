"""YOLO label files that are not what the format says: each is read rightly or refused with its cause."""

import numpy as np
import pytest

from tests.detection.annotated_folders import draw, write_yolo
from tests.detection.awkward_exports import (
    BOXES,
    HEIGHT,
    NAMES,
    RIGHT,
    SPELLINGS,
    WIDTH,
    assert_all_right,
    check,
    refusal,
    shares,
    yolo,
)


@pytest.mark.parametrize("kind", ["percent", "percent twice", "decomposed", "composed", "case", "upload"])
def test_yolo_labels_belong_to_the_image_however_they_are_spelt(tmp_path, kind):
    spell, pattern = SPELLINGS[kind]
    root = write_yolo(tmp_path / "data", BOXES, ["nut", "bolt"])
    for name in NAMES[:6]:
        (root / "images" / f"{name}.jpg").rename(root / "images" / (pattern % name))
        spelt = spell(pattern % name).rsplit("/", 1)[-1].rsplit(".", 1)[0] + ".txt"
        (root / "labels" / f"{name}.txt").rename(root / "labels" / spelt)
    report = check(root, tmp_path / "out")
    assert_all_right(report)
    assert any("6 names are spelt otherwise than the files, such as labels/" in told for told in report.warnings)


def test_labels_without_an_image_make_images_without_labels_suspicious(tmp_path):
    root = write_yolo(tmp_path / "data", BOXES, ["nut", "bolt"])
    (root / "labels/00.txt").rename(root / "labels/photograph.txt")
    report = check(root, tmp_path / "out")
    assert_all_right(report, images=11)
    told = (
        "1 label files belong to no image, such as labels/photograph.txt; so 1 images without a label file are left out"
    )
    assert any(told in warning for warning in report.warnings)
    assert {problem.path: problem.code for problem in report.problems} == {
        "labels/photograph.txt": "label-without-image",
        "images/00.jpg": "no-annotation",
    }
    for name in NAMES[1:]:
        (root / f"labels/{name}.txt").rename(root / f"labels/photograph {name}.txt")
    told = refusal(root, tmp_path / "out")
    assert "none of 12 label files belongs to an image; the first is labels/photograph 01.txt" in told
    assert "Rename the label files" in told


def test_yolo_corners_are_taken_as_such(tmp_path):
    report = check(yolo(tmp_path / "data", lambda k, *box: (k, *_corner_shares(box[:2], box[2:]))), tmp_path / "out")
    assert_all_right(report)
    assert any("but look like left, top, right, bottom as shares" in told for told in report.warnings)
    assert "by their size and place" in report.record["understood"]["numbers"]


def test_percent_of_small_pictures_is_told_from_pixels_where_it_cannot_be_pixels(tmp_path):
    root = yolo(tmp_path / "data", lambda k, *box: (k, *(100 * value for value in shares(*box))))
    assert_all_right(check(root, tmp_path / "out"))


@pytest.mark.parametrize("kind", ["pixels", "corners in pixels"])
def test_numbers_that_may_be_pixels_or_percent_are_refused(tmp_path, kind):
    row = LARGE_ROWS[kind]
    root = yolo(tmp_path / "data", lambda k, *box: (k, *(value / LARGE for value in row(k, *box)[1:])))
    text = refusal(root, tmp_path / "out")
    assert "They may be" in text
    assert "in percent of the image or " in text


LARGE = 8  # the pictures' sides as multiples of 60 x 44
LARGE_ROWS = {
    "pixels": lambda k, left, top, right, bottom: (
        k,
        *(LARGE * value for value in ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)),
    ),
    "percent": lambda k, *box: (k, *(100 * value for value in shares(*box))),
    "corners in pixels": lambda k, *box: (k, *(LARGE * value for value in box)),
}


@pytest.mark.parametrize("kind", LARGE_ROWS)
def test_yolo_in_pixels_or_percent_of_large_pictures_is_converted(tmp_path, kind):
    root = yolo(tmp_path / "data", LARGE_ROWS[kind])
    for name in NAMES:
        draw(root / "images" / f"{name}.jpg", WIDTH * LARGE, HEIGHT * LARGE)
    report = check(root, tmp_path / "out")
    np.testing.assert_allclose(report.scenes.boxes, np.array(RIGHT * 12) * LARGE, atol=0.01)
    assert any(("percent" if kind == "percent" else "in pixels") in warning for warning in report.warnings)


EXTRA = {
    "confidence": (lambda k, *box: (k, *shares(*box), 0.75 + k / 10), "confidences"),
    "tracking id": (lambda k, *box: (k, *shares(*box), 17 + k), "tracking ids"),
    "confidence and id": (lambda k, *box: (k, *shares(*box), 0.5, 3 + k), "a confidence and a tracking id"),
    "keypoints": (
        lambda k, *box: (k, *shares(*box), *shares(*box)[:2], 2, *shares(*box)[:2], 1),
        "6 values of keypoints",
    ),
    "points": (
        lambda k, *box: (k, *shares(*box), *shares(*box)[:2], *shares(*box)[:2]),
        "4 values of points inside it",
    ),
    "oriented": (
        lambda k, left, top, right, bottom: (
            k,
            *_corner_shares(
                (left, (top + bottom) / 2),
                ((left + right) / 2, top),
                (right, (top + bottom) / 2),
                ((left + right) / 2, bottom),
            ),
        ),
        "four corners of an oriented box",
    ),
    "polygon": (
        lambda k, left, top, right, bottom: (
            k,
            *_corner_shares(
                (left, top), (right, top), (right, bottom), ((left + right) / 2, bottom), (left, (top + bottom) / 2)
            ),
        ),
        "class and a polygon",
    ),
    "decimal class": (lambda k, *box: (f"{k}.0", *shares(*box)), "class, centre x"),
    "class by name": (lambda k, *box: (("nut", "BOLT")[k], *shares(*box)), "class, centre x"),
}


def _corner_shares(*points: tuple[float, float]) -> list[float]:
    return [value for x, y in points for value in (x / WIDTH, y / HEIGHT)]


@pytest.mark.parametrize("kind", EXTRA)
def test_yolo_columns_are_read_as_what_they_are(tmp_path, kind):
    row, meaning = EXTRA[kind]
    report = check(yolo(tmp_path / "data", row), tmp_path / "out")
    assert_all_right(report)
    assert meaning in report.record["understood"]["columns"]
    assert report.record["findings"] == {}


def test_keypoints_are_those_that_data_yaml_names(tmp_path):
    row = EXTRA["keypoints"][0]
    root = yolo(tmp_path / "data", lambda k, *box: (*row(k, *box), 0.9, 0.9, 0.7, 0.1, 0.1, 0.3))
    (root / "data.yaml").write_text("kpt_shape: [4, 3]\nnames: [nut, bolt]\n")
    assert_all_right(check(root, tmp_path / "out"))


def test_angles_are_not_taken_for_anything_else(tmp_path):
    root = yolo(tmp_path / "data", lambda k, *box: (k, *shares(*box), -0.7))
    told = refusal(root, tmp_path / "out")
    assert "it may be an angle" in told
    assert "images/00.jpg: malformed-box, line 1" in told


def test_classes_that_count_from_one_are_refused(tmp_path):
    root = yolo(tmp_path / "data", lambda k, *box: (k + 1, *shares(*box)))
    told = refusal(root, tmp_path / "out")
    assert "counted from 1" in told
    assert "Subtract 1" in told


def test_empty_label_files_are_told(tmp_path):
    root = yolo(tmp_path / "data", lambda k, *box: ())
    told = refusal(root, tmp_path / "out")
    assert "every label file is empty (12 of them)" in told
    assert "polygons are not exported" in told


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_yolo_in_other_encodings_is_read(tmp_path, encoding):
    root = write_yolo(tmp_path / "data", BOXES, ["nut", "bolt"])
    for file in (*(root / "labels").iterdir(), root / "data.yaml"):
        file.write_bytes(file.read_text().encode(encoding))
    assert_all_right(check(root, tmp_path / "out"))


def test_utf16_without_a_mark_is_refused_with_the_cause(tmp_path):
    root = write_yolo(tmp_path / "data", BOXES, ["nut", "bolt"])
    for file in (root / "labels").iterdir():
        file.write_bytes(file.read_text().encode("utf-16-le"))
    text = refusal(root, tmp_path / "out")
    assert "like UTF-16 without a byte order mark" in text
    assert "images/00.jpg" in text
