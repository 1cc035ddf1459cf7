"""The manifest: which picture belongs to which class and split, as training reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.files import read_csv, read_json, sha256, write_csv

COLUMNS = ("path", "class", "split", "width", "height", "bytes", "mtime_ns", "sha256")


@dataclass(frozen=True, eq=False)
class Manifest:
    """One row per usable picture, in the order of `paths`.

    classes:         names in the order of the labels.
    paths:           (row,) str, relative to `root`, with forward slashes.
    labels:          (row,) int64, positions in `classes`.
    widths, heights: (row,) int32 pixels, after the EXIF orientation.
    splits:          (row,) str, "train", "val" or "test".
    sizes:           (row,) int64 bytes.
    mtimes_ns:       (row,) int64.
    digests:         (row,) str, sha256 of the file in hex.
    fingerprint:     of the folder at the time of the check, see `image_folders.Listing`.
    """

    root: Path
    classes: tuple[str, ...]
    paths: np.ndarray
    labels: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    splits: np.ndarray
    sizes: np.ndarray
    mtimes_ns: np.ndarray
    digests: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, split: str) -> "Manifest":
        """The rows of `train`, `val` or `test`, with all classes."""
        return self.select(self.splits == split)

    def select(self, rows: np.ndarray) -> "Manifest":
        """The given rows: a boolean mask or positions."""
        names = ("paths", "labels", "widths", "heights", "splits", "sizes", "mtimes_ns", "digests")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def with_files(self, root: Path, paths: Sequence[str], labels: np.ndarray) -> "Manifest":
        """Other files in the same classes; sizes and digests, which nothing has measured, are empty."""
        zeros = np.zeros(len(paths), np.int64)
        empty = np.full(len(paths), "", object)
        return Manifest(
            root=root,
            classes=self.classes,
            paths=np.asarray(paths, object),
            labels=np.asarray(labels, np.int64),
            widths=zeros.astype(np.int32),
            heights=zeros.astype(np.int32),
            splits=empty,
            sizes=zeros,
            mtimes_ns=zeros,
            digests=empty,
            fingerprint="",
        )

    def write(self, path: Path) -> None:
        """Write the CSV file; `root`, `classes`, `fingerprint` and its own digest live in the check.json beside it."""
        names = np.asarray(self.classes, object)[self.labels]
        rows = (self.paths, names, self.splits, self.widths, self.heights, self.sizes, self.mtimes_ns, self.digests)
        write_csv(path, COLUMNS, zip(*(column.tolist() for column in rows), strict=True))

    @staticmethod
    def read(path: Path) -> "Manifest":
        """Read what `write` wrote, and the check.json beside it.

        Raises DataError when either is missing or damaged.
        """
        try:
            check = read_json(path.with_name("check.json"))
            if sha256(path) != check["manifest_sha256"]:
                raise ValueError("it is not the file that was written")
            rows = read_csv(path)
            columns = {name: [row[name] for row in rows] for name in COLUMNS}
            classes = tuple(check["classes"])
            numbers = {name: position for position, name in enumerate(classes)}
            return Manifest(
                root=Path(check["root"]),
                classes=classes,
                paths=np.asarray(columns["path"], object),
                labels=np.asarray([numbers[name] for name in columns["class"]], np.int64),
                widths=np.asarray(columns["width"], np.int32),
                heights=np.asarray(columns["height"], np.int32),
                splits=np.asarray(columns["split"], object),
                sizes=np.asarray(columns["bytes"], np.int64),
                mtimes_ns=np.asarray(columns["mtime_ns"], np.int64),
                digests=np.asarray(columns["sha256"], object),
                fingerprint=check["fingerprint"],
            )
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"The manifest {path} cannot be read: {error!r}.",
                remedy=f"Delete {path.parent} and check the folder again.",
            ) from None
