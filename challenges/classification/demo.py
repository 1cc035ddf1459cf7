"""The demo photographs: ten everyday objects, rendered, as training and validation folders of JPEG files.

A known share of the pictures carries a wrong label on purpose, as real collections do: the picture shows another class
than its folder says, and nothing in it tells. Whoever recognises every object is wrong on exactly that share.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from common.errors import DataError
from common.files import read_json, write_json
from common.storage.generated_folder import generate_folder, make_files
from common.terminal.progress import counting
from common.vision.drawing.objects import OBJECTS
from common.vision.drawing.scene import render

VERSION = 1  # another number means other pictures for the same seed
MARKER = "demo.json"
IMAGES_PER_CLASS = (200, 50)
SIZE = 112
MISLABELLED = 0.04
CLASSES = tuple(sorted(OBJECTS))


@dataclass(frozen=True)
class _Description:
    """What the pictures depend on, and what can be reached with them; the marker's content."""

    version: int
    seed: int
    size: int
    train_per_class: int
    val_per_class: int
    mislabelled_train: int
    mislabelled_val: int
    best_reachable_accuracy: float
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Order:
    """One picture to be made: `number` of `label` in `split`, showing `shown`."""

    file: Path
    split: str
    label: int
    number: int
    shown: str
    seed: int
    size: int


def _describe(images_per_class: tuple[int, int], size: int, seed: int) -> _Description:
    train, val = images_per_class
    wrong_train, wrong_val = round(train * MISLABELLED), round(val * MISLABELLED)
    return _Description(VERSION, seed, size, train, val, wrong_train, wrong_val, 1 - wrong_val / max(val, 1), CLASSES)


def generate(
    folder: Path,
    *,
    images_per_class: tuple[int, int] = IMAGES_PER_CLASS,
    size: int = SIZE,
    seed: int = 0,
    workers: int | None = None,
    console: Console | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make folder/{train,val}/<class>/<number>.jpg, or find it whole, and return `folder`.

    images_per_class: for training and for validation. size: pixels around which the sides vary.
    workers:  processes; the files' bytes do not depend on it. None: one per usable core; 0: in this process.
    console, progress: where progress is shown, or a callable that is told (done, in all) instead.
    The folder takes its name when all is there. Raises DataError where it holds anything else.
    """
    if min(images_per_class) < 1 or size < 32:
        raise DataError(
            f"Demo photographs of {size} pixels, {images_per_class} a class.", "At least 32 pixels and 1 a class."
        )
    folder = folder.absolute()
    description = _describe(images_per_class, size, seed)

    def fill(new: Path) -> None:
        counter = counting("making demo photographs", console) if progress is None else nullcontext(progress)
        make_files(_make, list(_orders(new, description)), workers, counter)
        write_json(new / MARKER, asdict(description))

    megabytes = sum(images_per_class) * len(CLASSES) * size * size * 0.35 / 1e6
    is_whole = partial(_is_whole, folder, description)
    return generate_folder(folder, MARKER, "demo photographs", megabytes, is_whole, fill)


def is_demo(folder: Path) -> bool:
    """Whether the folder holds the demo photographs that `generate` makes by default."""
    return _is_whole(folder, _describe(IMAGES_PER_CLASS, SIZE, 0))


def _is_whole(folder: Path, description: _Description) -> bool:
    try:
        if read_json(folder / MARKER) != asdict(description) | {"classes": list(CLASSES)}:
            return False
        wanted = {"train": description.train_per_class, "val": description.val_per_class}
        return all(
            len(os.listdir(folder / split / name)) == count for split, count in wanted.items() for name in CLASSES
        )
    except (OSError, ValueError):
        return False


def _orders(folder: Path, description: _Description) -> Iterator[_Order]:
    counts = {
        "train": (description.train_per_class, description.mislabelled_train),
        "val": (description.val_per_class, description.mislabelled_val),
    }
    for split, (count, wrong) in counts.items():
        for label, name in enumerate(CLASSES):
            random = np.random.default_rng([description.seed, split == "val", label, 2**31])
            swapped = set(random.choice(count, wrong, replace=False).tolist())
            others = [other for other in CLASSES if other != name]
            for number in range(count):
                shown = others[random.integers(len(others))] if number in swapped else name
                file = folder / split / name / f"{number:04d}.jpg"
                yield _Order(file, split, label, number, shown, description.seed, description.size)


def _make(order: _Order) -> None:
    """Render and write one picture; its random numbers depend on its place alone."""
    random = np.random.default_rng([order.seed, order.split == "val", order.label, order.number])
    picture = render(order.shown, random, order.size)
    picture.save(order.file, "JPEG", quality=int(random.integers(62, 94)))
