"""Scenes that a run is only judged on: annotated images whose classes it has learnt, whatever their numbers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.nvimgcodec
import PIL
from rich.console import Console

from challenges.detection.annotations import reading as annotation_files
from challenges.detection.annotations.cleaning import CleanScenes, clean
from challenges.detection.annotations.sizes import reconcile
from challenges.detection.annotations.table import Annotations, Finding, UnusableError, listed
from challenges.detection.annotations.units import reinterpret
from challenges.detection.check import FORMAT, TABLES, scenes_of
from challenges.detection.leaks import pictures_of
from challenges.detection.scenes import Scenes
from common.challenge import CheckedData
from common.errors import DataError
from common.files import read_json, sha256
from common.language.telling import english
from common.terminal.understanding import tell_check
from common.text import printable
from common.vision.image_folders import probe_listed, store_check, store_refusal, stored_check
from common.vision.leaks import find_leaks, leak_warnings


def check(
    root: Path,
    output: Path,
    learnt: Scenes,
    *,
    workers: int | None = None,
    console: Console | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedData:
    """Scan annotated images under `root`; write them as validation images to `output`, in the classes of `learnt`.

    learnt: the run's own scenes. What the annotations hold out is taken where they name splits, else every image.
    workers, progress: as `folder.check` takes them. console: where what was found is told.
    Raises DataError where boxes are of no class of the run's, or nothing can be judged.
    """
    root = root.absolute()
    listing = annotation_files.list_scenes(root)
    arguments = {
        "root": str(root),
        "learnt": learnt.fingerprint,
        "classes": list(learnt.classes),
        "decoders": {"nvimgcodec": nvidia.nvimgcodec.__version__, "pillow": PIL.__version__},
    }
    if stored_check(output, FORMAT, listing.fingerprint, arguments) is None or not _is_whole(output):
        annotations = annotation_files.read(root, listing)
        taken = _judged_part(annotations)
        paths = [image.path for image in annotations.images if image.split in taken]
        facts, problems = probe_listed(root, paths, workers, progress or console, output)
        annotations = reinterpret(reconcile(annotations, facts), facts)
        cleaned = clean(annotations, facts)
        findings = [Finding(problem.path.as_posix(), problem.code, problem.reason) for problem in problems]
        findings += [*annotations.findings, *cleaned.findings]
        try:
            scenes = _scenes(root, listing.fingerprint, cleaned, annotations.classes, learnt)
        except UnusableError as error:
            listed_in = store_refusal(output, _rows(findings))
            raise DataError(error.given, error.allowed, f"{error.remedy} Every reason: {listed_in}".strip()) from None
        record = {
            "arguments": arguments,
            "understood": _understood(annotations, taken, learnt, scenes),
            "warnings": [*annotations.notes, *_warnings(scenes, learnt, findings)],
        }
        _store(output, scenes, record, findings)
    record = read_json(output / "check.json")
    if console is not None:
        tell_check(record, console)
    found = Scenes.read(output)
    summary: dict[str, object] = {"samples": len(found), "unit": "image", "own": False, "warnings": record["warnings"]}
    return CheckedData(root, found.fingerprint, summary)


def _store(output: Path, scenes: Scenes, facts: dict[str, Any], findings: Sequence[Finding]) -> None:
    record = {
        "format": FORMAT,
        "root": str(scenes.root),
        "fingerprint": scenes.fingerprint,
        "classes": list(scenes.classes),
        "category_ids": list(scenes.category_ids),
        **facts,
    }

    def write(folder: Path) -> None:
        scenes.write(folder)
        record["sha256"] = {name: sha256(folder / name) for name in TABLES}

    store_check(output, record, _rows(findings), write)


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.path, finding.code, finding.reason) for finding in findings]


def _judged_part(annotations: Annotations) -> Collection[str]:
    """The splits whose images are judged: what is held out where anything is, else everything."""
    named = {image.split for image in annotations.images}
    return {"val"} if "val" in named else named


def _scenes(root: Path, fingerprint: str, cleaned: CleanScenes, classes: Sequence[str], learnt: Scenes) -> Scenes:
    """The images as validation images, every box under the label that the run gives to its class's name."""
    used = {classes[label - 1] for label in np.unique(cleaned.labels).tolist()}
    unknown = sorted(used - set(learnt.classes))
    if unknown:
        raise UnusableError(
            f"{root} has boxes of classes that the run has not learnt: {listed(unknown)}.",
            f"The run knows {len(learnt.classes)} classes: {listed(learnt.classes)}.",
            "Rename the classes in the annotations after the run's, or leave their boxes out.",
        )
    if not len(cleaned.labels) or cleaned.ignored.all():
        raise UnusableError(
            f"{root} has {len(cleaned.images)} usable images and no usable box to judge by.",
            "At least one box of a class that the run has learnt is needed.",
        )
    numbers = {name: label for label, name in enumerate(learnt.classes, start=1)}
    renumbered = np.asarray([0, *(numbers.get(name, 0) for name in classes)], np.int64)
    splits = np.full(len(cleaned.images), "val", object)
    found = scenes_of(
        cleaned, root, fingerprint, classes=learnt.classes, category_ids=learnt.category_ids, splits=splits
    )
    return replace(found, labels=renumbered[cleaned.labels])


def _understood(annotations: Annotations, taken: Collection[str], learnt: Scenes, scenes: Scenes) -> dict[str, str]:
    left = sum(image.split not in taken for image in annotations.images)
    part = f"the part that is held out; {left:,} training images are left aside" if left else "every image"
    names = {learnt.classes[label - 1] for label in scenes.labels.tolist()}
    told = {name: printable(text) for name, text in annotations.understood.items()}
    return told | {
        "splits": part,
        "classes": f"{len(names)} of the run's {len(learnt.classes)}, by name: {listed(sorted(names))}",
    }


def _warnings(scenes: Scenes, learnt: Scenes, findings: Sequence[Finding]) -> list[str]:
    warnings = leak_warnings(find_leaks(pictures_of(learnt.subset("train")), pictures_of(scenes)), "test", "")
    boxes = set(scenes.labels[~scenes.ignored].tolist())
    absent = [name for label, name in enumerate(learnt.classes, start=1) if label not in boxes]
    if absent:
        warnings.append(english("No boxes of {absent}: the figures say nothing about it.", absent=listed(absent)))
    if findings:
        first = findings[0]
        warnings.append(
            english(
                "{findings:,} images or boxes were left out or changed, such as {path}: {reason}; see quarantine.csv.",
                findings=len(findings),
                path=first.path,
                reason=first.reason,
            )
        )
    return warnings


def _is_whole(output: Path) -> bool:
    """Whether an earlier check's tables are there as they were written."""
    try:
        Scenes.read(output)
    except DataError:
        return False
    return True
