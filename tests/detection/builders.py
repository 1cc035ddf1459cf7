"""Small sets of scenes for the tests of what reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from challenges.detection.scenes import Scenes

Box = tuple[int, float, float, float, float]  # label, left, top, right, bottom


def scenes_of(
    root: Path,
    sizes: Sequence[tuple[int, int]],
    boxes: Mapping[int, Sequence[Box]],
    *,
    classes: Sequence[str] = ("cat", "dog", "owl"),
    splits: Sequence[str] | None = None,
    ignored: Sequence[tuple[int, int]] = (),
    suffix: str = "png",
) -> Scenes:
    """Scenes of images with the given (width, height), named 0.png, 1.png, ...; `ignored` holds (image, box) pairs."""
    rows = [(image, place, box) for image in range(len(sizes)) for place, box in enumerate(boxes.get(image, ()))]
    corners = np.array([box[1:] for _, _, box in rows], np.float32).reshape(-1, 4)
    counts = np.bincount([image for image, _, _ in rows], minlength=len(sizes))
    return Scenes(
        root=root,
        classes=tuple(classes),
        category_ids=tuple(range(1, len(classes) + 1)),
        paths=np.array([f"{index}.{suffix}" for index in range(len(sizes))], object),
        widths=np.array([width for width, _ in sizes], np.int32),
        heights=np.array([height for _, height in sizes], np.int32),
        splits=np.array(splits or ["train"] * len(sizes), object),
        digests=np.array([""] * len(sizes), object),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=corners,
        labels=np.array([box[0] for _, _, box in rows], np.int64),
        areas=(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]),
        ignored=np.array([(image, place) in set(ignored) for image, place, _ in rows], bool),
        fingerprint="test",
    )


def paint(width: int, height: int, boxes: Sequence[Box], colours: Mapping[int, tuple[int, int, int]]) -> Image.Image:
    """A dark picture with every box filled in its label's colour."""
    pixels = np.full((height, width, 3), 12, np.uint8)
    for label, left, top, right, bottom in boxes:
        pixels[int(top) : int(bottom), int(left) : int(right)] = colours[label]
    return Image.fromarray(pixels)
