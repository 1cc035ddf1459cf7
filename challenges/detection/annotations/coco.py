"""Reading COCO's annotations: JSON files of images, categories and boxes as left, top, width and height."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from challenges.detection.annotations.table import (
    AnnotatedImage,
    Annotations,
    BoxColumns,
    Finding,
    ImageIndex,
    parent,
    plain,
    stem,
    unmentioned,
)
from common.errors import DataError
from common.image_folders import Listing

MAX_BYTES = 4 << 30
SAMPLED = 300  # image names looked up to tell which folder they are in
LAYOUT = "COCO: annotations/instances_train*.json and instances_val*.json beside the folders of images, or one JSON."
_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_OTHER_TASKS = re.compile(r"^(captions|person_keypoints|image_info|stuff|panoptic)_", re.IGNORECASE)
_TOP_LEVEL = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_PEEKED = 1 << 16


def split_named(name: str) -> str:
    """The split that a file or folder name tells: "train", "val", "test" or ""."""
    match = _SPLIT.search(name)
    told = match[1].lower() if match else ""
    return "val" if told.startswith("val") else told


def find(root: Path, listing: Listing) -> dict[str, str] | None:
    """The JSON files of a folder by split; the split is "" where one file holds everything; None where there is none.

    Raises DataError when it cannot be told which files to use.
    """
    names = json_files(listing)
    instances = [name for name in names if name.rsplit("/", 1)[-1].lower().startswith("instance")]
    by_split: dict[str, list[str]] = {}
    for name in instances or [name for name in names if _looks_like_coco(root / name)]:
        split = split_named(stem(name)) or split_named(parent(name).rstrip("/").rsplit("/", 1)[-1])
        by_split.setdefault(split, []).append(name)
    if not by_split:
        return None
    if "train" not in by_split and "" not in by_split:  # a validation or test file on its own: split it
        by_split = {"": next(by_split[split] for split in ("val", "test") if split in by_split)}
    chosen = {"train": by_split["train"]} if "train" in by_split else {"": by_split[""]}
    validation = by_split.get("val") or by_split.get("test")
    if "train" in by_split and validation:
        chosen["val"] = validation
    for split, files in chosen.items():
        if len(files) > 1:
            raise DataError(
                f"{root} has several COCO files{f' for {split}' if split else ''}: {', '.join(files[:4])}.",
                LAYOUT,
                "Move those that do not belong to this training elsewhere.",
            )
    return {split if len(chosen) > 1 else "": files[0] for split, files in chosen.items()}


def json_files(listing: Listing) -> list[str]:
    """The JSON files of a folder that are not known to be of another task, such as captions."""
    names = [file.path for file in listing.annotations if file.path.lower().endswith(".json")]
    return [name for name in names if not _OTHER_TASKS.match(name.rsplit("/", 1)[-1])]


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return bool(_TOP_LEVEL.search(stream.read(_PEEKED).replace(b"\0", b"")))
    except OSError:
        return False


def read(root: Path, listing: Listing, files: Mapping[str, str]) -> Annotations:
    """Read the files that `find` found.

    Raises DataError when one of them is no COCO file, naming what is wrong with it.
    """
    tables = {split: _load(root / name) for split, name in files.items()}
    findings: list[Finding] = []
    names = _categories(root, files, tables, findings)
    ids = tuple(sorted(names))
    reading = _Reading({number: label for label, number in enumerate(ids, start=1)}, findings)
    index = ImageIndex(listing)
    for split in sorted(tables, reverse=True):  # validation first: what is in both splits stays there
        reading.take(files[split], split, tables.pop(split), index)
    findings += unmentioned(
        index, (image.path for image in reading.images if image.path), reading.mentioned.__contains__
    )
    images, columns = reading.kept()
    return Annotations(
        kind="coco",
        classes=tuple(names[number] for number in ids),
        category_ids=ids,
        images=images,
        **columns,
        noun="annotation",
        findings=tuple(findings),
        notes=(),
        sources=tuple(files.values()),
    )


def _load(path: Path) -> dict[str, Any]:
    """The file's three lists. Raises DataError for whatever else it holds."""
    remedy = "Export or copy the annotations again."
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES >> 30} GiB.", "Smaller annotation files are read.")
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UnicodeDecodeError):
            told = f"its encoding is not UTF-8 (byte {error.start})"
        elif isinstance(error, OSError):
            told = (error.strerror or str(error)).lower()
        elif path.stat().st_size == 0:
            told = "it is empty"
        else:
            told = f"it is cut or no JSON ({plain(error)})"
        raise DataError(f"{path} cannot be read: {told}.", LAYOUT, remedy) from None
    missing = [name for name in ("images", "annotations", "categories") if not _is_list(table, name)]
    if missing:
        raise DataError(
            f"{path} is no COCO file: it has no list of {' and none of '.join(missing)}.",
            'COCO files hold {"images": [...], "annotations": [...], "categories": [...]}.',
            "To detect objects, boxes are needed: see the data's other annotation files.",
        )
    return {name: table[name] for name in ("images", "annotations", "categories")}


def _is_list(table: object, name: str) -> bool:
    return isinstance(table, dict) and isinstance(table.get(name), list)


def _categories(
    root: Path, files: Mapping[str, str], tables: Mapping[str, dict[str, Any]], findings: list[Finding]
) -> dict[int, str]:
    """Category number -> class name, all files together."""
    names: dict[int, str] = {}
    for split, table in tables.items():
        for row in table["categories"]:
            number, name = _fields(row, "id", "name")
            if not _is_id(number) or not isinstance(name, str) or not name.strip():
                findings.append(
                    Finding(files[split], "unknown-category", f"a category without id or name: {plain(row)}")
                )
                continue
            shown = plain(name)
            if names.setdefault(number, shown) != shown:
                raise DataError(
                    f"{root}: category {number} is {names[number]!r} in one place and {shown!r} in another.",
                    "Training and validation files must number their categories alike.",
                    "Renumber the categories of one of the files.",
                )
    if not names:
        raise DataError(f"{root / next(iter(files.values()))} names no category.", "At least one class is needed.")
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {number: f"{name} ({number})" if name in twice else name for number, name in names.items()}


def _fields(row: object, *names: str) -> tuple[Any, ...]:
    """The named values of a row, None for what is not there."""
    return tuple(row.get(name) if isinstance(row, dict) else None for name in names)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


class _Reading:
    """Images and boxes of the files read so far."""

    def __init__(self, labels: Mapping[int, int], findings: list[Finding]) -> None:
        self.labels, self.findings = labels, findings
        self.images: list[AnnotatedImage] = []
        self.boxes = BoxColumns()
        self.mentioned: set[str | None] = set()
        self._taken: dict[str, tuple[int, str]] = {}  # path -> position in images, split

    def take(self, source: str, split: str, table: dict[str, Any], index: ImageIndex) -> None:
        positions = self._take_images(source, split, table["images"], index)
        self._take_boxes(source, table["annotations"], positions)

    def _take_images(self, source: str, split: str, rows: Sequence[Any], index: ImageIndex) -> dict[int, int | None]:
        """Image number -> position in `images`, None for images that are left out."""
        positions: dict[int, int | None] = {}
        names: dict[int, str] = {}
        folder = _image_folder(source, split, rows, index)
        for row in rows:
            number, name = _fields(row, "id", "file_name")
            if not _is_id(number) or not isinstance(name, str) or not name:
                self.findings.append(
                    Finding(source, "malformed-image", f"an image without id or file name: {plain(row)}")
                )
                if _is_id(number):
                    positions[number] = None
                continue
            if number in positions:
                if names.get(number) != name:
                    self.mentioned.add(_resolve(name, folder, index)[0])
                    told = f"image id {number} is {plain(names.get(number))} and {plain(name)}"
                    self.findings.append(Finding(source, "duplicate-image-id", told))
                    self._forget(positions[number])
                    positions[number] = None
                continue
            names[number] = name
            positions[number] = self._place(source, split, name, row, folder, index)
        return positions

    def _place(
        self, source: str, split: str, name: str, row: Mapping[str, Any], folder: str, index: ImageIndex
    ) -> int | None:
        path, why = _resolve(name, folder, index)
        self.mentioned.add(path)
        if path is None:
            where = "not in the folder" if why == "missing-image" else "in several folders"
            self.findings.append(Finding(plain(name), why, f"named in {source}, {where}"))
            return None
        if path in self._taken:
            position, other = self._taken[path]
            if other != split:
                self.findings.append(
                    Finding(path, "in-both-splits", f"{source} names an image of the validation split")
                )
                return None
            self.findings.append(Finding(path, "duplicate-image", f"{source} lists the image under two ids"))
            return position
        self._taken[path] = len(self.images), split
        self.images.append(AnnotatedImage(path, split, _size(row.get("width")), _size(row.get("height"))))
        return len(self.images) - 1

    def kept(self) -> tuple[tuple[AnnotatedImage, ...], dict[str, Any]]:
        """The images and box columns without those that were left out on second sight."""
        columns = self.boxes.arrays()
        keeps = np.asarray([bool(image.path) for image in self.images], bool)
        chosen = keeps[columns["owners"]]
        columns = {name: column[chosen] for name, column in columns.items()}
        columns["owners"] = (np.cumsum(keeps) - 1)[columns["owners"]]
        return tuple(image for image in self.images if image.path), columns

    def _forget(self, position: int | None) -> None:
        """Leave an image out that was taken already; its row stays, without a path, and is dropped at the end."""
        if position is not None:
            self.images[position] = AnnotatedImage("", self.images[position].split)

    def _take_boxes(self, source: str, rows: Sequence[Any], positions: Mapping[int, int | None]) -> None:
        labels, add = self.labels, self.boxes.add
        for order, row in enumerate(rows):
            try:
                number = row.get("id", order)
                owner = positions[row["image_id"]]
                if owner is None:
                    continue
                label = labels[row["category_id"]]
                left, top, width, height = (_number(value) for value in row["bbox"])
                area = row.get("area")
                stated = isinstance(area, (int, float)) and 0 < area < math.inf
                add(
                    owner,
                    (left, top, left + width, top + height),
                    label,
                    number if _is_id(number) else order,
                    bool(row.get("iscrowd", 0)),
                    float(area) if stated else math.nan,
                )
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
                self.findings.append(self._fault(source, order, row, positions))

    def _fault(self, source: str, order: int, row: Any, positions: Mapping[int, int | None]) -> Finding:
        """What is wrong with an annotation that could not be taken."""
        if not isinstance(row, dict):
            return Finding(source, "malformed-box", f"annotation number {order + 1} is {plain(row)}")
        name = f"annotation {plain(row.get('id', order))}"
        image, category, box = _fields(row, "image_id", "category_id", "bbox")
        if not _is_id(image) or image not in positions:
            return Finding(source, "unknown-image", f"{name}: no image has the id {plain(image)}")
        position = positions[image]
        path = self.images[position].path if position is not None else source
        if not _is_id(category) or category not in self.labels:
            return Finding(path, "unknown-category", f"{name}: no category has the id {plain(category)}")
        if not isinstance(box, list) or len(box) != 4:
            return Finding(path, "malformed-box", f"{name}: bbox is {plain(box)}, not left, top, width, height")
        return Finding(path, "not-a-number", f"{name}: bbox is {plain(box)}")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _size(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _image_folder(source: str, split: str, rows: Sequence[Any], index: ImageIndex) -> str:
    """The folder, with its slash, that most of the named images lie in; among equals the one named after the split."""
    names = [row.get("file_name") for row in rows[:: max(1, len(rows) // SAMPLED)] if isinstance(row, dict)]
    found: Counter[str] = Counter()
    for name in (_relative(name) for name in names if isinstance(name, str)):
        for path in index.by_name.get(name.rsplit("/", 1)[-1], ()):
            if path == name or path.endswith("/" + name):
                found[path[: len(path) - len(name)]] += 1
    wanted, beside = split or split_named(stem(source)), parent(source)

    def preference(folder: str) -> tuple[bool, bool, int, int, str]:
        close = beside.startswith(folder) or folder.startswith(beside)
        return (
            split_named(folder.rstrip("/").rsplit("/", 1)[-1]) != wanted,
            not close,
            -found[folder],
            len(folder),
            folder,
        )

    most = max(found.values(), default=0)
    return min((folder for folder in found if found[folder] * 2 >= most), key=preference, default="")


def _resolve(name: str, folder: str, index: ImageIndex) -> tuple[str | None, str]:
    """The listed path of an image's name, or None and the finding's code."""
    name = _relative(name)
    if folder + name in index.known:
        return folder + name, ""
    same = index.by_name.get(name.rsplit("/", 1)[-1], [])
    ending = [path for path in same if path == name or path.endswith("/" + name)] or same
    if len(ending) == 1:
        return ending[0], ""
    return None, "ambiguous-image" if ending else "missing-image"


def _relative(name: str) -> str:
    """A name as written by any system, with forward slashes and without what leads out of the folder."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))
