"""What checked scenes should make one think twice about: imbalance, leaks, unjudged classes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from challenges.detection.annotations.faults import first_of, remedy_of, shared_cause
from challenges.detection.annotations.table import CONSEQUENCES, Annotations, Finding, UnusableError
from challenges.detection.leaks import validation_leaks
from challenges.detection.scenes import Scenes
from common.language.telling import english
from common.vision.image_depth import narrow_warnings
from common.vision.image_folders import (
    FEW,
    IDENTICAL,
    IMBALANCE,
    duplicate_warnings,
    facts_record,
    identical_files,
    listed_sets,
    named_classes,
    spread,
    unread_warnings,
)
from common.vision.images import ImageFacts, ImageProblem
from common.vision.leaks import leak_warnings


def refuse_hopeless(scenes: Scenes, lost: Sequence[Finding]) -> None:
    """Raise DataError where nothing can be learnt or judged: no training images, no boxes to train on, no validation.

    lost: why images and boxes were left out or changed, for the message.
    """
    counts = Counter(finding.code for finding in lost)
    told = ", ".join(f"{count} {code}" for code, count in counts.most_common())
    because = f" Left out or changed: {told}.{first_of(lost)}" if told else ""
    train, validation = scenes.subset("train"), scenes.subset("val")
    if not len(train.boxes) or train.ignored.all():
        raise UnusableError(
            f"{scenes.root} has {len(train)} usable training images and no box to learn from.{because}",
            shared_cause(lost, len(scenes.boxes)) or "Training needs images with boxes.",
            remedy_of(lost),
            lost,
        )
    if not len(validation):
        raise UnusableError(
            f"{scenes.root} has no usable validation image.{because}",
            "At least one is needed, and at least two images in all.",
            "",
            lost,
        )


def findings_record(
    scenes: Scenes,
    annotations: Annotations,
    facts: Sequence[ImageFacts],
    problems: Sequence[ImageProblem],
    findings: Sequence[Finding],
    others: dict[str, int],
    rounded: int,
) -> dict[str, Any]:
    """The part of check.json that describes the scenes, with `warnings` in sentences."""
    record: dict[str, Any] = facts_record(scenes.root, facts, problems)
    record |= {
        "layout": annotations.kind,
        "sources": list(annotations.sources),
        "classes": list(scenes.classes),
        "category_ids": list(scenes.category_ids),
        "images": {split: len(scenes.subset(split)) for split in ("train", "val")},
        "counts": {split: _class_counts(scenes.subset(split)) for split in ("train", "val")},
        "ignored": int(scenes.ignored.sum()),
        "without_boxes": {split: int((np.diff(scenes.subset(split).offsets) == 0).sum()) for split in ("train", "val")},
        "boxes_per_image": spread(np.diff(scenes.offsets)),
        "widths": spread(scenes.widths),
        "heights": spread(scenes.heights),
        "findings": dict(Counter(finding.code for finding in findings).most_common()),
        "rounded": rounded,
        "duplicates": _duplicates(scenes),
        "leaks": validation_leaks(scenes, facts),
    }
    cause = shared_cause(findings, len(scenes.boxes))
    record["warnings"] = [
        *([cause] if cause else []),
        *annotations.notes,
        *_finding_warnings(record, annotations, findings),
        *_class_warnings(record, scenes),
        *duplicate_warnings(record["duplicates"], {"inside": IDENTICAL}),
        *leak_warnings(record["leaks"], "validation", "Part the images so that such ones stay together."),
        *narrow_warnings(scenes.root, facts),
        *unread_warnings(others),
    ]
    return record


def _class_counts(scenes: Scenes) -> dict[str, int]:
    counts = np.bincount(scenes.labels[~scenes.ignored], minlength=len(scenes.classes) + 1)[1:]
    return dict(zip(scenes.classes, counts.tolist(), strict=True))


def _duplicates(scenes: Scenes) -> dict[str, Any]:
    sets: dict[str, list[list[str]]] = {"inside": [], "across": []}
    for rows in identical_files(scenes.digests):
        kind = "across" if len(set(scenes.splits[rows])) > 1 else "inside"
        sets[kind].append(scenes.paths[rows].tolist())
    return listed_sets(sets)


def _finding_warnings(record: dict[str, Any], annotations: Annotations, findings: Sequence[Finding]) -> list[str]:
    first = {finding.code: finding for finding in reversed(findings)}
    warnings = [
        english(
            "{code}: {count:,} ({consequences}), such as {path}: {reason}; see quarantine.csv.",
            code=code,
            count=count,
            consequences=CONSEQUENCES[code],
            path=first[code].path,
            reason=first[code].reason,
        )
        for code, count in record["findings"].items()
    ]
    if record["problems"]:
        told = ", ".join(f"{count} {code}" for code, count in record["problems"].items())
        warnings.append(english("Unusable images left out: {told}, see quarantine.csv.", told=told))
    ids = annotations.category_ids
    if annotations.kind == "coco" and ids and ids != tuple(range(1, len(ids) + 1)):
        warnings.append(
            english(
                "{count} categories are numbered {first} to {last}: classes are 1 to {count} inside, their "
                "numbers are kept with the model.",
                count=len(ids),
                first=ids[0],
                last=ids[-1],
            )
        )
    return warnings


def _class_warnings(record: dict[str, Any], scenes: Scenes) -> list[str]:
    warnings = []
    train, validation = record["counts"]["train"], record["counts"]["val"]
    present = {name: count for name, count in train.items() if count}
    largest, smallest = max(present, key=lambda name: present[name]), min(present, key=lambda name: present[name])
    ratio = present[largest] / present[smallest]
    if ratio >= IMBALANCE:
        warnings.append(
            english(
                "The classes are unbalanced: {largest} has {ratio:.3g} times as many training boxes as "
                "{smallest}. AP counts every class alike; look at it class by class.",
                largest=largest,
                ratio=ratio,
                smallest=smallest,
            )
        )
    kinds = {
        english("{classes}: no box at all."): [
            name for name in scenes.classes if not train[name] and not validation[name]
        ],
        english("{classes}: no training boxes, so it cannot be found."): [
            name for name in scenes.classes if not train[name] and validation[name]
        ],
        english("{classes}: no validation boxes, so the AP says nothing about it."): [
            name for name in present if not validation[name]
        ],
        english("{classes}: fewer than {few} training boxes."): [
            name for name, count in present.items() if count < FEW
        ],
    }
    return warnings + [told.format(classes=named_classes(names), few=FEW) for told, names in kinds.items() if names]
