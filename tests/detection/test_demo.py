import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from challenges.detection import demo
from challenges.detection.check import check
from common.errors import DataError, TrainingError
from common.files import read_json


def generate(folder: Path, **options: object) -> Path:
    silent = {"images": (4, 2), "workers": 0, "progress": lambda done, total: None}
    return demo.generate(folder, **(silent | options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("demo") / "scenes", images=(8, 4))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_files_are_the_same_for_any_number_of_workers(tmp_path):
    one = digests(generate(tmp_path / "one"))
    assert one == digests(generate(tmp_path / "two", workers=2))
    other = digests(generate(tmp_path / "three", seed=1))
    assert one["images/train/0000.jpg"] != other["images/train/0000.jpg"]
    assert sorted(one) == sorted(
        [f"images/train/{number:04d}.jpg" for number in range(4)]
        + [f"images/val/{number:04d}.jpg" for number in range(2)]
        + ["annotations/instances_train.json", "annotations/instances_val.json", demo.MARKER]
    )


def test_the_check_has_nothing_to_complain_of(scenes, tmp_path):
    report = check(scenes, tmp_path / "out", workers=0, progress=lambda done, total: None)
    assert report.record["layout"] == "coco"
    assert not report.problems
    assert report.record["images"] == {"train": 8, "val": 4}
    assert report.scenes.classes == demo.CLASSES
    assert report.record["rounded"] == 0
    sides = np.sqrt((report.scenes.boxes[:, 2:] - report.scenes.boxes[:, :2]).prod(1))
    assert 20 < np.median(sides) < 120
    assert demo.WIDTHS[0] <= report.scenes.widths.min() <= report.scenes.widths.max() <= demo.WIDTHS[1]
    assert demo.HEIGHTS[0] <= report.scenes.heights.min() <= report.scenes.heights.max() <= demo.HEIGHTS[1]


def test_boxes_are_where_the_objects_are(monkeypatch, tmp_path):
    """The same scene without its objects differs inside the boxes, and outside of them by shadows and noise alone."""
    from common.vision.drawing import many_objects

    random_state = [3, 1]
    picture, found = many_objects.render_several(["mushroom", "chair"], np.random.default_rng(random_state), 200, 150)
    assert {thing.name for thing in found} == {"mushroom", "chair"}
    monkeypatch.setattr(many_objects, "shade", lambda *arguments: np.full((arguments[2].size, 3), 9.0, np.float32))
    monkeypatch.setattr(many_objects, "develop", lambda picture, random: picture)
    monkeypatch.setattr(many_objects, "defocus", lambda picture, *rest: Image.new("RGB", picture.size))
    white, again = many_objects.render_several(["mushroom", "chair"], np.random.default_rng(random_state), 200, 150)
    assert [thing.box for thing in again] == [thing.box for thing in found]
    seen = np.asarray(white)[..., 0] > 100
    covered = np.zeros_like(seen)
    for thing in found:
        left, top, right, bottom = thing.box
        inside = seen[round(top) : round(bottom), round(left) : round(right)]
        edges = [inside[:3].any(), inside[-3:].any(), inside[:, :3].any(), inside[:, -3:].any()]
        assert all(edges), thing
        covered[max(int(top) - 1, 0) : int(bottom) + 2, max(int(left) - 1, 0) : int(right) + 2] = True
    assert not (seen & ~covered).any()
    assert abs(seen.sum() - sum(thing.area for thing in found)) < 0.15 * seen.sum()
    assert np.asarray(picture).std() > 10


def test_some_scenes_are_empty_and_none_is_crowded(scenes):
    random = np.random.default_rng(0)
    assert sum(demo.OBJECTS_PER_IMAGE) == pytest.approx(1)
    assert demo.OBJECTS_PER_IMAGE[0] > 0
    for split in ("train", "val"):
        table = read_json(scenes / "annotations" / f"instances_{split}.json")
        boxes = np.array([row["bbox"] for row in table["annotations"]])
        owners = np.array([row["image_id"] for row in table["annotations"]])
        for image in random.permutation(np.unique(owners))[:4]:
            own = boxes[owners == image]
            corners = np.hstack([own[:, :2], own[:, :2] + own[:, 2:]])
            shared = np.minimum(corners[:, None, 2:], corners[:, 2:]) - np.maximum(corners[:, None, :2], corners[:, :2])
            shared = np.clip(shared, 0, None).prod(-1)
            assert np.all((shared - np.diag(np.diag(shared))) < 0.8 * own[:, 2:].prod(1))


def test_whole_folders_are_kept_and_incomplete_ones_made_again(tmp_path, monkeypatch):
    folder = generate(tmp_path / "demo")
    first = digests(folder)
    with monkeypatch.context() as patch:
        patch.setattr(demo, "_make", lambda order: pytest.fail("a scene was made again"))
        assert generate(folder) == folder
    (folder / "annotations/instances_val.json").unlink()
    assert digests(generate(folder)) == first
    (folder / "images/train/0001.jpg").unlink()
    assert digests(generate(folder)) == first
    assert not demo.is_demo(folder)
    assert not demo.is_demo(tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_default_scenes_are_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "IMAGES", (2, 1))
    assert demo.is_demo(generate(tmp_path / "demo", images=(2, 1)))
    assert not demo.is_demo(generate(tmp_path / "other", images=(2, 1), seed=1))


def test_other_peoples_files_are_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "precious.txt").write_text("keep")
    with pytest.raises(DataError, match="something else than demo scenes"):
        generate(tmp_path / "demo")
    with pytest.raises(DataError, match="At least 1"):
        generate(tmp_path / "new", images=(1, 0))

    def fail(order: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_make", fail)
    with pytest.raises(TrainingError, match="no space left"):
        generate(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
