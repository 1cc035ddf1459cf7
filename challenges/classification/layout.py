"""How a folder of photographs says which class and split each picture belongs to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from challenges.classification.class_names import matched
from challenges.classification.folder_notes import folder_notes
from challenges.classification.label_tables import Labels, read_labels
from challenges.classification.mask_folders import told_masks, without_mask_folders
from challenges.classification.split_folders import LAYOUTS, MOST, Base, find_bases, named, picture_tree
from common.errors import DataError
from common.vision.image_folders import (
    ListedFile,
    Listing,
    displayed,
    hash_order,
    list_images,
    refuse_without_images,
    told_leftovers,
)


@dataclass(frozen=True)
class Layout:
    """What the folders, or tables beside them, say about each file of a listing.

    kind:       split where train and validation folders were given, flat where a validation split has to be drawn.
    files:      those that belong to a class.
    classes:    (file,) str, in training's spelling.
    splits:     (file,) "train", "val" or "test"; "" for files that have yet to be parted.
    notes:      what was left aside or is odd, in sentences.
    understood: what was taken for what, in words, see `common.terminal.understanding`.
    tables:     those that name the classes, where folders do not.
    groups:     by path, what a table says that several pictures are of: a patient, a lesion.
    """

    kind: Literal["split", "flat"]
    files: tuple[ListedFile, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    notes: tuple[str, ...]
    understood: dict[str, str]
    tables: tuple[ListedFile, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


def list_photographs(root: Path) -> Listing:
    """Every image file under `root`; raises DataError where the folder cannot be listed."""
    return list_images(root, LAYOUTS)


def find_layout(root: Path, listing: Listing, label_column: str | None = None) -> Layout:
    """Tell classes and splits from the folders' names and from what they hold, or from tables that name the pictures.

    Tables count where no folders of classes are, and where they say otherwise than the folders, in a column that is
    called like classes. label_column: the table's column, which counts in any case.
    Raises DataError when there are no images or nothing names their classes, or when it is open which are splits.
    """
    refuse_without_images(root, listing, LAYOUTS)
    listing, masks = without_mask_folders(listing)
    layout = _find(root, listing, label_column)
    return replace(layout, notes=(*told_masks(masks), *layout.notes))


def _find(root: Path, listing: Listing, label_column: str | None) -> Layout:
    if label_column is not None and (labels := read_labels(root, listing, label_column)) is not None:
        return _of_table(listing, labels)
    try:
        layout = _of_folders(root, listing)
    except DataError:
        labels = read_labels(root, listing)
        if labels is None:
            raise
        return _of_table(listing, labels)
    try:
        labels = read_labels(root, listing)
    except DataError:  # what a table leaves open does not matter where folders name the classes
        if len(set(layout.classes)) == 1:
            raise
        return layout
    if labels is not None and len(set(layout.classes)) == 1:
        return _of_table(listing, labels)
    if labels is not None and labels.by_name and _says_otherwise(labels, layout):
        table = displayed(labels.tables[0].path)
        told = f"Folders ({named(set(layout.classes))}) are no classes here: {table} names others."
        found = _of_table(listing, labels)
        return replace(found, notes=(told, *found.notes))
    return layout


def _says_otherwise(labels: Labels, layout: Layout) -> bool:
    """Whether tables name nearly all pictures that folders hold, and their classes are not those of the folders."""
    pairs = zip((labels.classes.get(file.path) for file in layout.files), layout.classes, strict=True)
    together = Counter((label, folder) for label, folder in pairs if label is not None)
    commonest: dict[str, int] = {}
    for (_, folder), count in together.items():
        commonest[folder] = max(count, commonest.get(folder, 0))
    return together.total() >= MOST * len(layout.files) and sum(commonest.values()) < MOST * together.total()


def _of_table(listing: Listing, labels: Labels) -> Layout:
    numbers = Counter(labels.classes.values())
    classes = {name for name, number in numbers.items() if number > 1} or set(numbers)
    single = numbers.keys() - classes
    files = tuple(file for file in listing.files if labels.classes.get(file.path) in classes)
    splits = tuple(str(labels.splits[file.path]) for file in files)
    counts = Counter(splits)
    aside = (f"{named(single)}: one picture each, too few to learn from and to judge by: left aside.",)
    drawn = "validation pictures are drawn from every class"
    if labels.groups:
        drawn += f", all of one group together, by {labels.told_groups}"
    return Layout(
        kind="flat" if "" in counts else "split",
        files=files,
        classes=tuple(labels.classes[file.path] for file in files),
        splits=splits,
        notes=(*(aside if single else ()), *labels.notes),
        understood={
            "format": "photographs, their classes in a table",
            "splits": drawn if "" in counts else ", ".join(f"{name} {count:,}" for name, count in counts.items()),
            "classes": f"{len(classes):,}, {labels.told}: {named(classes)}",
        },
        tables=labels.tables,
        groups=labels.groups,
    )


def _of_folders(root: Path, listing: Listing) -> Layout:
    counts = Counter(file.folder for file in listing.files)
    outer, bases = find_bases(root, picture_tree(counts))
    learnt = bases[0].folder.folders
    spelling: dict[str, dict[str, str]] = {base.split: matched(learnt, base.folder.folders) for base in bases[1:]}
    places = {
        folder: (spelling.get(base.split, {}).get(name, name), base.split)
        for folder in counts
        for base in bases
        if (name := base.class_of(folder)) is not None
        and (base.split != "test" or name in spelling["test"] or name in learnt)
    }
    rows = [(file, *places[file.folder]) for file in listing.files if file.folder in places]
    if not rows:
        where = displayed(root.joinpath(*bases[0].path))
        raise DataError(f"{where} holds {len(listing.files)} images directly, without folders of classes.", LAYOUTS)
    files, classes, splits = zip(*rows, strict=True)
    return Layout(
        kind="split" if len(bases) > 1 else "flat",
        files=files,
        classes=classes,
        splits=splits,
        notes=tuple(folder_notes(listing, outer, bases, spelling, places.keys())),
        understood=_understood(listing, bases, sorted(set(classes))),
    )


def joined(layout: Layout, by: str) -> Layout:
    """The layout with training's and validation's files together, to be parted anew; a test folder stays one.

    by: how they are parted, in words.
    """
    splits = tuple(split if split == "test" else "" for split in layout.splits)
    given = layout.understood["splits"]
    told = f"{given}; " if layout.kind == "split" else ""
    understood = layout.understood | {"splits": f"{told}training and validation pictures are drawn anew, {by}"}
    return replace(layout, kind="flat", splits=splits, understood=understood)


def _understood(listing: Listing, bases: Sequence[Base], classes: Sequence[str]) -> dict[str, str]:
    splits = [
        f"{base.split} = {base.name}{' (the test folder: there is no other for validation)' if base.is_test else ''}"
        for base in bases
        if base.split
    ]
    told = {
        "format": "photographs, one folder per class",
        "splits": ", ".join(splits) or f"validation pictures are drawn from every class in {bases[0].name}",
        "classes": f"{len(classes):,}, the folders in {' and '.join(base.name for base in bases)}: {named(classes)}",
    }
    if ignored := told_leftovers(listing):
        told["ignored"] = ignored
    return told


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
