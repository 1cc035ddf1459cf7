"""Scenes: images with boxes around what is in them, as training, evaluation and reports read them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.files import read_csv, read_json, sha256, write_csv

IMAGE_COLUMNS = ("path", "split", "width", "height", "sha256")
BOX_COLUMNS = ("image", "class", "left", "top", "right", "bottom", "area", "ignored")


@dataclass(frozen=True, eq=False)
class Scenes:
    """One row per usable image, in the order of `paths`, and one row per box, in the images' order.

    classes:         names of the foreground classes; label 0 is the background, label k is classes[k - 1].
    category_ids:    the data's own number of each class, in the order of `classes`; gaps are kept.
    paths:           (image,) str, relative to `root`, with forward slashes.
    widths, heights: (image,) int32 pixels, after the EXIF orientation; boxes lie in these pixels.
    splits:          (image,) str, "train" or "val".
    digests:         (image,) str, sha256 of the file in hex.
    offsets:         (image + 1,) int64; the boxes of image i are rows offsets[i] to offsets[i + 1]; there may be none.
    boxes:           (box, 4) float32 pixels: left, top, right, bottom; right and bottom exclusive.
    labels:          (box,) int64 from 1 on.
    areas:           (box,) float32 square pixels, the segment's where the data states it; decides small, medium, large.
    ignored:         (box,) bool: crowds (COCO) and difficult objects (VOC): never trained on, never counted as missed.
    fingerprint:     changes whenever any file of the data does.
    """

    root: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    paths: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    splits: np.ndarray
    digests: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def image_of_box(self) -> np.ndarray:
        """(box,) int64: the row of the image that each box belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def subset(self, split: str) -> "Scenes":
        """The images of `train` or `val`, with all classes."""
        return self.select(np.flatnonzero(self.splits == split))

    def select(self, rows: np.ndarray) -> "Scenes":
        """The images at the given positions, in that order, with their boxes."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        of_box = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        images = {name: getattr(self, name)[rows] for name in ("paths", "widths", "heights", "splits", "digests")}
        boxes = {name: getattr(self, name)[of_box] for name in ("boxes", "labels", "areas", "ignored")}
        return replace(self, offsets=offsets, **images, **boxes)

    def write(self, folder: Path) -> None:
        """Write images.csv and boxes.csv; what they share lives in the check.json that the check writes beside them."""
        images = (self.paths, self.splits, self.widths, self.heights, self.digests)
        write_csv(folder / "images.csv", IMAGE_COLUMNS, zip(*(column.tolist() for column in images), strict=True))
        boxes = (self.image_of_box(), self.labels, *self.boxes.T, self.areas, self.ignored.astype(int))
        write_csv(folder / "boxes.csv", BOX_COLUMNS, zip(*(column.tolist() for column in boxes), strict=True))

    @staticmethod
    def read(folder: Path) -> "Scenes":
        """Read what `write` wrote, and check.json beside it, which names root, classes, category_ids, fingerprint and
        `sha256` (file name -> digest of images.csv and boxes.csv).

        Raises DataError when any of them is missing or damaged.
        """
        try:
            check = read_json(folder / "check.json")
            for name, digest in check["sha256"].items():
                if sha256(folder / name) != digest:
                    raise ValueError(f"{name} is not the file that was written")
            images, boxes = read_csv(folder / "images.csv"), read_csv(folder / "boxes.csv")
            counts = np.bincount([int(row["image"]) for row in boxes], minlength=len(images))
            corners = [[float(row[name]) for name in ("left", "top", "right", "bottom")] for row in boxes]
            return Scenes(
                root=Path(check["root"]),
                classes=tuple(check["classes"]),
                category_ids=tuple(check["category_ids"]),
                paths=np.asarray([row["path"] for row in images], object),
                widths=np.asarray([row["width"] for row in images], np.int32),
                heights=np.asarray([row["height"] for row in images], np.int32),
                splits=np.asarray([row["split"] for row in images], object),
                digests=np.asarray([row["sha256"] for row in images], object),
                offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                boxes=np.asarray(corners, np.float32).reshape(-1, 4),
                labels=np.asarray([row["class"] for row in boxes], np.int64),
                areas=np.asarray([row["area"] for row in boxes], np.float32),
                ignored=np.asarray([row["ignored"] == "1" for row in boxes], bool),
                fingerprint=check["fingerprint"],
            )
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"The record of the data in {folder} cannot be read: {error!r}.",
                remedy=f"Delete {folder} and check the data again.",
            ) from None
