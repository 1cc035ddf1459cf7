"""Boxes and detections at random, some of which agree."""

from pathlib import Path

import numpy as np

from challenges.detection.detections import DetectionTable
from challenges.detection.scenes import Scenes
from tests.detection.builders import scenes_of


def random_scenes_and_detections(
    seed: int, images: int, *, classes: int = 3, most: int = 8, ignored: float = 0.1, size: float = 60.0
) -> tuple[Scenes, DetectionTable]:
    """Up to `most` boxes and about twice as many detections per image, of scores with ties; some images have none."""
    generator = np.random.default_rng(seed)
    boxes: dict[int, list[tuple[int, float, float, float, float]]] = {}
    rows: list[tuple[int, int, float, tuple[float, ...]]] = []
    hidden = []
    for image in range(images):
        count = int(generator.integers(0, most + 1))
        starts = np.round(generator.uniform(0, 300, (count, 2)), 1)
        sides = np.round(generator.lognormal(np.log(size), 0.8, (count, 2)) + 1, 1)
        labels = generator.integers(1, classes + 1, count)
        boxes[image] = [
            (int(label), *start, *end)
            for label, start, end in zip(labels, starts.tolist(), (starts + sides).tolist(), strict=True)
        ]
        hidden += [(image, place) for place in range(count) if generator.random() < ignored]
        for _ in range(int(generator.integers(0, 2 * most + 1))):
            label, corners = int(generator.integers(1, classes + 1)), generator.uniform(0, 300, 4)
            if count and generator.random() < 0.7:
                label, *corners = boxes[image][generator.integers(count)]
                corners = np.array(corners) + generator.normal(0, size / 8, 4)
            corners[2:] = np.maximum(corners[2:], corners[:2] + 1)
            rows.append((image, label, round(generator.random(), 1), tuple(corners)))
    rows.sort(key=lambda row: (row[0], -row[2]))
    names = [f"class {label}" for label in range(1, classes + 1)]
    scenes = scenes_of(Path("nowhere"), [(400, 400)] * images, boxes, ignored=hidden, classes=names)
    return scenes, DetectionTable(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
        np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
    )
