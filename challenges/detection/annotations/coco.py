"""Reading COCO's annotations: JSON files of images, categories and boxes as left, top, width and height."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from challenges.detection.annotations.coco_rows import Reading, fields, identity
from challenges.detection.annotations.foreign import refuse_json
from challenges.detection.annotations.names import ImageIndex, parent, split_named, stem, unmentioned
from challenges.detection.annotations.table import Annotations, Finding, UnusableError, listed, plain
from common.errors import DataError
from common.language.telling import english
from common.vision.image_folders import Listing, displayed

MAX_BYTES = 4 << 30
LAYOUT = "COCO: annotations/instances_train*.json and instances_val*.json beside the folders of images, or one JSON."
_OTHER_TASKS = re.compile(r"^(captions|person_keypoints|image_info|stuff|panoptic)_", re.IGNORECASE)
_TOP_LEVEL = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_PEEKED = 1 << 16


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
    tables = {split: _load(root, name) for split, name in files.items()}
    findings: list[Finding] = []
    notes: list[str] = []
    names = _categories(root, files, tables, findings, notes)
    ids = tuple(sorted(set(names.values()), key=lambda category: category.number))
    labels = {category.number: label for label, category in enumerate(ids, start=1)}
    index = ImageIndex(listing)
    reading = Reading({key: labels[category.number] for key, category in names.items()}, findings, index)
    for split in sorted(tables, reverse=True):  # validation first: what is in both splits stays there
        reading.take(files[split], split, tables.pop(split))
    used = (image.path for image in reading.images if image.path)
    findings += unmentioned(index, used, reading.mentioned.__contains__)
    images, columns = reading.kept()
    classes = tuple(category.name for category in ids)
    measured = int(columns["extents"].sum())
    extents = f"; for {measured:,} annotations the extent of their polygon or mask" if measured else ""
    return Annotations(
        kind="coco",
        classes=classes,
        category_ids=tuple(category.number for category in ids),
        images=images,
        **columns,
        noun=english("annotation"),
        findings=tuple(findings),
        notes=(*notes, *reading.notes(), *index.note()),
        sources=tuple(files.values()),
        form="left, top and size",
        understood={
            "format": f"COCO, {', '.join(map(displayed, files.values()))}",
            "splits": "by the files' names" if len(files) > 1 else "",
            "classes": f"{len(ids)} of the file's categories: {listed(classes)}",
            "numbers": f"bbox as left, top, width and height in pixels{extents}",
        },
    )


def _load(root: Path, name: str) -> dict[str, Any]:
    """The file's three lists. Raises DataError for whatever else it holds."""
    path = root / name
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
        refuse_json(root, name, table)
        raise DataError(
            f"{path} is no COCO file: it has no list of {' and none of '.join(missing)}.",
            'COCO files hold {"images": [...], "annotations": [...], "categories": [...]}.',
            "To detect objects, boxes are needed: see the data's other annotation files.",
        )
    return {name: table[name] for name in ("images", "annotations", "categories")}


def _is_list(table: object, name: str) -> bool:
    return isinstance(table, dict) and isinstance(table.get(name), list)


@dataclass(frozen=True)
class _Category:
    number: int
    name: str


def _categories(
    root: Path,
    files: Mapping[str, str],
    tables: Mapping[str, dict[str, Any]],
    findings: list[Finding],
    notes: list[str],
) -> dict[int | str, _Category]:
    """Category by its id, all files together; ids that are no numbers are numbered in the order of the ids."""
    names: dict[int | str, str] = {}
    written_otherwise = 0
    for split, table in tables.items():
        for row in table["categories"]:
            written, name = fields(row, "id", "name")
            key = identity(written)
            if key is None or not isinstance(name, str) or not name.strip():
                told = english("a category without id or name: {row:s}", row=plain(row))
                findings.append(Finding(displayed(files[split]), "unknown-category", told))
                continue
            written_otherwise += isinstance(key, int) and not isinstance(written, int)
            shown = plain(name)
            if names.setdefault(key, shown) != shown:
                raise DataError(
                    f"{root}: category {plain(key)} is {names[key]!r} in one place and {shown!r} in another.",
                    "Training and validation files must number their categories alike.",
                    "Renumber the categories of one of the files.",
                )
    if not names:
        path = root / next(iter(files.values()))
        raise UnusableError(f"{path} names no category.", "At least one class with an id is needed.", "", findings)
    if written_otherwise:
        notes.append(f"{written_otherwise:,} categories' ids are written as texts or decimals: '7' and 7.0 are 7.")
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    shown_names = {key: f"{name} ({key})" if name in twice else name for key, name in names.items()}
    if all(isinstance(key, int) for key in names):
        return {key: _Category(int(key), name) for key, name in shown_names.items()}
    notes.append(f"The categories' ids are no numbers, such as {plain(next(iter(names)))!r}: they are numbered from 1.")
    ordered = sorted(shown_names, key=str)
    return {key: _Category(number, shown_names[key]) for number, key in enumerate(ordered, start=1)}
