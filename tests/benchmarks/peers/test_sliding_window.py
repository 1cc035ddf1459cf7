"""The sliding-window baseline finds what its classifier knows, where it is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers.sliding_window import BACKGROUND, SlidingWindow, cut, windows, write_crops
from common.vision.preprocessing import ImagePreprocessing
from tests.detection.builders import paint, scenes_of

PLAIN = ImagePreprocessing(resize=16, crop=16, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))


class RedShare(nn.Module):
    """Class 1 where a window is full of red, class 0 elsewhere."""

    def forward(self, images):
        full = (images[:, 0] > 0.5).float().mean((1, 2)) > 0.85
        return torch.stack([torch.where(full, -4.0, 4.0), torch.where(full, 4.0, -4.0)], 1)


def test_windows_cover_the_image_and_stay_inside():
    found = windows(320, 240)
    assert found.min() >= 0
    assert (found[:, 2].max(), found[:, 3].max()) == (320, 240)
    assert len(found) > 500


def test_a_cut_window_holds_its_own_pixels():
    picture = torch.zeros(3, 40, 60)
    picture[:, 10:20, 30:50] = 1
    (crop,) = cut(picture, np.array([[30, 10, 50, 20]], np.float32), 8)
    assert crop.min() > 0.4
    assert crop[:, 2:6, 2:6].min() == 1


def test_it_finds_the_red_rectangle():
    box = (100, 60, 180, 140)
    picture = torch.from_numpy(np.array(paint(320, 240, [(1, *box)], {1: (255, 0, 0)}))).permute(2, 0, 1).float()
    slider = SlidingWindow(SimpleNamespace(model=RedShare()), PLAIN, (0, 1))
    boxes, scores, labels = slider(picture)
    assert len(boxes)
    assert set(labels.tolist()) == {1}
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (middle > torch.tensor(box[:2])).all()
    assert (middle < torch.tensor(box[2:])).all()


def test_crops_are_objects_and_clear_background(tmp_path):
    scenes = scenes_of(tmp_path, [(200, 160)], {0: [(1, 20, 20, 90, 90), (2, 120, 60, 180, 150)]}, suffix="jpg")
    paint(200, 160, [(1, 20, 20, 90, 90), (2, 120, 60, 180, 150)], {1: (255, 0, 0), 2: (0, 255, 0)}).save(
        tmp_path / "0.jpg"
    )
    assert write_crops(scenes, tmp_path / "crops") == 4
    folders = {folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "crops").iterdir()}
    assert folders == {"cat": 1, "dog": 1, BACKGROUND: 2}


def test_an_unknown_class_is_told():
    from benchmarks.peers.sliding_window import _slider
    from common.errors import KitError

    classifier = SimpleNamespace(data=SimpleNamespace(manifest=SimpleNamespace(classes=("cat",))))
    with pytest.raises(KitError, match="does not know background, dog"):
        _slider(classifier, ("cat", "dog"))
