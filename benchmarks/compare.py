"""Records side by side: a table, a page that compares machines, and a verdict on regressions.

Only records of one protocol and one workload share a table, and invalid ones are shown with their reason, never ranked.

    python -m benchmarks.compare benchmarks/results --output comparison --goal 'resnet50 90 epochs'
    python -m benchmarks.compare before.json after.json --fail-on-regression 5%
"""

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from benchmarks import imports, prices, published
from benchmarks.command import run_command
from benchmarks.prices import PRICES
from benchmarks.record import RESULTS, Record, read_all, write
from common.errors import KitError
from common.files import write_text
from common.storage.claimed_folder import claimed

HEADER = ("device", "how", "result", "95 %", "step p50 ms", "p99 ms", "date", "remark")
REGRESSION_EXIT_CODE = 1
DEFAULT_GOAL = "resnet50 90 epochs"
WIDE = 160  # columns of a log file, where no terminal says how many there are


@dataclass(frozen=True)
class Group:
    """Records that may be compared: one protocol, one workload; newest last."""

    title: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Figure:
    """What a record is compared by: a ratio, or samples per second; higher is better."""

    name: str
    unit: str
    value: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self._number(self.value)} {self.unit}"

    def interval(self) -> str:
        return f"{self._number(self.low)} – {self._number(self.high)}"

    def _number(self, value: float) -> str:
        return f"{value:.2f}" if self.unit == "×" else f"{value:,.4g}"


@dataclass(frozen=True)
class Regression:
    """A record that is slower than the one before it on the same device by more than was allowed."""

    before: Record
    after: Record
    figure: str
    loss: float

    def __str__(self) -> str:
        return (
            f"{self.after.workload.challenge} {self.after.name} {self.figure} on {self.after.device}: "
            f"{self.loss:.1%} below record {self.before.id} ({self.before.created[:10]})"
        )


def group(records: Iterable[Record]) -> list[Group]:
    """Records by protocol and workload; precision, batch and device may differ within a group."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_group_key(record), []).append(record)
    return [Group(_title(members[0]), tuple(members)) for members in groups.values()]


def figures(record: Record) -> list[Figure]:
    """A comparison's ratios, else the throughput of every stage."""
    if record.kind == "comparison":
        return [Figure(name, "×", ratio.median, *ratio.interval) for name, ratio in record.ratios.items()]
    unit = f"{record.workload.sample_unit}s/s"
    return [
        Figure(name, unit, windows.samples_per_s.median, *windows.samples_per_s.interval)
        for name, windows in record.measurements.items()
    ]


def how(record: Record) -> str:
    """What of a workload may differ within a group, so that no two rows look alike that are not."""
    workload = record.workload
    told = [workload.precision, f"batch {workload.batch}", workload.engine]
    told += ["compiled"] * workload.compile + ["CUDA graphs"] * workload.cuda_graphs
    if workload.memory_format == "channels_last":
        told.append("NHWC")
    if record.evidence.ranks.size > 1:
        told.append(f"{record.evidence.ranks.size} ranks")
    if workload.workers:
        told.append(f"{workload.workers} workers")
    if workload.concurrency is not None:
        told.append(f"{workload.concurrency} in flight")
    return ", ".join(told)


def rows(record: Record) -> Iterator[tuple[str, ...]]:
    """One row per figure, under HEADER."""
    for figure in figures(record):
        windows = record.measurements.get(figure.name) or record.measurements[figure.name.split("/")[0]]
        yield (
            record.device,
            how(record),
            f"{figure.name}: {figure.text()}",
            figure.interval(),
            f"{windows.step_ms.p50:.4g}",
            f"{windows.step_ms.p99:.4g}",
            record.created[:10],
            _remark(record),
        )


def regressions(records: Sequence[Record], allowed: float) -> list[Regression]:
    """Each series' newest valid record against the one before it: slower by more than `allowed`, intervals apart."""
    series: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.validity.valid:
            series.setdefault(_series_key(record), []).append(record)
    found = []
    for members in series.values():
        if len(members) < 2:
            continue
        before, after = members[-2:]
        earlier = {figure.name: figure for figure in figures(before)}
        for figure in figures(after):
            old = earlier.get(figure.name)
            if old and figure.value < (1 - allowed) * old.value and figure.high < old.low:
                found.append(Regression(before, after, figure.name, 1 - figure.value / old.value))
    return found


def markdown(groups: Iterable[Group]) -> str:
    parts = []
    for one in groups:
        table = markdown_table(HEADER, [row for record in one.records for row in rows(record)])
        parts.append("\n".join([f"### {one.title}", "", *table]))
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]


def show(groups: Iterable[Group]) -> None:
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    for one in groups:
        table = Table(*HEADER, title=one.title, title_justify="left")
        for record in one.records:
            for row in rows(record):
                table.add_row(*row, style=None if record.validity.valid else "dim")
        console.print(table)


def publish(record: Record, folder: Path | None, console: Console) -> Path:
    """Write the record and print its figures, what speaks against them, and what limits them."""
    path = write(record, folder)
    show(group([record]))
    for finding in (*record.validity.reasons, *record.validity.warnings):
        console.print(f"{finding.code}: {finding.text}", soft_wrap=True)
    if record.split:
        overlap = record.split.overlap_efficiency
        low, high = overlap.interval
        share = f"{overlap.median:.0%} ({low:.0%} – {high:.0%})"
        console.print(
            f"bottleneck: {record.split.bottleneck}; end-to-end is {share} of the slower part", soft_wrap=True
        )
    console.print(f"RECORD valid={str(record.validity.valid).lower()} {path}", soft_wrap=True)
    return path


def percentage(text: str) -> float:
    """`5%` and `0.05` alike."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise KitError(f"--fail-on-regression is {text!r}.", "It is a share below 100 %, such as 5%.")
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to write, and what to write it from besides the records."""

    output: Path | None = None
    """Folder of comparison.html, comparison.md and comparison.csv; nothing is written without one."""
    goal: str | None = None
    """What to rent for, as 'resnet50 90 epochs'."""
    prices: Path = PRICES
    """A table of instances and their prices, with dates and sources."""
    published: tuple[Path, ...] = ()
    """Further figures of others: LoadGen's summary, CSV of perf_analyzer or timm, JSON lines of DLLogger."""
    fail_on_regression: str | None = None
    """Exit with 1 where a series' newest record is slower than the one before by more, e.g. 5%."""


def main(records: Annotated[tuple[Path, ...], tyro.conf.Positional] = (RESULTS,), *, settings: Settings) -> int:
    """Compare benchmark records, and the machines that made them.

    Args:
        records: Record files, or folders of them.
    """
    allowed = None if settings.fail_on_regression is None else percentage(settings.fail_on_regression)
    found = read_all(records)
    if settings.output is not None:
        write_pages(found, settings)
    show(group(found))
    slower = [] if allowed is None else regressions(found, allowed)
    for regression in slower:
        print(f"REGRESSION {regression}", file=sys.stderr)
    if settings.output is not None:
        print(f"COMPARISON {settings.output / 'comparison.html'}")
    return REGRESSION_EXIT_CODE if slower else 0


def write_pages(found: Sequence[Record], settings: Settings) -> None:
    """The page, and its tables as Markdown and CSV. Raises KitError before anything is written."""
    from benchmarks.comparison.page import Sources, page
    from benchmarks.comparison.rent import parse_goal, predict

    assert settings.output is not None
    sources = Sources(
        records=found,
        published=[*published.rows(), *(row for path in settings.published for row in imports.rows(path))],
        prices=prices.read(settings.prices),
        goal=parse_goal(settings.goal or DEFAULT_GOAL),
    )
    if settings.goal is not None:
        predict(sources.goal, found, sources.prices)
    groups = group(found)
    files = {"html": page(sources), "md": markdown(groups), "csv": as_csv(groups)}
    with claimed(settings.output, "compare"):
        for kind, text in files.items():
            write_text(settings.output / f"comparison.{kind}", text)


def as_csv(groups: Iterable[Group]) -> str:
    """All rows under one header, each with its group and its record's identifier."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("group", "record", *HEADER))
    for one in groups:
        writer.writerows((one.title, record.id, *row) for record in one.records for row in rows(record))
    return stream.getvalue()


def _group_key(record: Record) -> tuple[object, ...]:
    workload = record.workload
    protocol = record.protocol
    return (
        *(protocol.name, protocol.version, record.kind, record.name, workload.challenge, workload.model),
        *(workload.input_shape, workload.sample_unit, workload.data, workload.dataset),
    )


def _series_key(record: Record) -> tuple[object, ...]:
    return (*_group_key(record), record.device, record.workload)


def _title(record: Record) -> str:
    workload = record.workload
    shape = "×".join(str(size) for size in workload.input_shape)
    return (
        f"{workload.challenge}: {record.name}, {workload.model} {shape}, {workload.data} data ({workload.dataset}), "
        f"protocol {record.protocol.name}/{record.protocol.version}"
    )


def _remark(record: Record) -> str:
    if not record.validity.valid:
        return "invalid: " + ", ".join(dict.fromkeys(reason.code for reason in record.validity.reasons))
    return ", ".join(dict.fromkeys(warning.code for warning in record.validity.warnings))


if __name__ == "__main__":
    run_command(main)
