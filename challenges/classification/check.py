"""Checking a folder of photographs: what can be trained on, what cannot and why, and what to be careful with."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.nvimgcodec
import PIL
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from challenges.classification import audit
from challenges.classification.layout import Layout, draw_validation, find_layout, joined, list_photographs
from challenges.classification.manifest import Manifest
from challenges.classification.mask_folders import without_paired_masks
from challenges.classification.recipes import DataConfig
from common.errors import DataError
from common.files import read_csv, sha256
from common.terminal.understanding import print_understanding
from common.text import printable
from common.vision.image_folders import (
    Listing,
    displayed,
    probe_listed,
    store_check,
    store_refusal,
    stored_check,
    told_facts,
    units_of,
    with_reasons,
)
from common.vision.images import ImageFacts, ImageProblem
from common.vision.leaks import LIKELY_GROUP, groups
from common.vision.near_duplicates import sets_of_copies

FORMAT = 4  # of check.json; another number means that the folder is checked again
SHOWN = 12  # rows of a printed table before the rest is only counted


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    record: check.json's content. reused: the folder and the arguments were those of an earlier check.
    """

    manifest: Manifest
    problems: tuple[ImageProblem, ...]
    record: dict[str, Any]
    reused: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.record["warnings"])

    def print(self, console: Console) -> None:
        """Show how the data was taken, counts, colour modes, oddities, quarantined files and warnings."""
        counts = self.record["counts"]
        classes = self.manifest.classes
        console.print(displayed(self.manifest.root), markup=False, highlight=False, soft_wrap=True)
        print_understanding(self.record["understood"], console)
        table = Table("class", *counts)
        for name in classes[:SHOWN]:
            table.add_row(escape(displayed(name)), *(f"{counts[split].get(name, 0):,}" for split in counts))
        if len(classes) > SHOWN:
            table.add_row(f"… {len(classes) - SHOWN} more", *[""] * len(counts))
        table.add_section()
        table.add_row("all", *(f"{sum(counts[split].values()):,}" for split in counts))
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
        for line in told_facts(self.record):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._print_problems(console)
        for warning in self.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(printable(warning))}", highlight=False, soft_wrap=True)

    def _print_problems(self, console: Console) -> None:
        if not self.problems:
            return
        table = Table("quarantined", "code", "reason")
        for problem in self.problems[:SHOWN]:
            table.add_row(escape(displayed(problem.path)), problem.code, escape(printable(problem.reason)))
        if len(self.problems) > SHOWN:
            table.add_row(f"… {len(self.problems) - SHOWN} more in quarantine.csv", "", "")
        console.print(table)


def check(
    root: Path,
    output: Path,
    *,
    config: DataConfig = DataConfig(),  # noqa: B008 (frozen)
    seed: int = 0,
    workers: int | None = None,
    progress: Console | Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Scan the photographs under `root` and write manifest.csv, quarantine.csv and check.json into `output`.

    config:   how a split is drawn, and whether a given one is kept; of a drawn one, files that `group_pattern` or
              `groups` names alike stay together.
    seed:     of the split that is drawn.
    workers:  processes, as `probe_all` takes them.
    progress: where it is shown, standard error by default, or what is called with (done, in all) instead.
    Nothing is opened when `output` holds the check of the same files with the same arguments. `root` is only read.
    Raises DataError when nothing can be learnt from the folder.
    """
    started = time.monotonic()
    root = root.absolute()
    pattern = compiled(config.group_pattern)
    if not 0 < config.validation_fraction < 1:
        raise DataError(f"The validation fraction is {config.validation_fraction}.", "It lies between 0 and 1.")
    listing, layout = _found(root, config)
    named = read_groups(config.groups) if config.groups else layout.groups
    audit.refuse_hopeless(root, layout, [True] * len(layout.files), {})
    arguments = _arguments(root, config, seed)
    stored = _stored(output, listing.fingerprint, arguments)
    if stored is not None:
        return stored
    facts, problems = probe_listed(root, [file.path for file in layout.files], workers, progress, output)
    facts, told = without_paired_masks(facts)
    layout = replace(layout, notes=(*told, *layout.notes))
    usable = [file.path in facts for file in layout.files]
    try:
        audit.refuse_hopeless(root, layout, usable, Counter(problem.code for problem in problems))
    except DataError as error:
        listed = store_refusal(output, _rows(problems))
        raise with_reasons(error, audit.concerned(layout, usable, problems), listed) from None
    drawn = _splits(root, layout, facts, config, seed, named)
    manifest = _manifest(root, listing, layout, facts, drawn)
    record = {
        "format": FORMAT,
        "root": str(root),
        "fingerprint": listing.fingerprint,
        "arguments": arguments,
        "layout": layout.kind,
        "drawn": layout.kind == "flat",
        "seconds": round(time.monotonic() - started, 3),
        "others": listing.others,
    } | audit.findings(
        manifest, layout, [facts[path] for path in manifest.paths], problems, (pattern, named), listing.others
    )
    return _written(CheckReport(manifest, tuple(problems), record), output)


def _found(root: Path, config: DataConfig) -> tuple[Listing, Layout]:
    """The folder's files, tables of classes among them, and the layout of its pictures, parted as it was asked for."""
    listing = list_photographs(root)
    layout = find_layout(root, listing, config.label_column)
    listing = replace(listing, annotations=layout.tables)
    if config.split == "keep":
        return listing, layout
    return listing, joined(layout, "by group" if config.split == "by-group" else "at random")


def _arguments(root: Path, config: DataConfig, seed: int) -> dict[str, Any]:
    """What a check depends on beside the folder's files."""
    given = {
        "root": str(root),
        "validation_fraction": config.validation_fraction,
        "seed": seed,
        "group_pattern": config.group_pattern,
        "split": config.split,
        "decoders": {"nvimgcodec": nvidia.nvimgcodec.__version__, "pillow": PIL.__version__},
    }
    given |= {"groups": sha256(config.groups)} if config.groups else {}
    return given | ({"label_column": config.label_column} if config.label_column else {})


def compiled(group_pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if group_pattern is None else re.compile(group_pattern)
    except re.error as error:
        raise DataError(
            f"The group pattern {group_pattern!r} is no regular expression: {error}.",
            r"It is matched against file names; its first group names what must stay together: '(patient\d+)_'.",
        ) from None


def read_groups(path: Path) -> dict[str, str]:
    """Path below the data's folder -> group, of a CSV file with the columns path and group. Raises DataError."""
    try:
        rows = read_csv(path)
        return {row["path"]: row["group"] for row in rows}
    except (OSError, KeyError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else f"it lacks {error}" if rows else "it has no rows"
        raise DataError(
            f"The groups {path} cannot be read: {told}.",
            "It is a CSV file with the columns path, below the data's folder, and group.",
            "Write one: kit check DATA --similar --resplit by-group",
        ) from None


def _splits(
    root: Path,
    layout: Layout,
    facts: dict[str, ImageFacts],
    config: DataConfig,
    seed: int,
    named: Mapping[str, str],
) -> dict[str, str]:
    """The split of every usable file by its path: the layout's, or for files that have none a drawn one.

    named: path -> the group that a file of groups has for it.
    """
    rows = [row for row, file in enumerate(layout.files) if file.path in facts]
    splits = {layout.files[row].path: layout.splits[row] for row in rows}
    open_rows = [row for row in rows if not layout.splits[row]]
    if not open_rows:
        return splits
    paths = [layout.files[row].path for row in open_rows]
    labels = np.unique([layout.classes[row] for row in open_rows], return_inverse=True)[1]
    known = [facts[path] for path in paths]
    by_group = config.split == "by-group"
    pattern = compiled(config.group_pattern) or (LIKELY_GROUP if by_group else None)
    ties: list[Sequence[str | None]] = [[named.get(path) for path in paths]] if named else []
    ties += [groups(paths, pattern)] if pattern else []
    if by_group:
        ties.append([f"copies {number}" for number in sets_of_copies([fact.thumbnail for fact in known])])
    units = units_of(paths, [fact.sha256 for fact in known], *ties)
    validation = draw_validation(units, labels, config.validation_fraction, seed)
    if not validation.any():
        raise DataError(
            f"No validation split can be drawn from {displayed(root)}: every class is a single group of pictures.",
            "Identical files, and files whose names match the group pattern alike, stay in one split.",
            "Use another group pattern, or give train/ and val/ folders.",
        )
    drawn = np.where(validation, "val", "train").tolist()
    return splits | dict(zip(paths, drawn, strict=True))


def _manifest(
    root: Path, listing: Listing, layout: Layout, facts: dict[str, ImageFacts], splits: dict[str, str]
) -> Manifest:
    rows = [row for row, file in enumerate(layout.files) if file.path in facts]
    paths = [layout.files[row].path for row in rows]
    names = [layout.classes[row] for row in rows]
    classes = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.asarray([numbers[name] for name in names], np.int64)
    known = [facts[path] for path in paths]
    return Manifest(
        root=root,
        classes=classes,
        paths=np.asarray(paths, object),
        labels=labels,
        widths=np.asarray([fact.width for fact in known], np.int32),
        heights=np.asarray([fact.height for fact in known], np.int32),
        splits=np.asarray([splits[path] for path in paths], object),
        sizes=np.asarray([fact.bytes for fact in known], np.int64),
        mtimes_ns=np.asarray([fact.mtime_ns for fact in known], np.int64),
        digests=np.asarray([fact.sha256 for fact in known], object),
        fingerprint=listing.fingerprint,
    )


def _written(report: CheckReport, output: Path) -> CheckReport:
    """Store the report and complete its record with the manifest's digest."""
    record = dict(report.record)

    def write(folder: Path) -> None:
        report.manifest.write(folder / "manifest.csv")
        record["manifest_sha256"] = sha256(folder / "manifest.csv")

    store_check(output, record, _rows(report.problems), write)
    return replace(report, record=record)


def _rows(problems: Iterable[ImageProblem]) -> list[tuple[str, str, str]]:
    """The lines of quarantine.csv."""
    return [(problem.path.as_posix(), problem.code, problem.reason) for problem in problems]


def _stored(output: Path, fingerprint: str, arguments: dict[str, Any]) -> CheckReport | None:
    """The earlier report, if its files are whole and nothing has changed since."""
    found = stored_check(output, FORMAT, fingerprint, arguments)
    if found is None:
        return None
    record, rows = found
    try:
        problems = tuple(ImageProblem(Path(row["path"]), row["code"], row["reason"]) for row in rows)  # type: ignore[arg-type]
        return CheckReport(Manifest.read(output / "manifest.csv"), problems, record, reused=True)
    except DataError:
        return None
