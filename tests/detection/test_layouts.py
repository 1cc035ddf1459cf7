"""Data sets as public tools lay them out: lists of images, several names files, look-alikes of YOLO's rows."""

import numpy as np
import pytest

from challenges.choosing import choose_model
from tests.detection.annotated_folders import draw, write_voc, write_yolo
from tests.detection.awkward_exports import (
    BOLT,
    BOXES,
    NAMES,
    NUT,
    assert_all_right,
    check,
    coco,
    refusal,
    shares,
    yolo,
)


def listed(root, train, validation):
    for name, stems in (("train.txt", train), ("val.txt", validation)):
        (root / name).write_text("".join(f"./images/{stem}.jpg\n" for stem in stems))
    return root


def test_lists_of_images_are_the_split(tmp_path):
    root = listed(yolo(tmp_path / "data", lambda k, *box: (k, *shares(*box))), NAMES[:7], NAMES[7:11])
    report = check(root, tmp_path / "out")
    splits = dict(zip(report.scenes.paths.tolist(), report.scenes.splits.tolist(), strict=True))
    assert splits == {f"images/{name}.jpg": "train" if name in NAMES[:7] else "val" for name in NAMES[:11]}
    assert report.record["understood"]["splits"] == "by the lists train.txt and val.txt"
    assert any("1 images are in no list" in warning for warning in report.warnings)


def test_lists_that_are_the_same_are_no_split(tmp_path):
    root = listed(yolo(tmp_path / "data", lambda k, *box: (k, *shares(*box))), NAMES, NAMES)
    report = check(root, tmp_path / "out")
    assert report.record["understood"]["splits"].startswith("none given")
    assert any("name the same images" in warning for warning in report.warnings)


@pytest.mark.parametrize(("train", "validation"), [("2021", "2022"), ("val", "train")])
def test_data_yaml_says_which_folders_are_the_split(tmp_path, train, validation):
    root = write_yolo(tmp_path / "data", {f"{train}/a{n}.jpg": [NUT] for n in range(4)}, ["nut", "bolt"])
    write_yolo(root, {f"{validation}/b{n}.jpg": [BOLT] for n in range(3)}, ["nut", "bolt"])
    paths = f"path: ../datasets/x\ntrain: ../images/{train}\nval: images/{validation}  # as exported\n"
    (root / "data.yaml").write_text(f"{paths}names: [nut, bolt]\n")
    report = check(root, tmp_path / "out")
    assert dict(zip(report.scenes.paths.tolist(), report.scenes.splits.tolist(), strict=True)) == {
        **{f"images/{train}/a{n}.jpg": "train" for n in range(4)},
        **{f"images/{validation}/b{n}.jpg": "val" for n in range(3)},
    }
    assert report.record["understood"]["splits"].startswith("as data.yaml has it")


def test_a_confidence_before_the_box_is_no_coordinate(tmp_path):
    rng = np.random.default_rng(0)
    root = yolo(tmp_path / "data", lambda k, *box: (k, round(rng.uniform(0.6, 1), 3), *shares(*box)))
    report = check(root, tmp_path / "out")
    assert_all_right(report)
    assert "0 to 1 before them" in report.record["understood"]["columns"]


def test_names_that_disagree_are_refused_or_told(tmp_path):
    root = write_yolo(tmp_path / "data", BOXES, ["nut", "bolt"])
    assert not any("differently" in warning for warning in check(root, tmp_path / "out").warnings)
    (root / "labels" / "classes.txt").write_text("bolt\nnut\n")
    warnings = check(root, tmp_path / "out").warnings
    assert any("data.yaml and labels/classes.txt name the classes differently" in warning for warning in warnings)
    (root / "data.yaml").rename(root / "b.yaml")
    (root / "a.yaml").write_text("names: [bolt, nut]\n")
    assert "a.yaml and b.yaml name the classes differently" in refusal(root, tmp_path / "out")


def test_images_of_one_name_in_two_folders_are_not_chosen_by_the_folders_names(tmp_path):
    root = coco(tmp_path / "data", file_names=lambda name: name.rsplit("/", 1)[-1])
    assert_all_right(check(root, tmp_path / "out"))
    (root / "images").rename(root / "camera1")
    for name in BOXES:
        draw(root / "camera0" / name, seed=1)
    told = refusal(root, tmp_path / "out")
    assert "in several folders" in told


def test_difficult_objects_are_told(tmp_path):
    root = write_voc(tmp_path / "data", {name: [NUT, BOLT] for name in NAMES})
    file = root / "Annotations" / "00.xml"
    file.write_text(file.read_text().replace("</name>", "</name><difficult>1</difficult>", 1))
    report = check(root, tmp_path / "out")
    assert "1 objects marked difficult are neither learnt nor counted" in report.record["understood"]["numbers"]


ROWS = {
    "KITTI": "Car 0.00 0 -1.58 10.01 12.33 40.12 40.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59",
    "DOTA": "gsd:0.14\n10 10 20 10 20 20 10 20 ship 0",
    "VisDrone": "10,12,20,20,1,4,0,0",
    "s/,/ /g": "0,0.5,0.5,0.2,0.2",
    "decimal commas": "0 0,5 0,5 0,2 0,2",
}


@pytest.mark.parametrize("where", ["labels", "annotations"])
@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_other_tools_are_named(tmp_path, kind, where):
    root = tmp_path / "data"
    for name in NAMES[:4]:
        draw(root / "images" / f"{name}.jpg")
        (root / where).mkdir(exist_ok=True)
        (root / where / f"{name}.txt").write_text(ROWS[kind] + "\n")
    (root / "classes.txt").write_text("Car\nship\n")
    assert kind in refusal(root, tmp_path / "out")
    assert choose_model(root).model == "ssd300"


def test_words_about_classified_pictures_are_no_labels(tmp_path):
    for kind in ("cat", "dog"):
        for number in range(3):
            draw(tmp_path / kind / f"{number}.jpg")
            (tmp_path / kind / f"{number}.txt").write_text("a cat, sitting, on 1 mat\n")
    assert choose_model(tmp_path).model == "resnet50"


def test_tables_of_boxes_are_a_detectors(tmp_path):
    for number in range(3):
        draw(tmp_path / "images" / f"{number}.jpg")
    (tmp_path / "labels.csv").write_text("filename,width,height,class,xmin,ymin,xmax,ymax\n")
    assert choose_model(tmp_path).model == "ssd300"
    (tmp_path / "labels.csv").write_text("id,breed\n")
    assert choose_model(tmp_path).model == "resnet50"


def test_plots_beside_interactions_are_no_data_of_their_own(tmp_path):
    draw(tmp_path / "curve.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "Beauty.txt").write_text("1 1 2 3 4 5\n2 6 7 8 9 10 4 11\n3 4 12\n")
    (tmp_path / "data" / "attributes.json").write_text('{"1": [2, 3]}')
    chosen = choose_model(tmp_path)
    assert chosen.model == "ncf"
    assert chosen.why == "it has interactions in Beauty.txt, and 1 image in no folders of classes"
    (tmp_path / "data" / "LastFM.txt").write_text("1 5 2 3 4 1\n2 5 7\n")
    assert "interactions in 2 files" in choose_model(tmp_path).why
    for number in range(20):
        draw(tmp_path / "photos" / f"{number}.jpg")
    assert choose_model(tmp_path).model == "ssd300"  # the check asks what the file beside them says


def test_a_polygon_of_seven_points_with_a_class_by_name_is_none_of_kittis(tmp_path):
    around = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.2), (0.5, 0.3), (0.5, 0.4), (0.3, 0.4), (0.1, 0.4)]
    points = [value for point in around for value in point]
    root = yolo(tmp_path / "data", lambda k, *box: (("nut", "bolt")[k], *points))
    boxes = check(root, tmp_path / "out").scenes.boxes
    np.testing.assert_allclose(boxes[0], [6, 4.4, 30, 17.6], atol=1e-3)
