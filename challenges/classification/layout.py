"""How a folder of photographs says which class and split each picture belongs to."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from common.errors import DataError
from common.image_folders import ListedFile, Listing, hash_order, list_images, refuse_without_images

VALIDATION_NAMES = ("val", "valid", "validation", "test")  # the first that is there is used
LAYOUTS = "Put one folder per class into it: DATA/<class>/photo.jpg, or DATA/{train,val}/<class>/photo.jpg."
LIKELY_GROUP = re.compile(
    r"^(?!n\d{8}_)"  # ImageNet's names begin with the class, which is no group
    r"(?P<group>"
    r"(?:.*[^a-z])?(?:patient|subject|subj|person|case|video|clip|session|scene|sequence|seq|slide)[ _-]?\d+(?=[^\d.])"
    r"|[a-z _-]*\d{3,}(?=[_-](?:[a-z]|\d{1,2})\.[a-z]+$)"
    r")",
    re.IGNORECASE,
)
"""File names that tell whose picture it is: patient12_img3.jpg, video07-frame0001.png, IMG_0001_a.jpg."""


@dataclass(frozen=True)
class Layout:
    """What the folders say about each file of a listing.

    kind:    split where train and validation folders were given, flat where a validation split has to be drawn.
    files:   those that belong to a class.
    classes: (file,) str. splits: (file,) "train" or "val", "" in a flat layout.
    notes:   what was left aside, in sentences.
    """

    kind: Literal["split", "flat"]
    files: tuple[ListedFile, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    notes: tuple[str, ...]


def folder_fingerprint(root: Path) -> str:
    """Hex digest over every image file's path, size and modification time; nothing is opened."""
    return list_photographs(root).fingerprint


def list_photographs(root: Path) -> Listing:
    """Every image file under `root`; raises DataError where the folder cannot be listed."""
    return list_images(root, LAYOUTS)


def find_layout(root: Path, listing: Listing) -> Layout:
    """Tell classes and splits from the folders' names.

    Raises DataError when there are no images or no folders of classes.
    """
    refuse_without_images(root, listing, LAYOUTS)
    parts = [file.path.split("/") for file in listing.files]
    tops = {part[0] for part in parts if len(part) > 1}
    split_of = _split_folders(tops)
    kind: Literal["split", "flat"] = "split" if "val" in split_of.values() else "flat"
    depth = 2 if split_of else 1
    rows = [
        (file, part[depth - 1], split_of.get(part[0], "") if kind == "split" else "")
        for file, part in zip(listing.files, parts, strict=True)
        if len(part) > depth and (not split_of or part[0] in split_of)
    ]
    if not rows:
        where = root / next(iter(split_of)) if split_of else root
        raise DataError(f"{where} holds {len(listing.files)} images directly, without folders of classes.", LAYOUTS)
    notes = []
    left = len(listing.files) - len(rows)
    if left:
        kept = {row[0].path for row in rows}
        example = next(file.path for file in listing.files if file.path not in kept)
        notes.append(f"{_images(left)} in no class folder of a used split, such as {example}: left aside.")
    files, classes, splits = zip(*rows, strict=True)
    return Layout(kind, files, classes, splits, tuple(notes))


def _split_folders(tops: set[str]) -> dict[str, str]:
    """Folder name -> split: both splits, only train where nothing else is there, or nothing."""
    train = [name for name in tops if name.casefold() == "train"]
    validation = [name for wanted in VALIDATION_NAMES for name in sorted(tops) if name.casefold() == wanted]
    if len(train) != 1:
        return {}
    if validation:
        return {train[0]: "train", validation[0]: "val"}
    return {train[0]: "train"} if len(tops) == 1 else {}


def _images(count: int) -> str:
    return "1 image is" if count == 1 else f"{count} images are"


def groups(paths: list[str], pattern: re.Pattern[str]) -> list[str | None]:
    """The group each file's name tells: the pattern's `group`, else its first group, else all that it matches."""

    def group(path: str) -> str | None:
        match = pattern.search(path.rsplit("/", 1)[-1])
        if match is None:
            return None
        if "group" in pattern.groupindex:
            return match["group"]
        return match[1] if pattern.groups else match[0]

    return [group(path) for path in paths]


def draw_validation(units: list[str], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose about `fraction` of every class for validation, at least one and never all: (row,) bool.

    units: rows with the same unit stay together. The order of choice is a hash of unit and seed, so that
           a picture added to the folder leaves the others where they were.
    A class whose units cannot be parted stays whole in training.
    """
    counts = np.bincount(labels)
    wanted = np.clip(np.round(fraction * counts).astype(np.int64), 1, np.maximum(counts - 1, 0))
    members: dict[str, list[int]] = {}
    for row, unit in enumerate(units):
        members.setdefault(unit, []).append(row)
    order = hash_order(members, seed)
    shares = {unit: np.bincount(labels[members[unit]], minlength=len(counts)) for unit in order}
    chosen: list[str] = []
    drawn = np.zeros_like(counts)
    for unit in order:
        if np.all(drawn + shares[unit] <= wanted):
            drawn += shares[unit]
            chosen.append(unit)
    for label in np.flatnonzero((drawn == 0) & (counts > 0)):
        fitting = [u for u in order if u not in chosen and shares[u][label] and np.all(drawn + shares[u] < counts)]
        if fitting and drawn[label] == 0:
            smallest = min(fitting, key=lambda unit: int(shares[unit].sum()))
            drawn += shares[smallest]
            chosen.append(smallest)
    validation = np.zeros(len(labels), bool)
    for unit in chosen:
        validation[members[unit]] = True
    return validation
