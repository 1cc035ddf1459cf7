"""The demo scenes: everyday objects on floors, rendered, as a folder of JPEG files with COCO annotations."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from common.errors import DataError
from common.files import read_json, write_json
from common.storage.generated_folder import generate_folder, make_files
from common.terminal.progress import counting
from common.vision.drawing.many_objects import Found, render_several

VERSION = 1  # another number means other pictures for the same seed
MARKER = "demo.json"
IMAGES = (400, 80)
WIDTHS, HEIGHTS = (240, 320), (180, 240)
CLASSES = ("chair", "doughnut", "mug", "mushroom")
OBJECTS_PER_IMAGE = (0.06, 0.2, 0.26, 0.22, 0.16, 0.1)  # probabilities of placing none, one, two ...


@dataclass(frozen=True)
class _Description:
    """What the scenes depend on; the marker's content."""

    version: int
    seed: int
    train: int
    val: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Order:
    """One scene to be made: `number` of `split`."""

    file: Path
    split: str
    number: int
    seed: int


@dataclass(frozen=True)
class _Scene:
    """What was drawn in a file."""

    order: _Order
    width: int
    height: int
    found: tuple[Found, ...]


def generate(
    folder: Path,
    *,
    images: tuple[int, int] = IMAGES,
    seed: int = 0,
    workers: int | None = None,
    console: Console | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make folder/images/{train,val}/<number>.jpg and annotations/instances_{train,val}.json, or find them whole.

    images:   for training and for validation.
    workers:  processes; the files' bytes do not depend on it. None: one per usable core; 0: in this process.
    console, progress: where progress is shown, or a callable that is told (done, in all) instead.
    returns:  `folder`, which takes its name when all is there. Raises DataError where it holds anything else.
    """
    if min(images) < 1:
        raise DataError(f"Demo scenes: {images[0]} for training and {images[1]} for validation.", "At least 1 of each.")
    folder = folder.absolute()
    description = _Description(VERSION, seed, *images, CLASSES)

    def fill(new: Path) -> None:
        counter = counting("making demo scenes", console) if progress is None else nullcontext(progress)
        scenes = make_files(_make, list(_orders(new, description)), workers, counter)
        for split in ("train", "val"):
            chosen = sorted((scene for scene in scenes if scene.order.split == split), key=lambda s: s.order.number)
            write_json(_annotations_file(new, split), _annotations(chosen))
        write_json(new / MARKER, asdict(description))

    is_whole = partial(_is_whole, folder, description)
    return generate_folder(folder, MARKER, "demo scenes", sum(images) * 0.02, is_whole, fill)


def is_demo(folder: Path) -> bool:
    """Whether the folder holds the demo scenes that `generate` makes by default."""
    return _is_whole(folder, _Description(VERSION, 0, *IMAGES, CLASSES))


def _is_whole(folder: Path, description: _Description) -> bool:
    try:
        if read_json(folder / MARKER) != asdict(description) | {"classes": list(CLASSES)}:
            return False
        wanted = {"train": description.train, "val": description.val}
        return all(
            len(os.listdir(folder / "images" / split)) == count and _annotations_file(folder, split).is_file()
            for split, count in wanted.items()
        )
    except (OSError, ValueError):
        return False


def _annotations_file(folder: Path, split: str) -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def _orders(folder: Path, description: _Description) -> Iterator[_Order]:
    for split, count in (("train", description.train), ("val", description.val)):
        for number in range(count):
            yield _Order(folder / "images" / split / f"{number:04d}.jpg", split, number, description.seed)


def _make(order: _Order) -> _Scene:
    """Render and write one scene; its random numbers depend on its place alone."""
    random = np.random.default_rng([order.seed, order.split == "val", order.number])
    count = int(random.choice(len(OBJECTS_PER_IMAGE), p=OBJECTS_PER_IMAGE))
    names = [CLASSES[label] for label in random.integers(0, len(CLASSES), count)]
    width, height = (int(random.integers(low, high + 1)) for low, high in (WIDTHS, HEIGHTS))
    picture, found = render_several(names, random, width, height)
    picture.save(order.file, "JPEG", quality=int(random.integers(70, 94)))
    return _Scene(order, width, height, tuple(found))


def _annotations(scenes: Sequence[_Scene]) -> dict[str, Any]:
    """COCO's tables of the scenes of one split."""
    images = [
        {"id": number, "file_name": scene.order.file.name, "width": scene.width, "height": scene.height}
        for number, scene in enumerate(scenes, start=1)
    ]
    objects = [(number, found) for number, scene in enumerate(scenes, start=1) for found in scene.found]
    annotations = []
    for number, (image, found) in enumerate(objects, start=1):
        left, top, right, bottom = found.box
        annotations.append(
            {
                "id": number,
                "image_id": image,
                "category_id": CLASSES.index(found.name) + 1,
                "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
                "area": round(found.area, 2),
                "iscrowd": 0,
            }
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
