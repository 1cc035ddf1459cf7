"""Checking interactions: from the user's files to the split that trains, told and kept."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from challenges.recommendation.files.problems import RowsRefusedError
from challenges.recommendation.files.readers import Interactions, read
from challenges.recommendation.files.sources import Source, find
from challenges.recommendation.histories import audit, understanding
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.histories.splits import split
from common.errors import DataError
from common.files import read_json, write_csv, write_json
from common.terminal.understanding import print_understanding
from common.text import printable

FORMAT = 3  # of check.json and the splits; another number means that the data is checked again

QUARANTINE = "quarantine.csv"


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    record: check.json's content. reused: files and configuration were those of an earlier check.
    """

    split: HistorySplit
    record: dict[str, Any]
    reused: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self.record["warnings"])

    def print(self, console: Console) -> None:
        """Show the files, the counts from reading to split, warnings, and what metrics can be compared with."""
        record, facts = self.record, self.record["facts"]
        named = f"{printable(record['files'][0])} ({record['format_name']})"
        console.print(named, markup=False, highlight=False, soft_wrap=True)
        print_understanding(record["understood"], console)
        table = Table("", "users", "items", "interactions")
        rows = {"read": facts["read"], "after the filters": facts["kept"]}
        for name, counts in rows.items():
            table.add_row(name, *(f"{counts[column]:,}" for column in ("users", "items", "interactions")))
        counts = record["counts"]
        table.add_row(
            "to learn from",
            *(f"{counts[column]:,}" for column in ("training_users", "items", "training_interactions")),
        )
        table.add_row("held out", f"{counts['judged_users']:,}", "", f"{counts['targets']:,}")
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
        concentration = record["popularity"]
        for line in (
            f"split: {record['protocol']}; {facts['tie_rule']}",
            f"density {record['density']:.3%}, histories of {record['history_lengths']['smallest']:,} to "
            f"{record['history_lengths']['largest']:,} items, median {record['history_lengths']['median']:,}",
            f"the most popular hundredth of the items has {concentration['top_hundredth']:.1%} of the interactions",
            *record["comparable"],
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for warning in self.warnings:
            console.print(f"[yellow]warning:[/yellow] {escape(printable(warning))}", highlight=False, soft_wrap=True)


def check(root: Path, output: Path, config: HistoryConfig, *, console: Console | None = None) -> CheckReport:
    """Read the interactions under `root`, filter and split them, and write split.npz and check.json into `output`.

    Nothing is read when `output` holds the split of the same files by the same configuration; the check of another
    configuration is replaced. console: where it is said that reading takes a while.
    Raises DataError when nothing can be learnt from the files.
    """
    started = time.monotonic()
    source = find(root, config.named_columns)
    arguments: dict[str, Any] = {
        "file": str(source.layout.path),
        "files": source.fingerprint,
        "history": dataclasses.asdict(config),
    }
    stored = _stored(output, arguments)
    if stored is not None:
        return stored
    if console is not None:
        console.print(f"reading {printable(source.layout.path.name)}", markup=False, highlight=False, soft_wrap=True)
    interactions = _read(source, output)
    parts = split(interactions, config, _fingerprint(source, arguments["history"]))
    record: dict[str, Any] = {
        "format": FORMAT,
        "root": str(source.root),
        "fingerprint": parts.fingerprint,
        "arguments": arguments,
        "format_name": source.kind,
        "files": [str(path) for path in source.files],
        "protocol": parts.protocol,
        "num_items": parts.num_items,
        "facts": parts.facts,
        "understood": understanding.understood(interactions, parts, config),
    } | audit.findings(interactions, parts)
    record["warnings"] = [*understanding.warnings(interactions, config), *record["warnings"]]
    output.mkdir(parents=True, exist_ok=True)
    (output / QUARANTINE).unlink(missing_ok=True)
    (output / "check.json").unlink(missing_ok=True)  # written last: where it is whole, the split is
    record["split_sha256"] = parts.write(output)
    record["seconds"] = round(time.monotonic() - started, 3)
    write_json(output / "check.json", record)
    return CheckReport(parts, record)


def _read(source: Source, output: Path) -> Interactions:
    """Read the interactions; where lines are refused, the first of them are listed in `output` before."""
    try:
        return read(source)
    except RowsRefusedError as error:
        (output / "check.json").unlink(missing_ok=True)
        rows = [(source.layout.path.name, line, problem.kind, problem.told) for line, problem in error.rows]
        write_csv(output / QUARANTINE, ("file", "line", "code", "reason"), rows, guarded=True)
        listed = f"The first are listed in {output / QUARANTINE}"
        raise DataError(error.given, error.allowed, f"{error.remedy} {listed}") from None


def _fingerprint(source: Source, history: dict[str, Any]) -> str:
    return hashlib.sha256(f"{FORMAT}\n{source.fingerprint}\n{json.dumps(history, sort_keys=True)}".encode()).hexdigest()


def _stored(output: Path, arguments: dict[str, Any]) -> CheckReport | None:
    """The earlier report, if its files are whole and nothing has changed since."""
    try:
        record = read_json(output / "check.json")
        if (record["format"], record["arguments"]) != (FORMAT, arguments):
            return None
        return CheckReport(HistorySplit.read(output), record, reused=True)
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None
