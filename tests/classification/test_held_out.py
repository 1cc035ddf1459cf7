from pathlib import Path

import numpy as np
import pytest

from challenges.classification import held_out
from challenges.classification.manifest import Manifest
from common.challenge import CheckedData
from common.errors import DataError
from tests.classification.test_check import check, fill


@pytest.fixture
def learnt(tmp_path):
    fill(
        tmp_path / "data", {"train/bird": 4, "train/cat": 4, "train/dog": 4, "val/bird": 2, "val/cat": 2, "val/dog": 2}
    )
    return check(tmp_path / "data", tmp_path / "checked").manifest


def judged(root: Path, output: Path, learnt: Manifest) -> CheckedData:
    return held_out.check(root, output, learnt, workers=0, progress=lambda done, total: None)


def test_classes_are_matched_by_name_in_whatever_order_and_spelling(tmp_path, learnt):
    fill(tmp_path / "other", {"Dog ": 3, "CAT": 2}, first=900)
    found = judged(tmp_path / "other", tmp_path / "out", learnt)
    manifest = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert manifest.classes == ("bird", "cat", "dog")
    assert dict(zip(manifest.paths, manifest.labels, strict=True))["Dog /000.jpg"] == 2
    assert np.bincount(manifest.labels).tolist() == [0, 2, 3]
    assert set(manifest.splits) == {"val"}
    assert found.summary["samples"] == 5
    assert found.summary["warnings"] == ["Class bird: no pictures, so the figures say nothing about it."]


@pytest.mark.parametrize(
    ("folders", "taken"),
    [
        ({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1, "test/cat": 3, "test/dog": 3}, "test/"),
        ({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1}, "val/"),
        ({"cat": 2}, "DATA"),
        ({"test/cat": 2, "test/dog": 1}, "test/"),
    ],
)
def test_the_part_that_is_to_judge_by_is_taken(tmp_path, learnt, folders, taken):
    fill(tmp_path / "other", folders, first=700)
    found = judged(tmp_path / "other", tmp_path / "out", learnt)
    part = taken.replace("DATA", "")
    assert found.summary["samples"] == sum(count for name, count in folders.items() if name.startswith(part))
    paths = Manifest.read(tmp_path / "out" / "manifest.csv").paths
    assert all(path.startswith(part) for path in paths)


def test_unknown_classes_are_refused_with_both_lists(tmp_path, learnt):
    fill(tmp_path / "other", {"cat": 2, "dogs": 2, "fox": 2})
    with pytest.raises(DataError) as caught:
        judged(tmp_path / "other", tmp_path / "out", learnt)
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    assert "not learnt: dogs, fox" in message
    assert "knows 3 classes: bird, cat, dog" in message
    assert "Is dogs meant to be dog?" in message


def test_pictures_that_training_has_are_told(tmp_path, learnt):
    fill(tmp_path / "other", {"cat": 2}, first=800)
    copy = (tmp_path / "data" / "train" / "dog" / "001.jpg").read_bytes()
    (tmp_path / "other" / "cat" / "copy.jpg").write_bytes(copy)
    warnings = judged(tmp_path / "other", tmp_path / "out", learnt).summary["warnings"]
    assert any(
        warning.startswith("1 of 3 test pictures have counterparts in training: 1 are identical files (cat/copy.jpg")
        for warning in warnings
    )


def test_an_unchanged_folder_is_not_opened_again_and_unusable_ones_are_refused(tmp_path, learnt, monkeypatch):
    fill(tmp_path / "other", {"cat": 2})
    first = judged(tmp_path / "other", tmp_path / "out", learnt)
    with monkeypatch.context() as patch:
        patch.setattr(held_out, "probe_listed", lambda *arguments: pytest.fail("the folder was opened again"))
        assert judged(tmp_path / "other", tmp_path / "out", learnt) == first
    for path in (tmp_path / "other" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="holds no usable picture"):
        judged(tmp_path / "other", tmp_path / "out", learnt)
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="without folders of classes"):
        judged(tmp_path / "loose", tmp_path / "out", learnt)


def test_the_test_part_of_the_own_data_is_given_to_judge(tmp_path, learnt):
    assert held_out.own(tmp_path / "checked", tmp_path / "own") is None
    fill(tmp_path / "data", {"test/cat": 3, "test/dog": 1}, first=600)
    whole = check(tmp_path / "data", tmp_path / "checked").manifest
    found = held_out.own(tmp_path / "checked", tmp_path / "own")
    assert found is not None
    assert found.summary == {"samples": 4, "unit": "image", "own": True, "warnings": []}
    manifest = Manifest.read(tmp_path / "own" / "manifest.csv")
    assert manifest.paths.tolist() == whole.subset("test").paths.tolist()
    assert set(manifest.splits) == {"val"}
