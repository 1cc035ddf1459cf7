"""Boxes that need no pixels: which ones are chosen, and what they come to by COCO's own evaluator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from challenges.detection.baselines import commonest_boxes, figures, typical
from tests.detection.builders import scenes_of

NOWHERE = Path("nowhere")


def test_each_box_is_chosen_for_what_the_ones_before_it_miss() -> None:
    corner, middle = torch.tensor([0.0, 0.0, 0.2, 0.2]), torch.tensor([0.4, 0.4, 0.8, 0.8])
    near = middle + torch.tensor([0.0, 0.0, 0.04, 0.0])  # IoU 10/11 with the middle: nine of ten thresholds
    boxes, scores = typical(torch.stack([corner, middle, middle, near]), 4)
    torch.testing.assert_close(boxes, torch.stack([middle, corner, near]))
    torch.testing.assert_close(scores, torch.tensor([2.9, 1.0, 0.1]) / 4)
    assert len(typical(torch.stack([corner, middle, near]), 2)[0]) == 2
    assert typical(torch.empty(0, 4), 5)[0].shape == (0, 4)


def test_shares_of_an_image_find_what_always_lies_there() -> None:
    sizes = [(100, 50), (200, 300), (400, 100), (30, 30)]
    boxes = {image: [(1, 0.1 * w, 0.2 * h, 0.5 * w, 0.9 * h)] for image, (w, h) in enumerate(sizes)}
    boxes[0].append((2, 0, 0, 10, 10))
    scenes = scenes_of(NOWHERE, sizes, boxes, splits=["train", "train", "val", "val"], ignored=[(0, 1)])
    train, validation = scenes.subset("train"), scenes.subset("val")
    table = commonest_boxes(train, validation)
    assert table.labels.tolist() == [1, 1]  # ignored boxes are not learnt from, classes without boxes find nothing
    np.testing.assert_allclose(table.boxes, validation.boxes, rtol=1e-6)
    (metrics,) = figures(train, validation).values()
    assert metrics["ap"] == pytest.approx(1.0)
    assert not any(np.isnan(value) for value in metrics.values())


def test_many_classes_and_boxes_are_bounded() -> None:
    generator = np.random.default_rng(3)
    boxes = {}
    for image in range(40):
        corner = generator.uniform(0, 60, (30, 2))
        size = generator.uniform(5, 40, (30, 2))
        labels = generator.integers(1, 4, 30)
        boxes[image] = [(int(k), *c, *(c + s)) for k, c, s in zip(labels, corner, size, strict=True)]
    scenes = scenes_of(NOWHERE, [(100, 100)] * 40, boxes, splits=["train", "val"] * 20)
    table = commonest_boxes(scenes.subset("train"), scenes.subset("val"))
    assert np.bincount(table.images).tolist() == [99] * 20
    assert np.bincount(table.labels).tolist() == [0, 660, 660, 660]
    assert (np.diff(table.scores.reshape(20, 99), axis=1) <= 0).all()
    assert 0 < figures(scenes.subset("train"), scenes.subset("val"))["commonest boxes"]["ap"] < 0.3


def test_more_classes_than_boxes_and_none_at_all() -> None:
    names = [f"class {number}" for number in range(150)]
    boxes = {image: [(1 + number, 5, 5, 20 + number % 7, 25) for number in range(150)] for image in range(2)}
    scenes = scenes_of(NOWHERE, [(60, 60)] * 2, boxes, classes=names, splits=["train", "val"])
    assert len(commonest_boxes(scenes.subset("train"), scenes.subset("val"))) == 100
    bare = scenes_of(NOWHERE, [(60, 60)] * 2, {1: [(1, 5, 5, 20, 25)]}, splits=["train", "val"])
    assert len(commonest_boxes(bare.subset("train"), bare.subset("val"))) == 0
    assert figures(bare.subset("train"), bare.subset("val"))["commonest boxes"]["ap"] == 0
