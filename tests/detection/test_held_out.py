from pathlib import Path

import numpy as np
import pytest

from challenges.detection import held_out
from challenges.detection.scenes import Scenes
from common.challenge import CheckedData
from common.errors import DataError
from tests.detection.annotated_folders import coco_table, draw, write_json, write_voc
from tests.detection.test_check import CAT, CLASSES, DOG
from tests.detection.test_check import check as check_training


@pytest.fixture
def learnt(tmp_path):
    root = write_voc(
        tmp_path / "data", {"a": [CAT, DOG], "b": [DOG], "c": [CAT]}, {"trainval": ["a", "b"], "test": ["c"]}
    )
    return check_training(root, tmp_path / "checked").scenes


def judged(root: Path, output: Path, learnt: Scenes) -> CheckedData:
    return held_out.check(root, output, learnt, workers=0, progress=lambda done, total: None)


def test_boxes_get_the_runs_labels_whatever_the_order_of_the_classes(tmp_path, learnt):
    root = tmp_path / "other"
    draw(root / "x.jpg")
    write_json(root / "boxes.json", coco_table({"x.jpg": [CAT, DOG, DOG]}, {3: "dog", 7: "cat", 9: "unused"}))
    found = judged(root, tmp_path / "out", learnt)
    scenes = Scenes.read(tmp_path / "out")
    assert (scenes.classes, scenes.category_ids) == (("cat", "dog"), (1, 2))
    assert [(label, box[0]) for label, box in zip(scenes.labels, scenes.boxes, strict=True)] == [(1, 5), (2, 10)]
    assert set(scenes.splits) == {"val"}
    assert (found.summary["samples"], found.summary["own"]) == (1, False)


def test_what_the_annotations_hold_out_is_judged(tmp_path, learnt):
    names = {"d": [CAT], "e": [DOG], "f": [DOG]}
    root = write_voc(tmp_path / "other", names, {"trainval": ["d", "e"], "test": ["f"]})
    found = judged(root, tmp_path / "out", learnt)
    assert Scenes.read(tmp_path / "out").paths.tolist() == ["JPEGImages/f.jpg"]
    assert "No boxes of cat: the figures say nothing about it." in found.summary["warnings"]


def test_unknown_classes_and_folders_without_boxes_are_refused(tmp_path, learnt):
    root = tmp_path / "other"
    draw(root / "x.jpg")
    write_json(root / "boxes.json", coco_table({"x.jpg": [CAT, ("fox", 1, 2, 20, 30)]}, {1: "cat", 2: "fox"}))
    with pytest.raises(DataError) as caught:
        judged(root, tmp_path / "out", learnt)
    message = str(caught.value)
    assert "not learnt: fox" in message
    assert "knows 2 classes: cat, dog" in message
    assert len(message.splitlines()) == 3
    write_json(root / "boxes.json", coco_table({"x.jpg": []}, CLASSES))
    with pytest.raises(DataError, match="no usable box to judge by"):
        judged(root, tmp_path / "out", learnt)


def test_images_that_training_has_are_told_and_an_unchanged_folder_is_not_opened_again(tmp_path, learnt, monkeypatch):
    root = tmp_path / "other"
    root.mkdir()
    (root / "copy.jpg").write_bytes((tmp_path / "data" / "JPEGImages" / "a.jpg").read_bytes())
    write_json(root / "boxes.json", coco_table({"copy.jpg": [CAT, DOG]}, CLASSES))
    found = judged(root, tmp_path / "out", learnt)
    assert any("1 of 1 test pictures have counterparts in training" in told for told in found.summary["warnings"])
    monkeypatch.setattr(held_out, "probe_listed", lambda *arguments: pytest.fail("the folder was opened again"))
    assert judged(root, tmp_path / "out", learnt) == found
    assert np.unique(Scenes.read(tmp_path / "out").labels).tolist() == [1, 2]
