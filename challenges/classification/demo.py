"""The demo photographs: ten everyday objects, rendered, as training and validation folders of JPEG files.

A known share of the pictures carries a wrong label on purpose, as real collections do: the picture shows another class
than its folder says, and nothing in it tells. Whoever recognises every object is wrong on exactly that share.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from challenges.classification.demo_objects import OBJECTS
from challenges.classification.demo_scene import render
from common.errors import DataError, TrainingError
from common.files import read_json, sync_folder, write_json
from common.processes import map_in_processes, usable_cores
from common.progress import counting

VERSION = 1  # another number means other pictures for the same seed
MARKER = "demo.json"
IMAGES_PER_CLASS = (200, 50)
SIZE = 160
MISLABELLED = 0.04
ABANDONED_AFTER_S = 3600
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


BEST_REACHABLE_ACCURACY = _describe(IMAGES_PER_CLASS, SIZE, 0).best_reachable_accuracy
"""Validation accuracy of recognising every object in the default pictures: no more can be learnt."""


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
    if _is_whole(folder, description):
        return folder
    _refuse_foreign(folder)
    shell = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        shell = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        partial = shell / "new"
        _fill(
            partial,
            description,
            workers,
            counting("making demo photographs", console) if progress is None else nullcontext(progress),
        )
        _replace(folder, partial)
    except OSError as error:
        raise TrainingError(
            f"The demo photographs cannot be written to {folder}: {(error.strerror or str(error)).lower()}.",
            f"About {sum(images_per_class) * len(CLASSES) * size * size * 0.35 / 1e6:.0f} MB are needed.",
            "Set CHALLENGE_KIT_CACHE to a writable folder with free space.",
        ) from None
    finally:
        if shell is not None:
            shutil.rmtree(shell, ignore_errors=True)
    return folder


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


def _refuse_foreign(folder: Path) -> None:
    """Only what this module made may be replaced."""
    if folder.exists() and not (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir()))):
        raise DataError(
            f"{folder} exists and holds something else than demo photographs.",
            "They are only written to a new or empty folder.",
            "Name another folder, or set CHALLENGE_KIT_CACHE to one.",
        )


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed generations left behind; one that is under way is younger."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)


def _fill(
    folder: Path,
    description: _Description,
    workers: int | None,
    counter: AbstractContextManager[Callable[[int, int], None]],
) -> None:
    orders = list(_orders(folder, description))
    for parent in {order.file.parent for order in orders}:
        parent.mkdir(parents=True)
    if workers == 0:
        results: Iterator[None] = map(_make, orders)
    else:
        results = map_in_processes(_make, orders, workers or usable_cores(), when_lost=_lost)
    with counter as count:
        for done, _ in enumerate(results, start=1):
            count(done, len(orders))
    write_json(folder / MARKER, asdict(description))


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


def _lost(order: _Order, exit_code: int | None) -> None:
    raise OSError(f"the process that made {order.file.name} ended with code {exit_code}")


def _replace(folder: Path, partial: Path) -> None:
    """Give the finished pictures their name; where another process was faster, its identical ones stay."""
    if folder.exists():
        os.rename(folder, partial.with_name("old"))
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / MARKER).is_file():
            raise
    sync_folder(folder.parent)
