"""Checking a folder of images with boxes: what can be trained on, what cannot and why, and what to be careful with."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.nvimgcodec
import PIL
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from challenges.detection import audit
from challenges.detection.annotations import reading as annotation_files
from challenges.detection.annotations.cleaning import CleanScenes, clean
from challenges.detection.annotations.sizes import reconcile
from challenges.detection.annotations.splitting import draw_validation
from challenges.detection.annotations.table import CONSEQUENCES, Annotations, Finding, UnusableError
from challenges.detection.annotations.units import reinterpret
from challenges.detection.reach import View, object_sizes
from challenges.detection.scenes import Scenes
from common.errors import DataError
from common.files import sha256
from common.terminal.understanding import print_understanding
from common.text import printable
from common.vision.image_folders import (
    hash_order,
    probe_listed,
    store_check,
    store_refusal,
    stored_check,
    told_facts,
    units_of,
)
from common.vision.images import ImageProblem

FORMAT = 3  # of check.json; another number means that the folder is checked again
SHOWN = 12  # rows of a printed table before the rest is only counted
TABLES = ("images.csv", "boxes.csv")


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    problems: unusable images, and what was amiss in the annotations. record: check.json's content.
    reused:   the folder and the arguments were those of an earlier check.
    """

    scenes: Scenes
    problems: tuple[Finding, ...]
    record: dict[str, Any]
    reused: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.record["warnings"])

    def print(self, console: Console) -> None:
        """Show counts, object sizes, colour modes, oddities, what was left out or changed, and warnings."""
        record = self.record
        root = printable(str(self.scenes.root))
        console.print(f"{root} ({record['layout']})", markup=False, highlight=False, soft_wrap=True)
        print_understanding(record["understood"], console)
        console.print(self._class_table())
        spread = record["boxes_per_image"]
        told = f"boxes per image: {spread['smallest']} to {spread['largest']}, median {spread['median']}"
        without = sum(record["without_boxes"].values())
        console.print(f"{told}; {without:,} images without boxes", markup=False, highlight=False, soft_wrap=True)
        for line in told_facts(record):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._print_problems(console)
        for warning in self.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(printable(warning))}", highlight=False, soft_wrap=True)

    def _class_table(self) -> Table:
        counts, sizes, classes = self.record["counts"], self.record["sizes"], self.scenes.classes
        side = f"sides at {sizes['input']} px" + (f", tiles of {sizes['tile']}" if sizes["tile"] else "")
        table = Table("class", "train", "val", side, f"under {sizes['smallest_default_box']:g} px", "reachable")
        for name in classes[:SHOWN]:
            row = sizes["classes"].get(name)
            shown = (
                ("{:.0f} / {:.0f} / {:.0f}".format(*row["sides"]), f"{row['below']:.1%}", f"{row['recall']:.1%}")
                if row
                else ("", "", "")
            )
            table.add_row(escape(name), f"{counts['train'][name]:,}", f"{counts['val'][name]:,}", *shown)
        if len(classes) > SHOWN:
            table.add_row(f"… {len(classes) - SHOWN} more", *[""] * 5)
        table.add_section()
        table.add_row("all boxes", *(f"{sum(counts[split].values()):,}" for split in ("train", "val")), "", "", "")
        table.add_row("images", *(f"{self.record['images'][split]:,}" for split in ("train", "val")), "", "", "")
        for column in table.columns[1:]:
            column.justify = "right"
        return table

    def _print_problems(self, console: Console) -> None:
        if not self.problems:
            return
        table = Table("file", "code", "done", "reason")
        for problem in self.problems[:SHOWN]:
            done = CONSEQUENCES.get(problem.code, "image left out")
            table.add_row(escape(printable(problem.path)), problem.code, done, escape(printable(problem.reason)))
        if len(self.problems) > SHOWN:
            table.add_row(f"… {len(self.problems) - SHOWN} more in quarantine.csv", "", "", "")
        console.print(table)


def check(
    root: Path,
    output: Path,
    *,
    validation_fraction: float = 0.2,
    seed: int = 0,
    view: View = View(),  # noqa: B008 (frozen)
    workers: int | None = None,
    progress: Console | Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Scan images and annotations under `root`; write images.csv, boxes.csv, quarantine.csv, check.json to `output`.

    validation_fraction, seed: of the split that is drawn where the folder has none.
    view:     the network's, at which the objects' sizes are judged.
    workers:  processes, as `probe_all` takes them.
    progress: where it is shown, standard error by default, or what is called with (done, in all) instead.
    Nothing is opened when `output` holds the check of the same files with the same arguments. `root` is only read.
    Raises DataError when nothing can be learnt from the folder.
    """
    started = time.monotonic()
    root = root.absolute()
    if not 0 < validation_fraction < 1:
        raise DataError(f"The validation fraction is {validation_fraction}.", "It lies between 0 and 1.")
    listing = annotation_files.list_scenes(root)
    arguments = {
        "root": str(root),
        "validation_fraction": validation_fraction,
        "seed": seed,
        "decoders": {"nvimgcodec": nvidia.nvimgcodec.__version__, "pillow": PIL.__version__},
    }
    stored = _stored(output, listing.fingerprint, arguments)
    if stored is not None:
        is_judged = View(stored.record["sizes"]["input"], stored.record["sizes"]["tile"]) == view
        return stored if is_judged else _written(_sized(stored, view), output)
    with _reasons_kept(output):
        annotations = annotation_files.read(root, listing)
    facts, problems = probe_listed(root, [image.path for image in annotations.images], workers, progress, output)
    with _reasons_kept(output):
        annotations = reinterpret(reconcile(annotations, facts), facts)
        cleaned = clean(annotations, facts)
        findings = (*annotations.findings, *cleaned.findings)
        scenes = _scenes(root, listing.fingerprint, cleaned, annotations, validation_fraction, seed)
        together = (*map(_as_finding, problems), *findings)
        audit.refuse_hopeless(scenes, together)
    record = {
        "format": FORMAT,
        "root": str(root),
        "fingerprint": listing.fingerprint,
        "arguments": arguments,
        "drawn": _is_drawn(cleaned.splits),
        "seconds": round(time.monotonic() - started, 3),
        "others": listing.others,
        "understood": _understood(annotations, validation_fraction),
    } | audit.findings_record(scenes, annotations, cleaned.images, problems, findings, listing.others, cleaned.rounded)
    return _written(_sized(CheckReport(scenes, together, record), view), output)


@contextmanager
def _reasons_kept(output: Path) -> Iterator[None]:
    """Write quarantine.csv before a refusal leaves the check, and name it in the message."""
    try:
        yield
    except UnusableError as error:
        if not error.findings:
            raise
        rows = [(finding.path, finding.code, finding.reason) for finding in error.findings]
        told = f"Every reason: {store_refusal(output, rows)}"
        raise DataError(error.given, error.allowed, f"{error.remedy} {told}".strip()) from None


def _as_finding(problem: ImageProblem) -> Finding:
    return Finding(problem.path.as_posix(), problem.code, problem.reason)


def _understood(annotations: Annotations, fraction: float) -> dict[str, str]:
    """How the data was taken, for the record: what the reader said, and where the split comes from."""
    drawn = f"none given: {fraction:.0%} of the images are drawn for validation"
    return {name: printable(told) or drawn for name, told in annotations.understood.items()}


def _scenes(
    root: Path,
    fingerprint: str,
    cleaned: CleanScenes,
    annotations: Annotations,
    fraction: float,
    seed: int,
) -> Scenes:
    digests = [fact.sha256 for fact in cleaned.images]
    splits = cleaned.splits
    if _is_drawn(splits):
        present = np.zeros((len(splits), len(annotations.classes)), bool)
        present[cleaned.owners, cleaned.labels - 1] = True
        together = units_of(cleaned.paths, digests, [None] * len(digests))
        validation = draw_validation(present, together, hash_order(set(together), seed), fraction)
        splits = np.where(validation, "val", "train").astype(object)
    classes, category_ids = annotations.classes, annotations.category_ids
    return scenes_of(cleaned, root, fingerprint, classes=classes, category_ids=category_ids, splits=splits)


def _is_drawn(splits: np.ndarray) -> bool:
    """Whether no image (image,) has a split of its own."""
    return len(splits) > 0 and bool((splits == "").all())


def scenes_of(
    cleaned: CleanScenes,
    root: Path,
    fingerprint: str,
    *,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    splits: np.ndarray,
) -> Scenes:
    """The cleaned images and boxes as scenes; splits (image,) str. The labels stay those of the annotations."""
    counts = np.bincount(cleaned.owners, minlength=len(splits))
    return Scenes(
        root=root,
        classes=classes,
        category_ids=category_ids,
        paths=np.asarray(cleaned.paths, object),
        widths=np.asarray([fact.width for fact in cleaned.images], np.int32),
        heights=np.asarray([fact.height for fact in cleaned.images], np.int32),
        splits=splits,
        digests=np.asarray([fact.sha256 for fact in cleaned.images], object),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=cleaned.boxes,
        labels=cleaned.labels,
        areas=cleaned.areas,
        ignored=cleaned.ignored,
        fingerprint=fingerprint,
    )


def _sized(report: CheckReport, view: View) -> CheckReport:
    """The same report with the objects' sizes, and what to say of them, as this view shows them."""
    earlier = report.record.get("sizes", {}).get("warnings", ())
    others = [warning for warning in report.warnings if warning not in earlier]
    sizes = object_sizes(report.scenes, view)
    return replace(report, record=report.record | {"sizes": sizes, "warnings": [*others, *sizes["warnings"]]})


def _written(report: CheckReport, output: Path) -> CheckReport:
    """Store the report and complete its record with the tables' digests."""
    record = dict(report.record)

    def write(folder: Path) -> None:
        report.scenes.write(folder)
        record["sha256"] = {name: sha256(folder / name) for name in TABLES}

    rows = [(problem.path, problem.code, problem.reason) for problem in report.problems]
    store_check(output, record, rows, write)
    return replace(report, record=record)


def _stored(output: Path, fingerprint: str, arguments: dict[str, Any]) -> CheckReport | None:
    """The earlier report, if its files are whole and nothing has changed since."""
    found = stored_check(output, FORMAT, fingerprint, arguments)
    if found is None:
        return None
    record, rows = found
    try:
        return CheckReport(Scenes.read(output), tuple(Finding(**row) for row in rows), record, reused=True)
    except DataError:
        return None
