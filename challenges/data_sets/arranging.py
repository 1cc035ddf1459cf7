"""Layouts of publishers that the kit does not read, made into folders of pictures by split and class."""

import gzip
import shutil
import struct
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from challenges.data_sets.entry import Arrange
from common.errors import DataError
from common.files import write_text
from common.terminal.progress import Counter

PICTURES = "pictures"
"""The folder that all of them make."""


def of_arrays(source: str, classes: Sequence[str]) -> Arrange:
    """From NumPy's arrays: train, val and test with images (picture, height, width[, 3]) and labels (picture, 1).

    source: the folder with the arrays. classes: by label.
    """

    def arrange(folder: Path, count: Counter) -> None:
        splits = {
            split: tuple(
                np.load(folder / source / f"{split}_{kind}.npy", mmap_mode="r") for kind in ("images", "labels")
            )
            for split in ("train", "val", "test")
        }
        total = sum(len(images) for images, _ in splits.values())
        rows = chain.from_iterable(_rows(split, images, labels) for split, (images, labels) in splits.items())
        _write_pictures(folder, rows, classes, total, count)
        shutil.rmtree(folder / source)

    return arrange


def of_idx(source: str, classes: Sequence[str]) -> Arrange:
    """From MNIST's gzipped files of bytes, train and t10k, which become train and test.

    source: the folder with the four files. classes: by label.
    """

    def arrange(folder: Path, count: Counter) -> None:
        splits = {
            split: (
                _read_idx(folder / source / f"{name}-images-idx3-ubyte.gz", 3),
                _read_idx(folder / source / f"{name}-labels-idx1-ubyte.gz", 1),
            )
            for split, name in (("train", "train"), ("test", "t10k"))
        }
        total = sum(len(images) for images, _ in splits.values())
        rows = chain.from_iterable(_rows(split, images, labels) for split, (images, labels) in splits.items())
        _write_pictures(folder, rows, classes, total, count)
        shutil.rmtree(folder / source)

    return arrange


def pets(folder: Path, count: Counter) -> None:
    """Pictures called BREED_NUMBER.jpg in one folder, and lists of those to train and to test with."""
    chosen = [
        (split, line.split()[0])
        for split, name in (("train", "trainval"), ("test", "test"))
        for line in (folder / "annotations" / f"{name}.txt").read_text(encoding="ascii").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    for done, (split, name) in enumerate(chosen, start=1):
        if Path(name).name != name:
            raise DataError(f"A list of pets names {name[:100]!r}.", "It names pictures.", "Fetch the data set again.")
        target = folder / PICTURES / split / name.rpartition("_")[0].replace("_", " ")
        target.mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{name}.jpg").rename(target / f"{name}.jpg")
        count(done, len(chosen))
    for source in ("images", "annotations"):
        shutil.rmtree(folder / source)


def ppm_as_png(folder: Path, count: Counter) -> None:
    """Pictures of the kind PPM become PNG, pixel by pixel, where they lie."""
    paths = sorted(folder.rglob("*.ppm"))
    for done, path in enumerate(paths, start=1):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".png"))
        path.unlink()
        count(done, len(paths))


def with_class_names(source: str, classes: Sequence[str]) -> Arrange:
    """A list of YOLO's classes beside its folders; a data.yaml that came with them counts before it.

    source: the folder with the data set.
    """

    def arrange(folder: Path, count: Counter) -> None:
        write_text(folder / source / "classes.txt", "".join(f"{name}\n" for name in classes))
        count(1, 1)

    return arrange


Row = tuple[str, int, Any]
"""Split, label and pixels (height, width[, 3])."""


def _rows(split: str, images: Any, labels: Any) -> Iterator[Row]:
    if len(images) != len(labels):
        raise DataError(f"{split} has {len(images)} pictures and {len(labels)} labels.", "There is a label for each.")
    for pixels, label in zip(images, np.asarray(labels).reshape(len(labels), -1), strict=True):
        yield split, int(label[0]), pixels


def _write_pictures(folder: Path, rows: Iterator[Row], classes: Sequence[str], total: int, count: Counter) -> None:
    numbers: Tally[tuple[str, int]] = Tally()
    for done, (split, label, pixels) in enumerate(rows, start=1):
        if not 0 <= label < len(classes):
            raise DataError(f"A picture of {split} has the label {label}.", f"There are {len(classes)} classes.")
        target = folder / PICTURES / split / classes[label]
        numbers[split, label] += 1
        if numbers[split, label] == 1:
            target.mkdir(parents=True)
        Image.fromarray(np.asarray(pixels)).save(target / f"{numbers[split, label]:06}.png")
        count(done, total)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Bytes in the shape that the file's head names; raises DataError where it holds others."""
    with gzip.open(path) as stream:
        head = stream.read(4 + 4 * dimensions)
        if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
            raise DataError(f"{path.name} is no IDX file of {dimensions} dimensions.", "MNIST's files are such.")
        shape = struct.unpack(f">{dimensions}I", head[4:])
        size = int(np.prod(shape, dtype=np.int64))
        content = stream.read(size + 1)
    if len(content) != size:
        raise DataError(f"{path.name} does not hold {' × '.join(map(str, shape))} bytes.", "Its head says so.")
    return np.frombuffer(content, np.uint8).reshape(shape)
