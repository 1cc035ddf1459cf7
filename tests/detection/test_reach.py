"""What the default boxes reach, against every box held against every default box of every window."""

import numpy as np
import pytest
import torch

from challenges.detection.boxes import SSD128, SSD192, SSD300, SSD512, corners, iou
from challenges.detection.reach import View, best_overlaps, object_sizes
from challenges.detection.tiles import windows_of
from tests.detection.builders import scenes_of


@pytest.mark.parametrize("default_boxes", [SSD128, SSD192, SSD300, SSD512], ids=["128", "192", "300", "512"])
def test_best_overlaps_are_those_with_all_default_boxes(default_boxes):
    random = np.random.default_rng(0)
    centre, size = random.uniform(0, 1, (400, 2)), np.exp(random.uniform(-5, 0.3, (400, 2)))
    boxes = np.clip(np.hstack([centre - size / 2, centre + size / 2]), 0, 1)
    boxes = np.vstack([boxes, [[0, 0, 1, 1], [0.2, 0.3, 0.2 + 21 / 300, 0.3 + 21 / 300]]])
    wanted = iou(torch.as_tensor(boxes), corners(default_boxes.boxes().double())).amax(-1)
    np.testing.assert_allclose(best_overlaps(boxes, default_boxes), wanted, atol=1e-9)


def test_sizes_are_measured_in_the_squashed_image(tmp_path):
    scenes = scenes_of(
        tmp_path,
        [(600, 300), (3000, 3000)],
        {0: [(1, 0, 0, 200, 100), (1, 0, 0, 200, 100), (3, 0, 0, 9, 9)], 1: [(2, 0, 0, 100, 100), (2, 0, 0, 400, 400)]},
        ignored=[(0, 2)],
    )
    sizes = object_sizes(scenes, View())
    assert sizes["smallest_default_box"] == 21
    assert set(sizes["classes"]) == {"cat", "dog"}
    assert sizes["classes"]["cat"]["sides"] == [100.0, 100.0, 100.0]
    assert (sizes["classes"]["cat"]["below"], sizes["classes"]["cat"]["recall"]) == (0, 1)
    dog = sizes["classes"]["dog"]
    assert (dog["below"], dog["tiny"], dog["recall"]) == (0.5, 0.5, 0.5)
    assert sizes["all"]["tiny"] == 0.25


def test_boxes_that_are_too_small_cannot_reach_a_default_box():
    side = SSD300.scales[0] * 0.5**0.5 / 300
    centre = SSD300.boxes()[0, :2].numpy()
    for factor, reached in ((0.99, False), (1.01, True)):
        half = side * factor / 2
        box = np.concatenate([centre - half, centre + half])[None]
        assert (best_overlaps(box, SSD300)[0] >= 0.5) == reached


def signs(root, *, count=30, classes=43, seed=0):
    """Large images of two shapes with small boxes, and a few large ones, of many classes."""
    random = np.random.default_rng(seed)
    sizes = [((1360, 800), (900, 1200))[number % 2] for number in range(count)]
    boxes = {}
    for image, (width, height) in enumerate(sizes):
        rows = []
        for _ in range(6):
            side = random.lognormal(3.5, 0.5, 2).clip(8, 300)
            left, top = random.uniform(0, [width - side[0], height - side[1]])
            rows.append((int(random.integers(1, classes + 1)), left, top, left + side[0], top + side[1]))
        boxes[image] = rows
    return scenes_of(root, sizes, boxes, classes=[f"sign {number}" for number in range(classes)])


def slow_recall(scenes, default_boxes, tile):
    """Box by box and window by window."""
    anchors = corners(default_boxes.boxes().double())
    reached = []
    for box, image in zip(scenes.boxes.astype(float), scenes.image_of_box(), strict=True):
        best = 0.0
        for left, top, right, bottom in windows_of(scenes.widths[image], scenes.heights[image], tile).tolist():
            if left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom:
                shown = (box - [left, top, left, top]) / [right - left, bottom - top, right - left, bottom - top]
                best = max(best, float(iou(torch.as_tensor(shown[None]), anchors).max()))
        reached.append(best >= 0.5)
    return float(np.mean(reached))


def test_one_sentence_says_what_many_small_classes_need(tmp_path):
    scenes = signs(tmp_path)
    sizes = object_sizes(scenes, View())
    (warning,) = sizes["warnings"]
    larger, tiles = sizes["alternatives"]
    assert (larger["image_size"], larger["tile"], larger["looks"]) == (512, None, 1)
    assert sizes["all"]["recall"] == pytest.approx(slow_recall(scenes, SSD300, None), abs=1e-4)
    assert larger["recall"] == pytest.approx(slow_recall(scenes, SSD512, None), abs=1e-4)
    assert tiles["recall"] == pytest.approx(slow_recall(scenes, SSD300, tiles["tile"]), abs=1e-4)
    assert sizes["all"]["recall"] < larger["recall"] < tiles["recall"]
    assert tiles["tile"] <= 800
    assert tiles["looks"] == np.mean([len(windows_of(*size, tiles["tile"])) for size in ((1360, 800), (900, 1200))])
    shares = [f"{value:.0%}" for value in (sizes["all"]["recall"], larger["recall"], tiles["recall"])]
    assert (
        f"of the boxes are too small for 300 px: reachable recall {shares[0]}, {shares[1]} with RECIPE=small-512, "
        f"{shares[2]} in tiles of {tiles['tile']} px (--data.tile {tiles['tile']}," in warning
    )
    assert warning.startswith(f"{sizes['all']['tiny']:.0%} of the boxes")
    assert " more." in warning


@pytest.mark.parametrize(("image_size", "default_boxes"), [(300, SSD300), (512, SSD512)])
def test_advice_is_for_the_recipes_own_view(tmp_path, image_size, default_boxes):
    scenes = signs(tmp_path, count=12)
    sizes = object_sizes(scenes, View(image_size, 400))
    assert sizes["input"] == image_size
    assert sizes["all"]["recall"] == pytest.approx(slow_recall(scenes, default_boxes, 400), abs=1e-4)
    assert all(other["image_size"] > image_size or other["tile"] < 400 for other in sizes["alternatives"])


def test_no_tile_is_advised_that_is_larger_than_the_images_or_blurs_them(tmp_path):
    scenes = scenes_of(tmp_path, [(90, 70)] * 4, {image: [(1, 10, 10, 13, 13)] for image in range(4)}, classes=("dot",))
    sizes = object_sizes(scenes, View())
    assert [other["tile"] for other in sizes["alternatives"]] == [None]
    (warning,) = sizes["warnings"]
    assert "tile" not in warning


def test_tiles_that_no_image_has_are_named(tmp_path):
    scenes = scenes_of(tmp_path, [(400, 300)], {0: [(1, 0, 0, 100, 100)]})
    (warning,) = object_sizes(scenes, View(300, 400))["warnings"]
    assert "No image is larger than a tile of 400 pixels" in warning


def test_long_boxes_are_told_in_one_sentence_too(tmp_path):
    boxes = [(label, 0, 100 * label, 390, 100 * label + 12) for label in (1, 2, 3)]
    (warning,) = object_sizes(scenes_of(tmp_path, [(400, 500)], {0: boxes}), View())["warnings"]
    assert "'cat' (100%), 'dog' (100%), 'owl' (100%). They are long or narrow" in warning


def test_without_a_counted_box_nothing_is_advised(tmp_path):
    scenes = scenes_of(tmp_path, [(400, 500)], {0: [(1, 0, 0, 2, 2)]}, ignored=[(0, 0)])
    assert object_sizes(scenes, View())["warnings"] == []
