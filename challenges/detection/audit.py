"""What checked scenes should make one think twice about: small objects, imbalance, leaks, unjudged classes."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from challenges.detection.annotations.faults import first_of, remedy_of, shared_cause
from challenges.detection.annotations.table import CONSEQUENCES, Annotations, Finding, UnusableError
from challenges.detection.scenes import Scenes
from common.image_depth import narrow_warnings
from common.image_folders import (
    FEW,
    IMBALANCE,
    duplicate_warnings,
    facts_record,
    identical_files,
    listed_sets,
    named_classes,
    spread,
    unread_warnings,
)
from common.images import ImageFacts, ImageProblem

if TYPE_CHECKING:
    from challenges.detection.boxes import DefaultBoxes

MATCHED = 0.5  # IoU from which on a default box learns an object
TINY_SHARE = 0.1  # of a class's boxes from which on their size is warned of
POOR_RECALL = 0.9
AT_ONCE = 1 << 14  # boxes whose overlaps are computed together: they fit into the processor's cache
READABLE = 32.0  # pixels an object should be wide and high in the network's input, COCO's bound of small objects


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
        "sizes": object_sizes(scenes),
    }
    cause = shared_cause(findings, len(scenes.boxes))
    record["warnings"] = [
        *([cause] if cause else []),
        *annotations.notes,
        *_finding_warnings(record, annotations, findings),
        *_class_warnings(record, scenes),
        *duplicate_warnings(
            record["duplicates"],
            {
                "inside": "Identical files inside a split ({} sets), such as {}.",
                "across": "Identical files in both splits ({} sets), such as {}: the validation AP is too high.",
            },
        ),
        *_size_warnings(record["sizes"]),
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
        f"{code}: {count:,} ({CONSEQUENCES[code]}), such as {first[code].path}: {first[code].reason}; "
        "see quarantine.csv."
        for code, count in record["findings"].items()
    ]
    if record["problems"]:
        told = ", ".join(f"{count} {code}" for code, count in record["problems"].items())
        warnings.append(f"Unusable images left out: {told}, see quarantine.csv.")
    ids = annotations.category_ids
    if annotations.kind == "coco" and ids and ids != tuple(range(1, len(ids) + 1)):
        warnings.append(
            f"{len(ids)} categories are numbered {ids[0]} to {ids[-1]}: "
            f"classes are 1 to {len(ids)} inside, their numbers are kept with the model."
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
            f"The classes are unbalanced: {largest} has {ratio:.3g} times as many training boxes as {smallest}. "
            "AP counts every class alike; look at it class by class."
        )
    kinds = {
        "no box at all": [name for name in scenes.classes if not train[name] and not validation[name]],
        "no training boxes, so it cannot be found": [
            name for name in scenes.classes if not train[name] and validation[name]
        ],
        "no validation boxes, so the AP says nothing about it": [name for name in present if not validation[name]],
        f"fewer than {FEW} training boxes": [name for name, count in present.items() if count < FEW],
    }
    return warnings + [f"{named_classes(names)}: {told}." for told, names in kinds.items() if names]


def object_sizes(scenes: Scenes) -> dict[str, Any]:
    """How large objects are in the network's input, and what the default boxes can reach of each class.

    A class's row has these, sizes being the root of an object's area in pixels of the input its image is squashed to:
    recall: share of boxes that overlap a default box by MATCHED and more: the best recall before training moves them.
    sides:  quantiles 0.05, 0.5 and 0.95 of the size. below: share smaller than the smallest default box.
    tiny:   share so much smaller than it that none can overlap a default box by MATCHED.
    tile:   where many are tiny, the side in pixels of the pieces into which the images could be cut to make the
            median object READABLE.
    """
    from challenges.detection.boxes import SSD300

    counted = ~scenes.ignored
    owners = scenes.image_of_box()[counted]
    sides = np.column_stack([scenes.widths, scenes.heights])[owners].astype(np.float64)
    shares = scenes.boxes[counted] / np.tile(sides, 2)
    lengths = np.sqrt((shares[:, 2:] - shares[:, :2]).prod(1)) * SSD300.image_size
    reached = best_overlaps(shares) >= MATCHED
    smallest = float(SSD300.scales[0])
    tiny = lengths < smallest * MATCHED**0.5
    classes: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(scenes.classes, start=1):
        rows = scenes.labels[counted] == label
        if not rows.any():
            continue
        classes[name] = {
            "boxes": int(rows.sum()),
            "recall": round(float(reached[rows].mean()), 4),
            "below": round(float((lengths[rows] < smallest).mean()), 4),
            "tiny": round(float(tiny[rows].mean()), 4),
            "sides": [round(float(value), 1) for value in np.quantile(lengths[rows], (0.05, 0.5, 0.95))],
        }
        if tiny[rows].mean() >= TINY_SHARE:
            boxes = scenes.boxes[counted][rows]
            pixels = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
            classes[name]["tile"] = max(1, int(np.median(pixels) * SSD300.image_size / READABLE))
    return {"input": SSD300.image_size, "smallest_default_box": smallest, "classes": classes}


def best_overlaps(boxes: np.ndarray) -> np.ndarray:
    """The largest IoU of each box with any default box, (box,).

    boxes: (box, 4) left, top, right, bottom as shares of the image's sides.
    Among default boxes of one shape, whose centres form a grid, the one nearest in x and in y overlaps most.
    """
    from challenges.detection.boxes import SSD300

    anchors = SSD300.boxes().numpy().astype(np.float64)
    pieces = [boxes[start : start + AT_ONCE] for start in range(0, len(boxes), AT_ONCE)]
    return np.concatenate([np.zeros(0), *(_best_overlaps(piece, anchors, SSD300) for piece in pieces)])


def _best_overlaps(boxes: np.ndarray, anchors: np.ndarray, default_boxes: "DefaultBoxes") -> np.ndarray:
    best = np.zeros(len(boxes))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    start = 0
    for cells, shapes in zip(default_boxes.maps, default_boxes.shapes_per_cell, strict=True):
        for _ in range(shapes):
            grid = anchors[start : start + cells * cells]
            start += cells * cells
            half = grid[0, 2:] / 2
            centre = np.column_stack([_nearest(np.unique(grid[:, axis]), middle[:, axis]) for axis in (0, 1)])
            shared = np.minimum(boxes[:, 2:], centre + half) - np.maximum(boxes[:, :2], centre - half)
            overlap = np.clip(shared, 0, None).prod(1)
            best = np.maximum(best, overlap / (area + 4 * half.prod() - overlap))
    return best


def _nearest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The closest of ascending values to each wanted one."""
    after = np.searchsorted(values, wanted).clip(1, max(len(values) - 1, 1))
    high, low = values[np.minimum(after, len(values) - 1)], values[after - 1]
    return np.where(wanted - low <= high - wanted, low, high)


def _size_warnings(sizes: dict[str, Any]) -> list[str]:
    warnings = []
    for name, row in sizes["classes"].items():
        if "tile" in row:
            bound = sizes["smallest_default_box"] * MATCHED**0.5
            warnings.append(
                f"{row['tiny']:.0%} of '{name}' are smaller than {bound:.0f} pixels once the image is squashed to "
                f"{sizes['input']}, too small for the default boxes: expect a low AP; "
                f"cut the images into tiles of at most {row['tile']} pixels."
            )
        elif row["recall"] < POOR_RECALL:
            warnings.append(
                f"{1 - row['recall']:.0%} of '{name}' overlap no default box by {MATCHED:g} (IoU): "
                "they are long or narrow, expect them to be found less often."
            )
    return warnings
