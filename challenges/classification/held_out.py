"""Photographs that a run is only judged on: of classes it has learnt, in whatever order and spelling."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.nvimgcodec
import PIL
from rich.console import Console

from challenges.classification.audit import pictures_of
from challenges.classification.check import FORMAT, compiled
from challenges.classification.class_names import matched, nearest
from challenges.classification.label_tables import read_labels
from challenges.classification.layout import list_photographs
from challenges.classification.manifest import Manifest
from challenges.classification.mask_folders import told_masks, without_mask_folders, without_paired_masks
from challenges.classification.split_folders import LAYOUTS, Base, find_bases, named, picture_tree
from common.challenge import CheckedData
from common.errors import DataError
from common.files import read_json, sha256
from common.language.telling import english
from common.terminal.understanding import tell_check
from common.vision.image_depth import narrow_warnings
from common.vision.image_folders import (
    ListedFile,
    Listing,
    displayed,
    named_classes,
    probe_listed,
    refuse_without_images,
    store_check,
    store_refusal,
    stored_check,
)
from common.vision.images import ImageFacts, ImageProblem
from common.vision.leaks import find_leaks, leak_warnings


@dataclass(frozen=True)
class _Judged:
    """files: those of known classes. classes: (file,) str, as the run spells them. understood, notes: as Layout's."""

    files: tuple[ListedFile, ...]
    classes: tuple[str, ...]
    understood: dict[str, str]
    notes: tuple[str, ...]
    tables: tuple[ListedFile, ...]


def check(
    root: Path,
    output: Path,
    learnt: Manifest,
    *,
    group_pattern: str | None = None,
    workers: int | None = None,
    console: Console | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedData:
    """Scan labelled photographs under `root`; write a manifest of them as validation pictures to `output`.

    learnt: the run's own manifest, in whose classes they are given.
    A test part is taken where there is one, else a validation part, else all pictures that have a class.
    group_pattern, workers, progress: as `folder.check` takes them. console: where what was found is told.
    Raises DataError where a folder is of no class of the run's, or no picture can be used.
    """
    root = root.absolute()
    listing = list_photographs(root)
    judged = _find(root, listing, learnt.classes)
    listing = replace(listing, annotations=judged.tables)
    arguments = {
        "root": str(root),
        "learnt": learnt.fingerprint,
        "classes": list(learnt.classes),
        "group_pattern": group_pattern,
        "decoders": {"nvimgcodec": nvidia.nvimgcodec.__version__, "pillow": PIL.__version__},
    }
    stored = stored_check(output, FORMAT, listing.fingerprint, arguments)
    if stored is None or not _is_whole(output):
        facts, problems = probe_listed(root, [file.path for file in judged.files], workers, progress or console, output)
        facts, told = without_paired_masks(facts)
        _refuse_unusable(root, output, facts, problems)
        manifest = _manifest(root, judged, facts, learnt.classes, listing.fingerprint)
        warnings = [*told, *judged.notes, *_warnings(manifest, learnt, facts, problems, group_pattern)]
        record = {"arguments": arguments, "understood": judged.understood, "warnings": warnings}
        _store(output, manifest, record, problems)
    record = read_json(output / "check.json")
    if console is not None:
        tell_check(record, console)
    return _checked(Manifest.read(output / "manifest.csv"), record["warnings"], is_own=False)


def own(checked: Path, output: Path) -> CheckedData | None:
    """The test part of a run's own data as validation pictures; None where it has none. checked: of the run's data."""
    manifest = Manifest.read(checked / "manifest.csv").subset("test")
    if not len(manifest):
        return None
    manifest = replace(manifest, splits=np.full(len(manifest), "val", object))
    leaks = read_json(checked / "check.json")["leaks"]["test"]
    warnings = leak_warnings(leaks, "test", "")
    if not _is_whole(output) or Manifest.read(output / "manifest.csv").fingerprint != manifest.fingerprint:
        _store(output, manifest, {"arguments": {}, "understood": {}, "warnings": warnings}, ())
    return _checked(manifest, warnings, is_own=True)


def _checked(manifest: Manifest, warnings: Sequence[str], *, is_own: bool) -> CheckedData:
    told: dict[str, object] = {"samples": len(manifest), "unit": "image", "own": is_own, "warnings": list(warnings)}
    return CheckedData(manifest.root, manifest.fingerprint, told)


def _find(root: Path, listing: Listing, classes: Sequence[str]) -> _Judged:
    """The pictures to judge by, and what was taken for what."""
    refuse_without_images(root, listing, LAYOUTS)
    listing, masks = without_mask_folders(listing)
    place, inside, tables = _labelled(root, listing, classes)
    names = {name for _, name in inside}
    spelling = matched(classes, names)
    _refuse_unknown(root, place, names - set(classes) - set(spelling), classes)
    files, given = zip(*inside, strict=True)
    left = len(listing.files) - len(files)
    respelt = ", ".join(f"{displayed(theirs)} = {displayed(ours)}" for theirs, ours in sorted(spelling.items()))
    understood = {
        "format": f"photographs, {'their classes in a table' if tables else 'one folder per class'}, all to judge by",
        "folder": f"{place}{f'; {left:,} images elsewhere are left aside' if left else ''}",
        "classes": f"{len(names)} of the run's {len(classes)}, by name{f' ({respelt})' if respelt else ''}",
    }
    absent = [name for name in classes if name not in {spelling.get(theirs, theirs) for theirs in names}]
    notes = told_masks(masks)
    notes += [f"{named_classes(absent)}: no pictures, so the figures say nothing about it."] if absent else []
    return _Judged(files, tuple(spelling.get(name, name) for name in given), understood, tuple(notes), tables)


def _labelled(
    root: Path, listing: Listing, classes: Sequence[str]
) -> tuple[str, list[tuple[ListedFile, str]], tuple[ListedFile, ...]]:
    """What names the classes, the pictures with their classes, and the tables among it.

    Tables count where no folder is called like a class of the run's.
    """
    try:
        base, inside = _in_folders(root, listing, classes)
        names = {name for _, name in inside}
        if names & set(classes) or matched(classes, names):
            return base.name, inside, ()
        refusal = None
    except DataError as error:
        refusal = error
    labels = read_labels(root, listing)
    if labels is None and refusal is not None:
        raise refusal
    if labels is None:
        return base.name, inside, ()
    split = next(split for split in ("test", "val", "") if split in labels.splits.values())
    judged = [file for file in listing.files if labels.splits.get(file.path) == split]
    return labels.told, [(file, labels.classes[file.path]) for file in judged], labels.tables


def _in_folders(root: Path, listing: Listing, classes: Sequence[str]) -> tuple[Base, list[tuple[ListedFile, str]]]:
    _, bases = find_bases(root, picture_tree(Counter(file.folder for file in listing.files)), classes)
    by_split = {base.split: base for base in bases}
    base = next(by_split[split] for split in ("test", "val", "") if split in by_split)
    inside = [(file, name) for file in listing.files if (name := base.class_of(file.folder)) is not None]
    if inside:
        return base, inside
    raise DataError(
        f"{displayed(root.joinpath(*base.path))} holds images directly, without folders of classes.",
        f"The run knows {_told(classes)}.",
        "Put one folder per class into it: TEST/<class>/photo.jpg.",
    )


def _refuse_unknown(root: Path, place: str, unknown: Collection[str], classes: Sequence[str]) -> None:
    if not unknown:
        return
    first = min(unknown)
    near = nearest(first, classes)
    meant = f"Is {displayed(first)} meant to be {displayed(near)}? " if near else ""
    raise DataError(
        f"{displayed(root)} has classes that the run has not learnt: {named(unknown)} ({place}).",
        f"The run knows {_told(classes)}; case and outer spaces do not matter.",
        f"{meant}Rename them after the run's classes, or leave them out.",
    )


def _told(classes: Sequence[str]) -> str:
    return f"{len(classes):,} classes: {named(classes)}"


def _refuse_unusable(root: Path, output: Path, facts: dict[str, ImageFacts], problems: Sequence[ImageProblem]) -> None:
    if facts:
        return
    listed = store_refusal(output, _rows(problems))
    raise DataError(
        f"{displayed(root)} holds no usable picture.",
        f"The first of {len(problems)}: {displayed(problems[0].path)}: {problems[0].reason}.",
        f"Every file and its reason: {displayed(listed)}",
    )


def _manifest(
    root: Path, judged: _Judged, facts: dict[str, ImageFacts], classes: tuple[str, ...], fingerprint: str
) -> Manifest:
    numbers = {name: number for number, name in enumerate(classes)}
    rows = [row for row, file in enumerate(judged.files) if file.path in facts]
    known = [facts[judged.files[row].path] for row in rows]
    return Manifest(
        root=root,
        classes=classes,
        paths=np.asarray([judged.files[row].path for row in rows], object),
        labels=np.asarray([numbers[judged.classes[row]] for row in rows], np.int64),
        widths=np.asarray([fact.width for fact in known], np.int32),
        heights=np.asarray([fact.height for fact in known], np.int32),
        splits=np.full(len(rows), "val", object),
        sizes=np.asarray([fact.bytes for fact in known], np.int64),
        mtimes_ns=np.asarray([fact.mtime_ns for fact in known], np.int64),
        digests=np.asarray([fact.sha256 for fact in known], object),
        fingerprint=fingerprint,
    )


def _warnings(
    manifest: Manifest,
    learnt: Manifest,
    facts: dict[str, ImageFacts],
    problems: Sequence[ImageProblem],
    group_pattern: str | None,
) -> list[str]:
    pattern = compiled(group_pattern)
    everything = np.full(len(manifest), True)
    leaks = find_leaks(
        pictures_of(learnt, learnt.splits == "train", (pattern, {})), pictures_of(manifest, everything, (pattern, {}))
    )
    warnings = leak_warnings(leaks, "test", "", is_sure=pattern is not None)
    warnings += narrow_warnings(manifest.root, list(facts.values()))
    if problems:
        counts = Counter(problem.code for problem in problems)
        told = ", ".join(f"{count} {code}" for code, count in counts.most_common())
        warnings.append(
            english(
                "Unusable files left out: {problems} ({told}), see quarantine.csv.", problems=len(problems), told=told
            )
        )
    return warnings


def _store(output: Path, manifest: Manifest, facts: dict[str, Any], problems: Sequence[ImageProblem]) -> None:
    record = {
        "format": FORMAT,
        "root": str(manifest.root),
        "fingerprint": manifest.fingerprint,
        "classes": list(manifest.classes),
        **facts,
    }

    def write(folder: Path) -> None:
        manifest.write(folder / "manifest.csv")
        record["manifest_sha256"] = sha256(folder / "manifest.csv")

    store_check(output, record, _rows(problems), write)


def _rows(problems: Sequence[ImageProblem]) -> list[tuple[str, str, str]]:
    return [(problem.path.as_posix(), problem.code, problem.reason) for problem in problems]


def _is_whole(output: Path) -> bool:
    """Whether an earlier check's manifest is there as it was written."""
    try:
        Manifest.read(output / "manifest.csv")
    except DataError:
        return False
    return True
