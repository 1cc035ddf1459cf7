"""What a checked folder should make one think twice about: imbalance, duplicates, leaks, shortcuts."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from challenges.classification.class_names import difference, nearest, side_by_side
from challenges.classification.layout import Layout
from challenges.classification.manifest import Manifest
from challenges.classification.shortcuts import find_shortcuts, shortcut_warnings
from challenges.classification.split_folders import LAYOUTS, named
from common.errors import DataError
from common.language.telling import english
from common.vision.image_depth import narrow_warnings
from common.vision.image_folders import (
    FEW,
    IDENTICAL,
    IMBALANCE,
    displayed,
    duplicate_warnings,
    facts_record,
    identical_files,
    listed_sets,
    named_classes,
    spread,
    unread_warnings,
)
from common.vision.images import ImageFacts, ImageProblem
from common.vision.leaks import LIKELY_GROUP, Pictures, find_leaks, groups, leak_warnings, scoped

Grouping = tuple[re.Pattern[str] | None, Mapping[str, str]]
"""What tells groups: an expression over file names, and a file's own word for paths."""
DUPLICATES = {
    "inside": IDENTICAL,
    "contradicting": english(
        "Identical files with different labels ({count} sets), such as {example}: one label must be wrong."
    ),
}


def refuse_hopeless(root: Path, layout: Layout, usable: Sequence[bool], codes: dict[str, int]) -> None:
    """Raise DataError where nothing can be learnt: one class, a class with one picture, classes without training.

    usable: (file,), those of the layout that count. codes: why the others do not, for the message.
    """
    lost = ", ".join(f"{count} {code}" for code, count in codes.items())
    because = f" Left out: {lost}." if lost else ""
    counts: dict[str, Counter[str]] = {"train": Counter(), "val": Counter(), "test": Counter()}
    for name, split, counts_ in zip(layout.classes, layout.splits, usable, strict=True):
        counts[split or "train"][name] += counts_
    together = counts["train"] + counts["val"]
    classes = sorted(set(layout.classes))
    if len(classes) == 1:
        raise DataError(
            f"{displayed(root)} has one class only: {displayed(classes[0])}.",
            "At least two classes are needed.",
            f"Classes are {layout.understood['classes'].partition(', ')[2]}: "
            "if they lie one folder deeper or higher, name that one.",
        )
    small = [name for name in classes if together[name] < 2]
    if small:
        raise DataError(
            f"{named_classes(small)} {'has' if len(small) == 1 else 'have'} fewer than two usable pictures.{because}",
            "Every class needs at least two, one to learn from and one to validate with.",
            f"Add pictures of {displayed(small[0])}, or take its rows out of {named(one.path for one in layout.tables)}"
            if layout.tables
            else f"Add pictures to, or remove, the folder {displayed(small[0])} in {displayed(root)}",
        )
    if layout.kind == "flat":
        return
    missing = [name for name in classes if not counts["train"][name]]
    if missing:
        raise DataError(
            f"{named_classes(missing)} {'is' if len(missing) == 1 else 'are'} only in the validation folder.{because}",
            "Every class of the validation split must have pictures in the training split.",
            _nearest_spelling(missing, [name for name in classes if counts["train"][name]]),
        )
    if not counts["val"].total():
        raise DataError(f"The validation folder of {displayed(root)} holds no usable picture.{because}", LAYOUTS)


def concerned(layout: Layout, usable: Sequence[bool], problems: Sequence[ImageProblem]) -> Sequence[ImageProblem]:
    """The problems in classes that are left with too little in a split; all of them where none is told apart."""
    kept = Counter(place for place, usable_ in zip(_places(layout), usable, strict=True) if usable_)
    place_of = dict(zip((file.path for file in layout.files), _places(layout), strict=True))
    starved = [
        problem
        for problem in problems
        if (place := place_of.get(problem.path.as_posix())) is not None and kept[place] < (1 if place[1] else 2)
    ]
    return starved or problems


def _places(layout: Layout) -> list[tuple[str, str]]:
    return list(zip(layout.classes, layout.splits, strict=True))


def _nearest_spelling(missing: Sequence[str], known: Sequence[str]) -> str:
    for name in missing:
        if (ours := nearest(name, known)) is not None:
            told = f"{side_by_side(name, ours)} differ in {difference(name, ours)}"
            return f"Class folders must have the same names in both: {told}."
    return f"Class folders must have the same names in both: training has {named(known)}."


def findings(
    manifest: Manifest,
    layout: Layout,
    facts: Sequence[ImageFacts],
    problems: Sequence[ImageProblem],
    grouping: Grouping,
    others: dict[str, int],
) -> dict[str, Any]:
    """The part of check.json that describes the pictures, with `warnings` in sentences.

    facts: of the manifest's pictures, in its order.
    """
    pattern, named_groups = grouping
    counts = {split: _counts(manifest, split) for split in ("train", "val", "test")}
    if not sum(counts["test"].values()):
        del counts["test"]
    record: dict[str, Any] = {
        "classes": list(manifest.classes),
        "counts": counts,
        "balance": _balance(counts["train"]),
        **facts_record(manifest.root, facts, problems),
        "widths": spread(manifest.widths),
        "heights": spread(manifest.heights),
        "duplicates": _duplicates(manifest),
        "leaks": _leaks(manifest, facts, grouping),
        "shortcuts": find_shortcuts(manifest, facts),
    }
    warnings = [*layout.notes, *narrow_warnings(manifest.root, facts), *_count_warnings(record)]
    warnings += duplicate_warnings(record["duplicates"], DUPLICATES)
    warnings += _leak_warnings(record["leaks"], manifest.root, is_sure=bool(pattern or named_groups))
    warnings += shortcut_warnings(record["shortcuts"])
    if problems:
        told = ", ".join(f"{count} {code}" for code, count in record["problems"].items())
        warnings.append(
            english(
                "Unusable files left out: {problems} ({told}), see quarantine.csv.", problems=len(problems), told=told
            )
        )
    warnings += unread_warnings(others)
    return record | {"understood": layout.understood, "warnings": warnings}


def _counts(manifest: Manifest, split: str) -> dict[str, int]:
    """Pictures of every class in a split."""
    counts = np.bincount(manifest.labels[manifest.splits == split], minlength=len(manifest.classes))
    return dict(zip(manifest.classes, counts.tolist(), strict=True))


def _balance(train: dict[str, int]) -> dict[str, Any]:
    largest, smallest = max(train, key=lambda name: train[name]), min(train, key=lambda name: train[name])
    return {"largest": largest, "smallest": smallest, "ratio": round(train[largest] / max(train[smallest], 1), 2)}


def _duplicates(manifest: Manifest) -> dict[str, Any]:
    """Sets of identical files: inside one split, across both, and those with different labels."""
    sets: dict[str, list[list[str]]] = {"inside": [], "across": [], "contradicting": []}
    for rows in identical_files(manifest.digests):
        paths = manifest.paths[rows].tolist()
        sets["across" if len(set(manifest.splits[rows])) > 1 else "inside"].append(paths)
        if len(set(manifest.labels[rows].tolist())) > 1:
            sets["contradicting"].append(paths)
    return listed_sets(sets)


def _leaks(manifest: Manifest, facts: Sequence[ImageFacts], grouping: Grouping) -> dict[str, Any]:
    """What validation and test pictures have in training, as `find_leaks` tells it, and how groups were told."""
    thumbnails = np.asarray([fact.thumbnail for fact in facts], object)
    train = pictures_of(manifest, manifest.splits == "train", grouping, thumbnails)
    judged = {split: manifest.splits == split for split in ("val", "test")}
    found: dict[str, Any] = {
        split: find_leaks(train, pictures_of(manifest, rows, grouping, thumbnails))
        for split, rows in judged.items()
        if rows.any()
    }
    return {"pattern": (grouping[0] or LIKELY_GROUP).pattern, **found}


def pictures_of(
    manifest: Manifest, rows: np.ndarray, grouping: Grouping, thumbnails: np.ndarray | None = None
) -> Pictures:
    """Rows of a manifest to look for leaks in.

    grouping: without a pattern likely groups count, inside a class; what a file names counts first.
    thumbnails: (picture,) of the whole manifest.
    """
    pattern, named = grouping
    paths, labels = manifest.paths[rows].tolist(), manifest.labels[rows].tolist()
    scopes = [""] * len(paths) if pattern else [manifest.classes[label] for label in labels]
    by_name = scoped(groups(paths, pattern or LIKELY_GROUP), scopes)
    return Pictures(
        paths,
        manifest.digests[rows].tolist(),
        [(named[path], "groups") if path in named else told for path, told in zip(paths, by_name, strict=True)],
        [] if thumbnails is None else thumbnails[rows].tolist(),
    )


def _leak_warnings(leaks: dict[str, Any], root: Path, is_sure: bool) -> list[str]:
    command = f"kit challenge resnet50 --data {shlex.quote(displayed(root))} --data.split by-group"
    remedies = {
        "val": english("To part the pictures so that such ones stay together: {command}", command=command),
        "test": english("Take them out of the training or the test folder."),
    }
    names = {"val": "validation", "test": "test"}
    return [
        warning
        for split, remedy in remedies.items()
        if split in leaks
        for warning in leak_warnings(leaks[split], names[split], remedy, is_sure=is_sure)
    ]


def _count_warnings(record: dict[str, Any]) -> list[str]:
    warnings = []
    counts, balance = record["counts"], record["balance"]
    if balance["ratio"] >= IMBALANCE:
        warnings.append(
            english(
                "The classes are unbalanced: {largest} has {ratio:g} times as many training pictures as "
                "{smallest}. Accuracy alone then says little; look at it class by class.",
                largest=displayed(balance["largest"]),
                ratio=balance["ratio"],
                smallest=displayed(balance["smallest"]),
            )
        )
    few = [name for name, count in counts["train"].items() if count < FEW]
    if few:
        warnings.append(
            english("{classes}: fewer than {least} training pictures.", classes=named_classes(few), least=FEW)
        )
    absent = [name for name, count in counts["val"].items() if not count]
    if absent:
        warnings.append(
            english(
                "{absent}: no validation pictures, so the accuracy says nothing about it.", absent=named_classes(absent)
            )
        )
    return warnings
