import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from challenges.classification import demo
from challenges.classification.layout import list_photographs
from common.errors import DataError, TrainingError
from common.files import read_json
from common.vision.drawing import scene
from common.vision.drawing.objects import OBJECTS
from common.vision.images import ImageFacts, probe

COUNTS = (25, 25)
SMALL = {"images_per_class": (2, 1), "size": 40, "progress": lambda done, total: None}


def generate(folder: Path, **options: object) -> Path:
    return demo.generate(folder, **(SMALL | {"workers": 0} | options))  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    return {
        file.path: hashlib.sha256((folder / file.path).read_bytes()).hexdigest()
        for file in list_photographs(folder).files
    }


def test_files_are_the_same_for_any_number_of_workers(tmp_path):
    one = digests(generate(tmp_path / "one"))
    assert one == digests(generate(tmp_path / "two", workers=2))
    assert one != digests(generate(tmp_path / "three", seed=1))
    assert len(one) == 30
    assert len(set(one.values())) == 30


def test_folders_hold_sound_photographs_of_ten_classes(tmp_path):
    folder = generate(tmp_path / "demo", size=64)
    assert sorted(path.name for path in (folder / "train").iterdir()) == list(demo.CLASSES) == sorted(OBJECTS)
    for file in list_photographs(folder).files:
        facts = probe(folder / file.path)
        assert isinstance(facts, ImageFacts)
        assert (facts.format, facts.mode, facts.notes) == ("JPEG", "RGB", ())
        assert 50 <= min(facts.width, facts.height) <= max(facts.width, facts.height) <= 81


def test_best_reachable_accuracy_is_the_share_of_true_labels():
    description = demo._describe(COUNTS, demo.SIZE, seed=0)
    orders = [order for order in demo._orders(Path(), description) if order.split == "val"]
    true = [order.shown == demo.CLASSES[order.label] for order in orders]
    assert np.mean(true) == description.best_reachable_accuracy == 0.96
    for label in range(10):
        assert sum(1 - right for right, order in zip(true, orders, strict=True) if order.label == label) == 1


def test_marker_records_what_was_made(tmp_path):
    marker = read_json(generate(tmp_path / "demo", images_per_class=(3, 25), size=32) / demo.MARKER)
    assert marker["version"] == demo.VERSION
    assert (marker["seed"], marker["size"], marker["train_per_class"], marker["val_per_class"]) == (0, 32, 3, 25)
    assert marker["best_reachable_accuracy"] == 0.96
    assert marker["classes"] == list(demo.CLASSES)


def test_whole_folders_are_kept_and_incomplete_ones_made_again(tmp_path, monkeypatch):
    folder = generate(tmp_path / "demo")
    first = digests(folder)
    with monkeypatch.context() as patch:
        patch.setattr(demo, "_make", lambda order: pytest.fail("a picture was made again"))
        assert generate(folder) == folder
    (folder / "train" / "mug" / "0001.jpg").unlink()
    assert digests(generate(folder)) == first
    assert digests(generate(folder, seed=5)) != first
    assert not demo.is_demo(folder)
    assert not demo.is_demo(tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo"]


def test_other_peoples_files_are_never_replaced(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "precious.txt").write_text("keep")
    with pytest.raises(DataError, match="something else"):
        generate(tmp_path / "demo")
    assert (tmp_path / "demo" / "precious.txt").read_text() == "keep"
    with pytest.raises(DataError, match="32 pixels"):
        generate(tmp_path / "new", size=8)
    with pytest.raises(TrainingError, match="cannot be written"):
        generate(tmp_path / "demo" / "precious.txt" / "below")


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(order: demo._Order) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "_make", fail)
    with pytest.raises(TrainingError, match="no space left"):
        generate(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_killed_generation_never_looks_complete(tmp_path):
    root = Path(__file__).parents[2]
    program = (
        "from pathlib import Path\nfrom challenges.classification import demo\n"
        f"demo.generate(Path({str(tmp_path / 'demo')!r}), images_per_class=(60, 2), size=48, workers=0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob(".demo.*.part/new/train/bottle/*.jpg")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "demo").exists()
    abandoned = next(tmp_path.glob(".demo.*.part"))
    assert len(digests(generate(tmp_path / "demo"))) == 30
    assert not abandoned.exists()


@pytest.mark.parametrize("name", demo.CLASSES)
def test_objects_are_seen_in_every_picture(name, monkeypatch):
    shares = []
    march = scene.march

    def spy(thing: scene.Placed, camera: scene.Camera, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hits, distances = march(thing, camera, depth)
        shares.append(hits.size / depth.size)
        return hits, distances

    monkeypatch.setattr(scene, "march", spy)
    pictures = [scene.render(name, np.random.default_rng([3, number]), 64) for number in range(6)]
    assert min(shares) > 0.03
    for picture in pictures:
        assert isinstance(picture, Image.Image)
        assert 70 < np.asarray(picture).mean() < 190


def test_distances_never_reach_beyond_the_surface():
    """Stepping by the distance from a point outside never enters the object by more than a hair."""
    random = np.random.default_rng(0)
    for builder in OBJECTS.values():
        distance = builder(np.random.default_rng(7))
        points = random.uniform(-1, 1.3, (3, 4000)).astype(np.float32)
        gaps = distance(*points)
        outside = gaps > 0
        directions = random.normal(size=(3, 4000)).astype(np.float32)
        directions /= np.sqrt((directions**2).sum(0))
        stepped = distance(*(points + directions * gaps)[:, outside])
        assert np.percentile(stepped, 0.1) > -0.02, builder.__name__


def test_colour_does_not_tell_the_class():
    """A nearest-mean guess from the mean colour of the middle stays near chance, 0.1."""
    features, labels = [], []
    for label, name in enumerate(demo.CLASSES):
        for number in range(12):
            pixels = np.asarray(scene.render(name, np.random.default_rng([label, number]), 32), np.float32)
            height, width = pixels.shape[:2]
            features.append(pixels[height // 4 : -height // 4, width // 4 : -width // 4].mean((0, 1)))
            labels.append(label)
    colours, truth = np.stack(features), np.array(labels)
    right = 0
    for row in range(len(truth)):
        rest = np.arange(len(truth)) != row
        means = np.stack([colours[rest & (truth == label)].mean(0) for label in range(10)])
        right += int(((means - colours[row]) ** 2).sum(1).argmin() == truth[row])
    assert right / len(truth) < 0.25
