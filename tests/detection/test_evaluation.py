"""Average precision against pycocotools, published cases and hand-made ones; intervals against repeated data."""

import contextlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from challenges.detection import resampling
from challenges.detection.detections import DetectionTable
from challenges.detection.evaluation import IOU_THRESHOLDS, MOST, confusion, evaluate, ranked_classes
from challenges.detection.evaluation import voc_average_precision as voc
from challenges.detection.matching import Truth, match, overlapping_pairs, ranks
from challenges.detection.resampling import average_precisions
from challenges.detection.scenes import Scenes
from tests.detection.builders import scenes_of
from tests.detection.random_scenes import random_scenes_and_detections

NOWHERE = Path("nowhere")
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def table_of(rows):
    """Detections of (image, label, score, left, top, right, bottom)."""
    rows = sorted(rows, key=lambda row: (row[0], -row[2]))
    columns = np.array(rows, np.float64).reshape(-1, 7)
    images, labels = columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64)
    return DetectionTable(images, labels, columns[:, 2].astype(np.float32), columns[:, 3:].astype(np.float32))


def pycocotools_metrics(scenes, table):
    def annotations(images, labels, boxes, extra):
        corners = boxes.astype(float)
        corners[:, 2:] -= corners[:, :2]
        return [
            {
                "id": row + 1,
                "image_id": int(images[row]),
                "category_id": int(labels[row]) * 10,
                "bbox": box,
                **extra[row],
            }
            for row, box in enumerate(corners.tolist())
        ]

    truth = [
        {"area": float(area), "iscrowd": int(ignored)}
        for area, ignored in zip(scenes.areas, scenes.ignored, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": image} for image in range(len(scenes))],
            "categories": [{"id": 10 * label} for label in range(1, len(scenes.classes) + 1)],
            "annotations": annotations(scenes.image_of_box(), scenes.labels, scenes.boxes, truth),
        }
        annotated.createIndex()
        scores = [{"score": float(score)} for score in table.scores]
        found = annotated.loadRes(annotations(table.images, table.labels, table.boxes, scores))
        evaluator = COCOeval(annotated, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {**dict(zip(NAMES, evaluator.stats[:6], strict=True)), "ar100": evaluator.stats[8]}, evaluator


def own_precisions(scenes, table, weights):
    truth, rank = Truth.of(scenes), ranks(table)
    found = match(truth, overlapping_pairs(truth, table, 0.5), rank, IOU_THRESHOLDS.tolist(), MOST)
    return average_precisions(ranked_classes(scenes, table, found, rank), weights)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_pycocotools(seed):
    scenes, table = random_scenes_and_detections(seed, 30, most=12)
    scores = evaluate(scenes, table, resamples=0)
    expected, evaluator = pycocotools_metrics(scenes, table)
    for name, value in expected.items():
        assert scores.metrics[name] == pytest.approx(value, abs=1e-9), name
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    np.testing.assert_allclose(scores.per_class["ap"], precision.mean((0, 1)), atol=1e-9)
    np.testing.assert_allclose(scores.per_class["ap50"], precision[0].mean(0), atol=1e-9)
    np.testing.assert_allclose(scores.curves, precision[0].T, atol=1e-9)
    assert scores.intervals == {}


@pytest.mark.parametrize("seed", range(4))
def test_the_bootstrap_of_the_data_as_it_is_equals_the_official_precision(seed):
    scenes, table = random_scenes_and_detections(seed, 25, most=12, ignored=0.2)
    metrics = evaluate(scenes, table, resamples=0).metrics
    own = own_precisions(scenes, table, np.ones((1, len(scenes)), np.int64))
    assert own.mean() == pytest.approx(metrics["ap"], abs=1e-9)
    assert own[..., 0].mean() == pytest.approx(metrics["ap50"], abs=1e-9)


def test_an_image_drawn_twice_counts_as_two_images():
    scenes, table = random_scenes_and_detections(8, 12, classes=2)
    draws = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=5)
    table = replace(table, scores=np.random.default_rng(1).permutation(len(table)).astype(np.float32))
    own = own_precisions(scenes, table, draws).mean((0, 2))
    for weights, value in zip(draws, own, strict=True):
        rows = np.repeat(np.arange(12), weights)
        copies = [replace(table.select(table.images == row)) for row in rows]
        copies = [replace(part, images=np.full(len(part), place)) for place, part in enumerate(copies)]
        metrics = evaluate(scenes.select(rows), DetectionTable.join(copies), resamples=0).metrics
        assert value == pytest.approx(metrics["ap"], abs=1e-9)


def test_intervals_surround_the_estimate_and_repeat_with_the_seed():
    scenes, table = random_scenes_and_detections(2, 40)
    first, second = (evaluate(scenes, table, resamples=300, seed=seed) for seed in (4, 4))
    assert first.intervals == second.intervals
    assert first.resamples == 300
    for name in ("ap", "ap50"):
        low, high = first.intervals[name]
        assert 0 <= low < first.metrics[name] < high <= 1
        assert 0.02 < high - low < 0.4


def test_large_data_gets_fewer_draws(monkeypatch):
    scenes, table = random_scenes_and_detections(2, 10)
    monkeypatch.setattr(resampling, "WORK", 10)
    monkeypatch.setattr(resampling, "FEWEST", 7)
    assert evaluate(scenes, table).resamples == 7


SCENES = scenes_of(
    NOWHERE,
    [(200, 200)] * 3,
    {0: [(1, 10, 10, 50, 50), (2, 60, 60, 160, 160)], 1: [(1, 0, 0, 100, 100)]},
)


def test_without_detections_the_precision_is_0_and_undefined_sizes_stay_undefined():
    scores = evaluate(SCENES, table_of([]))
    assert {name: scores.metrics[name] for name in ("ap", "ap50", "ap75", "ar100", "voc_ap50")} == dict.fromkeys(
        ("ap", "ap50", "ap75", "ar100", "voc_ap50"), 0.0
    )
    assert math.isnan(scores.metrics["ap_small"])
    assert scores.metrics["ap_large"] == 0
    assert scores.intervals == {"ap": (0.0, 0.0), "ap50": (0.0, 0.0)}
    assert scores.per_class["ap"][:2].tolist() == [0, 0]
    assert math.isnan(scores.per_class["ap"][2])
    assert scores.per_class["boxes"].tolist() == [2, 1, 0]
    assert not scores.curves[:2].any()
    assert np.isnan(scores.curves[2]).all()
    assert scores.matches.detection_of_box.tolist() == [-1, -1, -1]


def test_perfect_detections():
    rows = zip(SCENES.image_of_box(), SCENES.labels, [0.9, 0.8, 0.7], *SCENES.boxes.T, strict=True)
    scores = evaluate(SCENES, table_of(rows))
    assert scores.metrics["ap"] == scores.metrics["voc_ap50"] == scores.metrics["ar100"] == pytest.approx(1)
    assert scores.intervals["ap"] == pytest.approx((1, 1))
    assert scores.matches.detection_of_box.tolist() == [0, 1, 2]
    assert scores.matches.is_correct.all()


def test_data_without_boxes_has_no_precision():
    empty = scenes_of(NOWHERE, [(50, 50)] * 2, {})
    for rows in ([], [(0, 1, 0.5, 0, 0, 9, 9)]):
        scores = evaluate(empty, table_of(rows))
        assert all(math.isnan(value) for value in scores.metrics.values())
        assert scores.intervals == {}
        assert not scores.matches.is_correct.any()


def test_matches_mark_true_false_and_ignored():
    scenes = scenes_of(
        NOWHERE,
        [(200, 200)],
        {0: [(1, 0, 0, 100, 100), (1, 100, 100, 200, 200), (2, 0, 0, 50, 50)]},
        ignored=[(0, 1)],
    )
    rows = [
        (0, 1, 0.9, 0, 0, 100, 90),  # finds the first
        (0, 1, 0.8, 0, 0, 100, 100),  # comes too late
        (0, 1, 0.7, 120, 120, 160, 160),  # inside the ignored one
        (0, 1, 0.6, 110, 110, 190, 190),  # so is this
        (0, 2, 0.5, 150, 0, 200, 50),  # finds nothing
    ]
    matches = evaluate(scenes, table_of(rows)).matches
    assert matches.is_correct.tolist() == [True, False, False, False, False]
    assert matches.is_ignored.tolist() == [False, False, True, True, False]
    assert matches.detection_of_box.tolist() == [0, 2, -1]


def test_confusion_counts_mistakes_misses_and_inventions():
    scenes = scenes_of(
        NOWHERE,
        [(400, 400)] * 2,
        {0: [(1, 0, 0, 100, 100), (2, 200, 200, 300, 300), (3, 0, 200, 90, 300)], 1: [(1, 0, 0, 90, 90)]},
        ignored=[(1, 0)],
    )
    rows = [
        (0, 1, 0.9, 0, 0, 100, 100),  # right
        (0, 3, 0.95, 0, 0, 100, 99),  # surer, but that box is another detection's: an invention
        (0, 1, 0.8, 200, 200, 300, 290),  # a 2 taken for a 1
        (0, 3, 0.2, 0, 200, 90, 300),  # too unsure: the 3 is missed
        (0, 2, 0.7, 320, 0, 390, 90),  # an invention
        (1, 1, 0.9, 10, 10, 80, 80),  # of an ignored box
    ]
    expected = np.zeros((4, 4), int)
    expected[1, 1] = expected[2, 1] = expected[0, 3] = expected[0, 2] = expected[3, 0] = 1
    assert (confusion(scenes, table_of(rows)) == expected).all()
    assert confusion(scenes, table_of([]))[:, 0].tolist() == [0, 1, 1, 1]


def test_voc_ignores_difficult_boxes_and_counts_a_box_once():
    scenes = scenes_of(
        NOWHERE,
        [(200, 200)],
        {0: [(1, 0, 0, 100, 100), (1, 100, 100, 200, 200), (1, 0, 150, 40, 190)]},
        ignored=[(0, 1)],
    )
    table = table_of(
        [
            (0, 1, 0.9, 100, 100, 200, 200),  # difficult: does not count
            (0, 1, 0.8, 0, 0, 100, 90),  # right
            (0, 1, 0.7, 0, 0, 100, 100),  # again: wrong
            (0, 1, 0.6, 0, 150, 40, 190),  # right
        ]
    )
    truth = Truth.of(scenes)
    pairs = overlapping_pairs(truth, table, 0.5)
    assert voc(truth, table, pairs, 0.5, 3)[0] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert np.isnan(voc(truth, table, pairs, 0.5, 3)[1:]).all()
    assert evaluate(scenes, table).metrics["voc_ap50"] == pytest.approx(0.5 + 0.5 * 2 / 3)


@pytest.mark.dataset
def test_voc_oracle(shared_data):
    """The published case of Padilla's object-detection metrics: 7 images, 15 boxes, 24 detections of one class.

    Its corners are pixels that belong to the box, the kit's right and bottom are the next ones: hence 1 more.
    """
    folder = shared_data / "vision" / "oracles" / "voc_padilla_case1"
    boxes, rows = {}, []
    for image in range(7):
        for line in (folder / "gts" / f"{image + 1:05}.txt").read_text().splitlines():
            left, top, width, height = map(float, line.split()[1:])
            boxes.setdefault(image, []).append((1, left, top, left + width + 1, top + height + 1))
        for line in (folder / "dets" / f"{image + 1:05}.txt").read_text().splitlines():
            score, left, top, width, height = map(float, line.split()[1:])
            rows.append((image, 1, score, left, top, left + width + 1, top + height + 1))
    scenes, table = scenes_of(folder, [(200, 200)] * 7, boxes), table_of(rows)
    assert (len(scenes.boxes), len(table)) == (15, 24)
    truth = Truth.of(scenes)
    pairs = overlapping_pairs(truth, table, 0.05)
    cases = {
        0.1: 0.3371980676,
        0.3: 0.2456866804,
        0.5: 0.0222222222,
        0.75: 0.0,
    }
    for threshold, area in cases.items():
        assert voc(truth, table, pairs, threshold, 1)[0] == pytest.approx(area, abs=1e-9)


@pytest.mark.dataset
def test_coco_oracle(shared_data):
    folder = shared_data / "vision" / "oracles" / "coco_fakebbox100"
    truth = json.loads((folder / "sampled_gts_bbox_area.json").read_text())
    images = {image["id"]: row for row, image in enumerate(sorted(truth["images"], key=lambda image: image["id"]))}
    labels = {category["id"]: row + 1 for row, category in enumerate(truth["categories"])}
    annotations = sorted(truth["annotations"], key=lambda box: images[box["image_id"]])
    corners = np.array([box["bbox"] for box in annotations])
    corners[:, 2:] += corners[:, :2]
    counts = np.bincount([images[box["image_id"]] for box in annotations], minlength=len(images))
    blank = scenes_of(folder, [(640, 640)] * len(images), {}, classes=[str(number) for number in labels])
    scenes: Scenes = replace(
        blank,
        offsets=np.append(0, np.cumsum(counts)),
        boxes=corners.astype(np.float32),
        labels=np.array([labels[box["category_id"]] for box in annotations]),
        areas=np.array([box["area"] for box in annotations], np.float32),
        ignored=np.array([bool(box["iscrowd"]) for box in annotations]),
    )
    rows = [
        (images[row["image_id"]], labels[row["category_id"]], row["score"], x, y, x + width, y + height)
        for row in json.loads((folder / "cocoapi_results.json").read_text())
        for x, y, width, height in [row["bbox"]]
    ]
    scores = evaluate(scenes, table_of(rows))
    expected = [0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363]
    for name, value in {**dict(zip(NAMES, expected, strict=True)), "ar100": 0.595353}.items():
        assert scores.metrics[name] == pytest.approx(value, abs=1e-6), name
    low, high = scores.intervals["ap"]
    assert low < 0.503647 < high
