import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from challenges.detection.annotations import reading as annotation_files
from challenges.detection.annotations.coco import split_named
from challenges.detection.annotations.table import CONSEQUENCES, Annotations
from challenges.detection.annotations.voc import parse
from common.errors import DataError
from common.language.telling import retell, speaking
from tests.detection.annotated_folders import (
    Box,
    coco_table,
    draw,
    voc_text,
    write_json,
    write_voc,
    write_yolo,
)

CAT: Box = ("cat", 5, 6, 25, 30)
DOG: Box = ("dog", 0, 0, 60, 44)
CLASSES = {3: "cat", 17: "dog"}


def read(root: Path) -> Annotations:
    return annotation_files.read(root, annotation_files.list_scenes(root))


def boxes_of(table: Annotations) -> dict[str, list[tuple[Any, ...]]]:
    """Path -> class and corners of each box; every image is there."""
    found: dict[str, list[tuple[Any, ...]]] = {image.path: [] for image in table.images}
    for owner, label, corners in zip(table.owners, table.labels, table.corners.tolist(), strict=True):
        found[table.images[owner].path].append((table.classes[label - 1], *corners))
    return found


def codes(table: Annotations) -> dict[str, int]:
    assert all(finding.code in CONSEQUENCES and finding.reason and finding.path for finding in table.findings)
    assert all("\n" not in finding.reason for finding in table.findings)
    with speaking("es"):
        told = [text for finding in table.findings for text in (finding.reason, CONSEQUENCES[finding.code])]
        assert [text for text in told if retell(text) == text] == []
    return dict(Counter(finding.code for finding in table.findings))


def error_of(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(root)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def coco_folder(root: Path) -> Path:
    for split, names in (("train", ("a", "b", "c")), ("val", ("a", "d"))):
        for name in names:
            draw(root / f"{split}2017" / f"{name}.jpg", seed=len(split))
    draw(root / "test2017" / "a.jpg")
    write_json(
        root / "annotations/instances_train2017.json",
        coco_table({"a.jpg": [CAT], "b.jpg": [], "c.jpg": [CAT, DOG]}, CLASSES),
    )
    write_json(root / "annotations/instances_val2017.json", coco_table({"a.jpg": [DOG], "d.jpg": []}, CLASSES))
    write_json(root / "annotations/captions_train2017.json", {"images": [], "annotations": []})
    write_json(root / "annotations/person_keypoints_val2017.json", {"images": []})
    return root


def test_coco_as_it_is_published(tmp_path):
    table = read(coco_folder(tmp_path))
    assert (table.kind, table.classes, table.category_ids) == ("coco", ("cat", "dog"), (3, 17))
    assert boxes_of(table) == {
        "train2017/a.jpg": [CAT],
        "train2017/b.jpg": [],
        "train2017/c.jpg": [CAT, DOG],
        "val2017/a.jpg": [DOG],
        "val2017/d.jpg": [],
    }
    assert {image.path[:3]: image.split for image in table.images} == {"tra": "train", "val": "val"}
    assert not table.findings
    assert table.areas.tolist() == [DOG[3] * DOG[4], 480, 480, DOG[3] * DOG[4]]
    assert {(image.width, image.height) for image in table.images} == {(60, 44)}


@pytest.mark.parametrize(
    ("annotation", "image", "file_name"),
    [
        ("annotations.json", "a.jpg", "a.jpg"),
        ("labels/all.json", "pictures/a.jpg", "a.jpg"),
        ("labels/all.json", "pictures/a.jpg", "pictures/a.jpg"),
        ("_annotations.coco.json", "deep/down/a.jpg", r"C:\data\down\a.jpg"),
        ("x.json", "pictures/a.jpg", "./pictures/a.jpg"),
        ("x.json", "pictures/a.jpg", "/home/someone/else/a.jpg"),
    ],
)
def test_one_coco_file_anywhere(tmp_path, annotation, image, file_name):
    draw(tmp_path / image)
    (tmp_path / "package.yaml").write_text("a: 1")
    write_json(tmp_path / annotation, coco_table({file_name: [CAT]}, CLASSES))
    table = read(tmp_path)
    assert boxes_of(table) == {image: [CAT]}
    assert table.images[0].split == ""


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train.json", "val.json"),
        ("annotations/instances_Train.json", "annotations/instances_Valid.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
        ("train/_annotations.coco.json", "test/_annotations.coco.json"),
    ],
)
def test_coco_splits_by_name(tmp_path, train, val):
    for split, annotation in (("train", train), ("val", val)):
        folder = (
            tmp_path / Path(annotation).parent
            if "/" in annotation and "annotations/" not in annotation
            else tmp_path / split
        )
        draw(folder / "same.jpg", seed=len(split))
        write_json(tmp_path / annotation, coco_table({"same.jpg": [CAT]}, CLASSES))
    table = read(tmp_path)
    assert [image.split for image in table.images] == ["val", "train"]
    assert len({image.path for image in table.images}) == 2


def test_split_names():
    names = {
        "instances_train2017": "train",
        "instances_val2014": "val",
        "valid": "val",
        "my-test": "test",
        "training_notes": "",
        "evaluation": "",
        "trainval": "",
        "latest": "",
    }
    assert {name: split_named(name) for name in names} == names


def test_several_coco_files_for_one_split_are_refused(tmp_path):
    coco_folder(tmp_path)
    write_json(tmp_path / "annotations/instances_train2014.json", coco_table({}, CLASSES))
    assert "several COCO files for train" in error_of(tmp_path)


def test_coco_rows_that_are_wrong_are_named_and_the_rest_is_kept(tmp_path):
    for name in ("a", "b", "c", "d"):
        draw(tmp_path / f"{name}.jpg")
    draw(tmp_path / "one/twice.jpg")
    draw(tmp_path / "two/twice.jpg")
    table = coco_table({"a.jpg": [CAT], "b.jpg": [CAT], "c.jpg": [DOG], "gone.jpg": [CAT], "twice.jpg": [CAT]}, CLASSES)
    table["images"] += [
        {"id": 3, "file_name": "d.jpg"},  # c.jpg's number
        {"id": 1, "file_name": "a.jpg"},  # the same once more says nothing new
        {"id": 20, "file_name": "b.jpg"},
        {"id": [3], "file_name": "a.jpg"},
        {"id": 21},
        None,
    ]
    good = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
    table["annotations"] += [
        good | {"image_id": 99},
        good | {"image_id": None},
        good | {"category_id": 4},
        good | {"category_id": [3]},
        good | {"bbox": [1, 2, float("nan"), 4]},
        good | {"bbox": [1, 2, float("inf"), 4]},
        good | {"bbox": ["1", "2", "x", "4"]},
        good | {"bbox": [1, 2, 3, 10**400]},
        good | {"bbox": [1, 2, 3]},
        good | {"bbox": None},
        {"image_id": 1, "category_id": 3},
        "text",
        good | {"image_id": 20, "iscrowd": 1, "area": "large", "id": 2**70},
    ]
    table["categories"] += [{"id": True, "name": "x"}, {"id": 5}, {"id": 6, "name": " "}, 7, {"id": 8, "name": "cat"}]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(table))
    found = read(tmp_path)
    assert codes(found) == {
        "unknown-category": 4 + 2,
        "duplicate-image-id": 1,
        "duplicate-image": 1,
        "missing-image": 1,
        "ambiguous-image": 1,
        "malformed-image": 3,
        "unknown-image": 2,
        "not-a-number": 4,
        "malformed-box": 4,
    }
    assert (found.classes, found.category_ids) == (("cat (3)", "cat (8)", "dog"), (3, 8, 17))
    assert {path: len(around) for path, around in boxes_of(found).items()} == {"a.jpg": 1, "b.jpg": 2}
    assert found.ignored.tolist() == [False, False, True]
    assert np.isnan(found.areas).tolist() == [False, False, True]


def test_an_image_in_both_coco_splits_is_kept_for_validation(tmp_path):
    for name in ("a", "b", "c"):
        draw(tmp_path / "images" / f"{name}.jpg")
    write_json(tmp_path / "train.json", coco_table({"a.jpg": [CAT], "b.jpg": [CAT]}, CLASSES))
    write_json(tmp_path / "val.json", coco_table({"b.jpg": [DOG], "c.jpg": [CAT]}, CLASSES))
    table = read(tmp_path)
    assert {image.path: image.split for image in table.images} == {
        "images/a.jpg": "train",
        "images/b.jpg": "val",
        "images/c.jpg": "val",
    }
    assert boxes_of(table)["images/b.jpg"] == [DOG]
    assert codes(table) == {"in-both-splits": 1}


BROKEN_COCO = {
    "cut": (json.dumps(coco_table({"a.jpg": [CAT]}, CLASSES))[:-20].encode(), "cut or no JSON"),
    "empty": (b"", "it is empty"),
    "html": (b"<html>", "cut or no JSON"),
    "latin": ('{"images": [], "x": "é"}'.encode("latin-1"), "encoding is not UTF-8"),
    "list": (b"[1, 2]", "no list of images and none of annotations"),
    "captions": (b'{"images": [], "annotations": {}, "categories": []}', "no list of annotations"),
    "no categories": (b'{"images": [], "annotations": [], "categories": []}', "names no category"),
    "nested": (b'{"images": ' + b"[" * 100_000, "cut or no JSON"),
    "digits": (b'{"images": [' + b"1" * 5000 + b"]}", "cut or no JSON"),
    "no images": (json.dumps(coco_table({}, CLASSES)).encode(), "No image of"),
    "all missing": (json.dumps(coco_table({"gone.jpg": [CAT]}, CLASSES)).encode(), "missing-image"),
}


@pytest.mark.parametrize("kind", BROKEN_COCO)
@pytest.mark.parametrize("name", ["instances_train.json", "boxes.json"])
def test_broken_coco_files_are_named(tmp_path, kind, name):
    draw(tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(BROKEN_COCO[kind][0])
    assert BROKEN_COCO[kind][1] in error_of(tmp_path)


def test_coco_in_other_encodings_is_read(tmp_path):
    draw(tmp_path / "ä.jpg")
    text = json.dumps(coco_table({"ä.jpg": [CAT]}, CLASSES), ensure_ascii=False)
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "all.json").write_bytes(text.encode(encoding))
        assert boxes_of(read(tmp_path)) == {"ä.jpg": [CAT]}


def test_categories_that_contradict_each_other_are_refused(tmp_path):
    coco_folder(tmp_path)
    write_json(tmp_path / "annotations/instances_val2017.json", coco_table({"a.jpg": []}, {3: "dog"}))
    assert "category 3 is" in error_of(tmp_path)


def test_voc_corners_count_from_one_and_include_the_last_pixel(tmp_path):
    (tmp_path / "a.xml").write_text(
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax>"
        "</bndbox><part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object></annotation>"
    )
    draw(tmp_path / "a.jpg")
    assert boxes_of(read(tmp_path)) == {"a.jpg": [("cat", 0, 1, 3.5, 4)]}


@pytest.mark.parametrize("inside", ["", "VOCdevkit/VOC2007/"])
@pytest.mark.parametrize(
    ("lists", "train", "val"),
    [
        ({"trainval": "abc", "test": "de", "train": "ab", "val": "c"}, "abc", "de"),
        ({"train": "ab", "val": "c", "test": "d"}, "abc", "d"),
        ({"test": "de"}, "abc", "de"),
        ({"train": "ab", "val": "cd"}, "ab", "cd"),
        ({"train": "ab", "val": "cd", "trainval": "abcd"}, "ab", "cd"),
    ],
)
def test_voc_lists_decide_the_split(tmp_path, inside, lists, train, val):
    root = tmp_path / inside
    root.mkdir(parents=True, exist_ok=True)
    write_voc(root, {name: [CAT] for name in "abcde"}, {name: list(stems) for name, stems in lists.items()})
    table = read(tmp_path)
    splits = {Path(image.path).stem: image.split for image in table.images}
    assert splits == dict.fromkeys(train, "train") | dict.fromkeys(val, "val")
    assert not table.findings
    left = 5 - len(train) - len(val)
    assert table.notes == ((f"{left} annotation files are in no list of a used split: left aside.",) if left else ())


def test_voc_lists_that_do_not_fit_are_told(tmp_path):
    write_voc(tmp_path, {name: [CAT] for name in "abc"}, {"train": ["a", "b  1", "gone"], "val": ["b", "c.jpg"]})
    table = read(tmp_path)
    assert {Path(image.path).stem: image.split for image in table.images} == {"a": "train", "b": "val", "c": "val"}
    assert codes(table) == {"in-both-splits": 1, "no-annotation": 1}
    write_voc(tmp_path, {}, {"train": ["a"], "val": ["b"], "test": ["hidden", "secret"]})
    table = read(tmp_path)
    assert {image.split for image in table.images} == {"train", "val"}
    assert any("no annotations" in note for note in table.notes)


def test_voc_without_lists_is_split_by_folders_or_drawn(tmp_path):
    for name in ("train/a", "valid/b", "test/c"):
        draw(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.xml").write_text(voc_text([CAT, DOG], difficult=[1]))
    table = read(tmp_path)
    assert [(image.path, image.split) for image in table.images] == [("train/a.jpg", "train"), ("valid/b.jpg", "val")]
    assert table.ignored.tolist() == [False, True] * 2
    write_voc(tmp_path / "flat", {"x": [CAT]})
    assert [image.split for image in read(tmp_path / "flat").images] == [""]


def test_two_folders_of_voc_annotations_are_refused(tmp_path):
    for name in ("VOC2007", "VOC2012"):
        (tmp_path / name).mkdir()
        write_voc(tmp_path / name, {"a": [CAT]})
    assert "several folders" in error_of(tmp_path)


OBJECT = "<object><name>cat</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>"
LAUGHS = (
    '<!DOCTYPE annotation [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation><object><name>&c;</name></object></annotation>'
)
OUTSIDE = (
    '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><folder>&x;</folder></annotation>'
)
BROKEN_VOC: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "annotation-empty"),
    "blank": (b" \n", "annotation-empty"),
    "cut": (voc_text([CAT]).encode()[:-30], "annotation-unreadable"),
    "text": (b"hello", "annotation-unreadable"),
    "latin": ("<annotation><object><name>é</name></object></annotation>".encode("latin-1"), "annotation-unreadable"),
    "encoding": (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "annotation-unreadable"),
    "html": (b"<html></html>", "annotation-malformed"),
    "laughs": (LAUGHS.encode(), "annotation-malformed"),
    "outside": (OUTSIDE.encode(), "annotation-malformed"),
    "undefined": (b"<annotation>&x;</annotation>", "annotation-unreadable"),
    "deep": (b"<a>" * 50_000, "annotation-unreadable"),
    "nan": (f"<annotation>{OBJECT.format('nan')}</annotation>".encode(), "not-a-number"),
    "infinite": (f"<annotation>{OBJECT.format('-inf')}</annotation>".encode(), "not-a-number"),
    "words": (f"<annotation>{OBJECT.format('left')}</annotation>".encode(), "not-a-number"),
    "missing": (f"<annotation>{OBJECT.format('')}</annotation>".encode(), "not-a-number"),
    "boxless": (b"<annotation><object><name>cat</name></object></annotation>", "malformed-box"),
    "nameless": (b"<annotation><object><bndbox/></object></annotation>", "malformed-box"),
}


def test_broken_voc_files_are_named_and_the_rest_is_kept(tmp_path):
    write_voc(tmp_path, {"good": [CAT]})
    for name, (encoded, _) in BROKEN_VOC.items():
        draw(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_bytes(encoded)
    (tmp_path / "Annotations" / "gone.xml").write_text(voc_text([CAT], name="there.jpg"))
    table = read(tmp_path)
    found = {Path(finding.path).stem: finding.code for finding in table.findings}
    assert found == {name: code for name, (_, code) in BROKEN_VOC.items()} | {"gone": "missing-image"}
    codes(table)
    kept = {Path(image.path).stem for image in table.images}
    assert kept == {"good"} | {name for name, (_, code) in BROKEN_VOC.items() if not code.startswith("annotation")}
    assert len(table.owners) == 1


def test_voc_in_a_declared_encoding_is_read(tmp_path):
    path = tmp_path / "a.xml"
    for encoding in ("ISO-8859-1", "utf-16", "windows-1252"):
        path.write_bytes(
            f'<?xml version="1.0" encoding="{encoding}"?><annotation><folder>é</folder></annotation>'.encode(encoding)
        )
        assert parse(path).findtext("folder") == "é"


def test_voc_files_take_the_image_of_their_own_name(tmp_path):
    write_voc(tmp_path, {name: [CAT] for name in "abc"})
    (tmp_path / "Annotations" / "a.xml").write_text(voc_text([DOG], name=r"C:\somewhere\b.jpg"))
    draw(tmp_path / "JPEGImages" / "b.png")
    draw(tmp_path / "thumbnails" / "c.jpg")
    table = read(tmp_path)
    assert boxes_of(table) == {"JPEGImages/a.jpg": [DOG], "JPEGImages/b.jpg": [CAT], "JPEGImages/c.jpg": [CAT]}
    assert codes(table) == {"name-mismatch": 1}
    (tmp_path / "Annotations" / "b.xml").write_text(voc_text([CAT]))
    assert codes(read(tmp_path)) == {"name-mismatch": 1, "ambiguous-image": 1}


@pytest.mark.parametrize("layout", ["images", "folders", "beside"])
def test_yolo_layouts(tmp_path, layout):
    names = {
        "images": ("images/train/a.jpg", "images/val/b.jpg", "labels/train/a.txt", "labels/val/b.txt"),
        "folders": ("train/images/a.jpg", "valid/images/b.jpg", "train/labels/a.txt", "valid/labels/b.txt"),
        "beside": ("train/a.jpg", "test/b.jpg", "train/a.txt", "test/b.txt"),
    }[layout]
    for image in names[:2]:
        draw(tmp_path / image)
    for label in names[2:]:
        (tmp_path / label).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / label).write_text("1 0.5 0.5 0.5 0.25\n\n0 0.2 0.2 0.1 0.2 0.3 0.6 0.9 0.1\n")
    draw(tmp_path / names[0].replace("a.jpg", "empty.jpg"))
    (tmp_path / "data.yaml").write_text(
        "path: ../x\ntrain: images/train\nnames:\n  0: cat # a comment\n  1: 'big dog'\nnc: 2\n"
    )
    table = read(tmp_path)
    assert (table.kind, table.classes, table.category_ids, table.relative) == ("yolo", ("cat", "big dog"), (0, 1), True)
    assert [(image.path, image.split) for image in table.images if image.path in names] == [
        (names[0], "train"),
        (names[1], "val"),
    ] or layout == "beside"
    assert {image.path: image.split for image in table.images} == {
        names[0]: "train",
        names[0].replace("a.jpg", "empty.jpg"): "train",
        names[1]: "val",
    }
    np.testing.assert_allclose(table.corners[:2], [[0.25, 0.375, 0.75, 0.625], [0.1, 0.1, 0.9, 0.6]])
    assert table.notes == ("1 images have no label file: taken as images without objects.",)


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'a, b', \"it's\"]",
        "names: ['cat', 'a, b', \"it's\"]  # three",
        "names:\n- cat\n- 'a, b'\n- \"it's\"\nnc: 3",
        "nc: 3\nnames:\n    0: cat\n    1: 'a, b'\n    2: \"it's\"\n\nroboflow:\n  x: 1",
        "names: {0: cat, 1: 'a, b', 2: \"it's\"}",
        "names: [\n  cat,\n  'a, b',\n  \"it's\"\n]\ntrain: x",
    ],
)
def test_yaml_names_in_every_way(tmp_path, text):
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text(text)
    assert read(tmp_path).classes == ("cat", "a, b", "it's")


def test_yolo_lines_that_are_wrong_are_named(tmp_path):
    write_yolo(tmp_path, {"a.jpg": [CAT], "b.jpg": []}, ["cat"])
    lines = ["0 .5 .5 .5", "0 .5 .5 .5 .5 .9", "7 .5 .5 .5 .5", "-1 .5 .5 .5 .5", "0 nan .5 .5 .5", "cow .5 .5 .5 .5"]
    (tmp_path / "labels/a.txt").write_text("\n".join(lines) + "\n0 .5 .5 .5 .5\n")
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xfe\xfd")
    table = read(tmp_path)
    assert codes(table) == {"malformed-box": 2, "unknown-category": 3, "not-a-number": 1, "annotation-unreadable": 1}
    assert len(table.owners) == 1
    assert len(table.images) == 1
    told = sorted(finding.reason[:7] for finding in table.findings if finding.reason.startswith("line"))
    assert told == [f"line {number}:" for number in range(1, 7)]


def test_yolo_classes_from_a_list_or_by_number(tmp_path):
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("4 0.5 0.5 0.5 0.5")
    table = read(tmp_path)
    assert (table.classes, table.category_ids) == (("4",), (4,))
    assert any("called by their numbers" in note for note in table.notes)
    (tmp_path / "classes.txt").write_text("a\nb\nc\na\ne\n")
    assert read(tmp_path).classes == ("a (0)", "b", "c", "a (3)", "e")


def test_folders_without_annotations_are_refused(tmp_path):
    assert "holds no images" in error_of(tmp_path)
    draw(tmp_path / "a.jpg")
    assert "no annotations" in error_of(tmp_path)
    (tmp_path / "README.txt").write_text("hello")
    write_json(tmp_path / "one.json", {"a": 1})
    assert "no COCO file" in error_of(tmp_path)
    write_json(tmp_path / "two.json", {"a": 1})
    assert "no annotations" in error_of(tmp_path)
    (tmp_path / "a.xml").write_text("<html/>")
    assert "annotation-malformed" in error_of(tmp_path)
    assert "does not exist" in error_of(tmp_path / "nowhere")


def test_random_damage_is_never_a_crash(tmp_path):
    random = np.random.default_rng(0)
    draw(tmp_path / "a.jpg")
    texts = {
        "all.json": json.dumps(coco_table({"a.jpg": [CAT, DOG]}, CLASSES)).encode(),
        "a.xml": voc_text([CAT, DOG], name="a.jpg").encode(),
        "a.txt": b"0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.5 0.5\n",
    }
    outcomes: Counter[str] = Counter()
    for number in range(400):
        name = list(texts)[number % 3]
        encoded = bytearray(texts[name])
        for _ in range(random.integers(1, 6)):
            start = int(random.integers(len(encoded)))
            piece = bytes(random.choice(list(b'0123456789.-eE"[]{}<>/,: \0\xff'), random.integers(0, 4)).tolist())
            encoded[start : start + int(random.integers(0, 4))] = piece
        path = tmp_path / name
        path.write_bytes(encoded)
        try:
            codes(read(tmp_path))
            outcomes["read"] += 1
        except DataError:
            outcomes["refused"] += 1
        path.unlink()
    assert min(outcomes["read"], outcomes["refused"]) > 40


def test_images_that_no_annotation_mentions_are_left_out_and_told(tmp_path):
    voc = write_voc(tmp_path / "voc", {"a": [CAT], "b": [CAT]})
    for path in (voc / "JPEGImages/new.jpg", voc / "thumbnails/new.jpg"):
        draw(path)
    coco = coco_folder(tmp_path / "coco")
    draw(coco / "val2017/new.jpg")
    for root, path in ((voc, "JPEGImages/new.jpg"), (coco, "val2017/new.jpg")):
        table = read(root)
        assert [(finding.path, finding.code) for finding in table.findings] == [(path, "no-annotation")]
        assert path not in boxes_of(table)
