"""Searching in tiles: boxes map back, what a border cuts is found once, and merging is what plain loops give."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.detection.challenge import CHALLENGE
from challenges.detection.data import SceneData
from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.recipes import RECIPES, DataConfig, NmsConfig
from challenges.detection.searching import Sightings, merge, search
from challenges.detection.task import DetectionTask
from challenges.detection.tiles import windows_of
from challenges.detection.video import FrameDetector
from common.vision.preprocessing import ImagePreprocessing
from tests.common.vision.picture_files import photograph
from tests.detection.builders import paint, scenes_of
from tests.detection.test_boxes import slow_iou

CPU = torch.device("cpu")
SQUASH = ImagePreprocessing(resize=300, crop=300, mode="squash")
RED = {1: (220, 20, 20)}


def find_red(images):
    """The box around what is red, of class 1."""
    boxes, scores = torch.zeros(len(images), 1, 4), torch.zeros(len(images), 1)
    for row, image in enumerate(images):
        red = (image[0] > 0.2) & (image[1] < -0.5)
        if red.any():
            rows, columns = red.nonzero().T
            boxes[row, 0] = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 300
            scores[row, 0] = 0.9
    return Detections(boxes, scores, (scores > 0).long())


def searched(scenes, tile, batch=16, detect=find_red):
    data = SceneData(scenes, SQUASH, DataConfig(threads=1, tile=tile), device=CPU, evaluation_batch=batch)
    return search(detect, data.validation_batches(), scenes.widths, scenes.heights, NmsConfig())


def sightings_of(objects, width, height, tile, *, with_whole=False, score=0.5):
    """What a perfect detector sees of the objects, (left, top, right, bottom), in each window."""
    windows = windows_of(width, height, tile)[0 if with_whole else 1 :].astype(np.float32)
    seen = []
    for window, box in itertools.product(windows, np.asarray(objects, np.float32)):
        shown = np.concatenate([np.maximum(box[:2], window[:2]), np.minimum(box[2:], window[2:])])
        if (shown[2:] > shown[:2]).all():
            seen.append((shown, window))
    boxes, owners = (np.array(column, np.float32) for column in zip(*seen, strict=True))
    count = len(seen)
    scores = np.full(count, score, np.float32)
    table = DetectionTable(np.zeros(count, np.int64), np.ones(count, np.int64), scores, boxes)
    return Sightings(table, owners, np.tile(np.array([[width, height]], np.float32), (count, 1)))


def test_boxes_map_back_to_where_they_were():
    random = np.random.default_rng(0)
    width, height, tile = 701, 433, 128
    windows = windows_of(width, height, tile)
    starts, sizes = windows[:, :2], windows[:, 2:] - windows[:, :2]
    low = random.uniform(0.1, 0.5, (len(windows), 1, 2))
    shares = np.concatenate([low, low + 0.3], axis=2).astype(np.float32)
    wanted = np.tile(starts, 2) + shares[:, 0] * np.tile(sizes, 2)
    labels = np.arange(len(windows))[:, None] + 1  # of different classes: nothing is merged
    found = Detections(*map(torch.from_numpy, (shares, np.full(labels.shape, 0.5, np.float32), labels)))
    batch = {
        "images": torch.zeros(0),
        "index": torch.full((len(windows),), 2),
        "window": torch.from_numpy(windows),
    }
    sides = np.array([[5, 5], [5, 5], [width, height]], np.int32).T
    table = search(lambda images: found, [batch], *sides, NmsConfig()).table
    assert (table.images == 2).all()
    order = np.argsort(table.labels)
    np.testing.assert_allclose(table.boxes[order], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tile", [100, 150])
@pytest.mark.parametrize("side", [4, 24, 60, 260])
def test_an_object_that_borders_cut_is_one_wherever_it_lies(tile, side):
    """Also one that is larger than the tiles' overlap, or than a tile, and is whole nowhere."""
    for left, top in itertools.product(range(0, 400 - side, 29), range(0, 300 - side, 23)):
        box = (left, top, left + side, top + side)
        table = merge(sightings_of([box], 400, 300, tile), NmsConfig())
        assert table.boxes.tolist() == [list(box)]


def test_neighbours_stay_apart():
    objects = [
        (40 * column + 3, 40 * row + 3, 40 * column + 37, 40 * row + 37) for row in range(7) for column in range(9)
    ]
    table = merge(sightings_of(objects, 400, 300, 110, with_whole=True), NmsConfig())
    assert sorted(map(tuple, table.boxes.tolist())) == sorted(objects)


def test_a_cut_object_in_a_picture_is_found_once(tmp_path):
    places = [(0, 0), (70, 110), (120, 80), (137, 93), (350, 250)]
    boxes = {image: [(1, left, top, left + 40, top + 30)] for image, (left, top) in enumerate(places)}
    scenes = scenes_of(tmp_path, [(400, 300)] * len(places), boxes, splits=["val"] * len(places), classes=("red",))
    for image in boxes:
        paint(400, 300, boxes[image], RED).save(tmp_path / f"{image}.png")
    found = searched(scenes, 120)
    assert found.table.images.tolist() == found.untiled.images.tolist() == list(range(len(places)))
    assert np.abs(found.table.boxes - scenes.boxes).max() < 1.5
    again = searched(scenes, 120, batch=5)
    for one, other in zip(found, again, strict=True):
        assert one.boxes.tolist() == other.boxes.tolist()  # wherever the batches end
    frames = [np.asarray(paint(400, 300, boxes[image], RED)) for image in boxes]
    videos = FrameDetector(find_red, SQUASH, CPU, batch_size=4, tile=120)(frames)
    assert videos.images.tolist() == found.table.images.tolist()
    assert np.abs(videos.boxes - scenes.boxes).max() < 1.5


def test_an_image_no_larger_than_a_tile_gives_what_it_gives_without(tmp_path):
    sizes = [(300, 240), (120, 90), (301, 299)]
    for suffix in ("png", "jpg"):
        for number, size in enumerate(sizes):
            photograph(*size, seed=number).save(tmp_path / f"{number}.{suffix}")
        scenes = scenes_of(tmp_path, sizes, {}, splits=["val"] * 3, suffix=suffix)
        seen = []

        def look(images, seen=seen):
            seen.append(images.clone())
            random = torch.Generator().manual_seed(len(images))
            first = torch.rand(len(images), 30, 2, generator=random) / 2
            boxes = torch.cat([first, first + torch.rand(len(images), 30, 2, generator=random) / 2], 2)
            scores = torch.rand(len(images), 30, generator=random).sort(1, descending=True)[0]
            return Detections(boxes, scores, torch.randint(1, 4, scores.shape, generator=random))

        plain, tiled = searched(scenes, None, detect=look), searched(scenes, 301, detect=look)
        assert torch.equal(*seen)
        for one in (*plain, *tiled):
            for name, column in one.columns().items():
                assert np.array_equal(column, plain.table.columns()[name]), name


def slow_merge(seen, limits):  # noqa: C901  # the rule as one would write it first
    """One image's sightings, a tuple (box, score, label, window) each, merged box by box."""
    rows = [
        (*(column.tolist() for column in (seen.table.boxes[row], seen.table.scores[row], seen.table.labels[row])),
         seen.windows[row].tolist())
        for row in range(len(seen.table))
    ]  # fmt: skip
    width, height = seen.sizes[0].tolist()

    def is_piece(row):
        box, window = row[0], row[3]
        slack = [0.01 * (window[2 + axis] - window[axis]) for axis in (0, 1)]
        return any(
            (window[axis] > 0 and box[axis] <= window[axis] + slack[axis])
            or (window[2 + axis] < side and box[2 + axis] >= window[2 + axis] - slack[axis])
            for axis, side in ((0, width), (1, height))
        )

    def clipped(box, window):
        return [max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])]

    def area(box):
        return max(0, box[2] - box[0]) * max(0, box[3] - box[1])

    def greedy(rows):
        kept = []
        for row in sorted(rows, key=lambda row: -row[1]):
            if all(slow_iou(row[0], other[0]) <= limits.iou_threshold for other in kept if other[2] == row[2]):
                kept.append(row)
        return kept

    whole = greedy([row for row in rows if not is_piece(row)])
    groups = []
    for row in sorted((row for row in rows if is_piece(row)), key=lambda row: -row[1]):
        rivals = [other for other in whole if other[2] == row[2]]
        if any(area(clipped(row[0], other[0])) > limits.iou_threshold * area(row[0]) for other in rivals):
            continue
        joins = []
        for group in groups:
            for other in group:
                shared = clipped(row[3], other[3])
                if other[2] == row[2] and area(shared) > 0 and shared[0] < shared[2]:
                    both = clipped(row[0], shared), clipped(other[0], shared)
                    if all(area(box) > 0 for box in both) and slow_iou(*both) > limits.iou_threshold:
                        joins.append(group)
                        break
        groups = [group for group in groups if not any(group is one for one in joins)] + [sum(joins, [row])]
    joined = []
    for group in groups:
        sides = list(zip(*(row[0] for row in group), strict=True))
        box = [min(sides[0]), min(sides[1]), max(sides[2]), max(sides[3])]
        joined.append((box, max(row[1] for row in group), group[0][2], None))
    return sorted((round(-row[1], 5), row[2], row[0]) for row in greedy(whole + joined))[: limits.per_image]


@pytest.mark.parametrize("limits", [NmsConfig(), NmsConfig(iou_threshold=0.3, per_image=12, candidates=12)], ids=str)
def test_merging_is_what_plain_loops_give(limits):
    random = np.random.default_rng(3)
    for _ in range(25):
        width, height, tile = 300, 200, 90
        windows = windows_of(width, height, tile)
        count = int(random.integers(1, 60))
        own = windows[random.integers(0, len(windows), count)].astype(np.float32)
        sides = own[:, 2:] - own[:, :2]
        ends = np.sort(random.choice(np.linspace(0, 1, 7), (2, count, 2)), axis=0).astype(np.float32)
        boxes = np.concatenate([own[:, :2] + ends[0] * sides, own[:, :2] + ends[1] * sides], axis=1)
        keep = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
        scores = random.permutation(np.linspace(0.06, 0.99, count)).astype(np.float32)
        table = DetectionTable(np.zeros(count, np.int64), random.integers(1, 3, count), scores, boxes)
        size = np.tile(np.array([[width, height]], np.float32), (count, 1))
        seen = Sightings(table, own, size).select(keep)
        if seen.in_whole_images().all():
            continue
        found = merge(seen, limits)
        rows = zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
        assert [(round(-score, 5), label, box) for score, label, box in rows] == slow_merge(seen, limits)


def test_the_figure_of_tiles_stands_beside_that_of_whole_images(tmp_path, monkeypatch):
    """And belongs to no published target."""
    boxes = {image: [(1, 60 * image + 5, 20, 60 * image + 13, 28)] for image in range(4)}
    scenes = scenes_of(tmp_path, [(400, 300)] * 4, boxes, splits=["val"] * 4, classes=("red",))
    for image in boxes:
        paint(400, 300, boxes[image], RED).save(tmp_path / f"{image}.png")
    recipe = replace(RECIPES["demo"], preprocessing=SQUASH, data=DataConfig(threads=1, tile=100))

    def find_if_large(self, images):
        """Nothing that is smaller than 12 pixels."""
        found = find_red(images)
        large = ((found.boxes[..., 2:] - found.boxes[..., :2]) * 300 >= 12).all(2)
        return Detections(found.boxes, found.scores * large, found.labels * large)

    monkeypatch.setattr(DetectionTask, "detect", find_if_large)
    data = SceneData(scenes, SQUASH, recipe.data, device=CPU)
    evaluation = DetectionTask(recipe, 1, scenes).evaluate(data.validation_batches())
    assert evaluation.metrics["ap50"] == 1
    assert evaluation.metrics["untiled_ap50"] == 0
    assert evaluation.predictions["image"].tolist() == [0, 1, 2, 3]
    assert len(DetectionTable.untiled(evaluation.predictions)) == 0  # what a server is compared with
    is_comparable, why = CHALLENGE.judgement.comparability(recipe, data)
    assert not is_comparable
    assert "tiles of 100 pixels" in why


def test_nothing_found_is_an_empty_answer(tmp_path):
    scenes = scenes_of(tmp_path, [(400, 300)], {}, splits=["val"])
    paint(400, 300, (), RED).save(tmp_path / "0.png")
    assert [len(table) for table in searched(scenes, 100)] == [0, 0]
