import numpy as np
import torch

from challenges.detection.audit import best_overlaps, object_sizes
from challenges.detection.boxes import SSD300, corners, iou
from tests.detection.builders import scenes_of


def test_best_overlaps_are_those_with_all_default_boxes():
    random = np.random.default_rng(0)
    centre, size = random.uniform(0, 1, (400, 2)), np.exp(random.uniform(-5, 0.3, (400, 2)))
    boxes = np.clip(np.hstack([centre - size / 2, centre + size / 2]), 0, 1)
    boxes = np.vstack([boxes, [[0, 0, 1, 1], [0.2, 0.3, 0.2 + 21 / 300, 0.3 + 21 / 300]]])
    wanted = iou(torch.as_tensor(boxes), corners(SSD300.boxes().double())).amax(-1)
    np.testing.assert_allclose(best_overlaps(boxes), wanted, atol=1e-9)


def test_sizes_are_measured_in_the_squashed_image(tmp_path):
    scenes = scenes_of(
        tmp_path,
        [(600, 300), (3000, 3000)],
        {0: [(1, 0, 0, 200, 100), (1, 0, 0, 200, 100), (3, 0, 0, 9, 9)], 1: [(2, 0, 0, 100, 100), (2, 0, 0, 400, 400)]},
        ignored=[(0, 2)],
    )
    sizes = object_sizes(scenes)
    assert sizes["smallest_default_box"] == 21
    assert set(sizes["classes"]) == {"cat", "dog"}
    assert sizes["classes"]["cat"]["sides"] == [100.0, 100.0, 100.0]
    assert (sizes["classes"]["cat"]["below"], sizes["classes"]["cat"]["recall"]) == (0, 1)
    dog = sizes["classes"]["dog"]
    assert (dog["below"], dog["tiny"], dog["recall"]) == (0.5, 0.5, 0.5)
    assert dog["tile"] == int(250 * 300 / 32)
    assert "tile" not in sizes["classes"]["cat"]


def test_boxes_that_are_too_small_cannot_reach_a_default_box():
    side = SSD300.scales[0] * 0.5**0.5 / 300
    centre = SSD300.boxes()[0, :2].numpy()
    for factor, reached in ((0.99, False), (1.01, True)):
        half = side * factor / 2
        box = np.concatenate([centre - half, centre + half])[None]
        assert (best_overlaps(box)[0] >= 0.5) == reached
