"""What own_interactions.py measured, joined into a record per data set and time, and the table of these."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from benchmarks.compare import markdown_table
from benchmarks.measure import Warmup, Window, Windows, summarise
from benchmarks.record import Finding, ProtocolUsed, Record, Validity, new_record, short_commit

NAME, PROTOCOL = "own-interactions", "equal-processor-time"
GAIN, HITS = "ndcg@10/full", "hr@10/full"
OVER = 0.15  # of the time, by which a side may miss its end: it may be done before
OURS = "kit-"


def comparison(cells: Sequence[Record], command: Sequence[str]) -> Record:
    """One record of all sides' learning of one data set in one time; details hold `side metric`, means over its seeds.

    cells: the records of own_interactions.py, of one commit where they are the kit's own sides.
    """
    first = next((cell for cell in cells if cell.workload.model.startswith(OURS)), cells[0])
    sides: dict[str, list[Record]] = {}
    for cell in cells:
        sides.setdefault(cell.workload.model, []).append(cell)
    details: dict[str, float] = {name: first.details[name] for name in ("users", "items", "interactions", "threads")}
    for side, mine in sides.items():
        for metric in (GAIN, HITS, "seconds"):
            details[f"{side} {metric}"] = mean(cell.details[metric] for cell in mine)
        details |= {f"{side} seed {cell.details['seed']:g}": cell.details[GAIN] for cell in mine}
    return new_record(
        kind="train",
        name=NAME,
        workload=replace(first.workload, model="own", engine=", ".join(_versions(sides)), batch=1),
        protocol=ProtocolUsed(
            name=PROTOCOL, version=1, warmup_seconds=0.0, windows=max(map(len, sides.values())),
            window_seconds=first.protocol.window_seconds,
        ),
        measurements={side: _windows(mine) for side, mine in sides.items()},
        details=details,
        validity=_validity(cells),
        command=command,
        environment={"kit": first.kit, **first.system},
    )  # fmt: skip


def _versions(sides: Mapping[str, Sequence[Record]]) -> Iterable[str]:
    """Of the libraries, such as `rectools 0.19.0`; the kit's own stands in the record."""
    names = {side.split("-")[0]: mine[0].workload.engine for side, mine in sides.items() if not side.startswith(OURS)}
    return [f"{name} {version}" for name, version in names.items()] or ["torch"]


def _windows(cells: Sequence[Record]) -> Windows:
    """A side's trainings as windows of processor time, one per seed."""
    windows = [window for cell in cells for window in cell.measurements[cell.workload.model].windows]
    steps = [window.seconds / window.steps for window in windows]
    busy = max(cell.measurements[cell.workload.model].busy_share for cell in cells)
    return summarise(Warmup(seconds=0.0, steps=0, steady=True), [Window(**vars(w)) for w in windows], steps, busy)


def _validity(cells: Sequence[Record]) -> Validity:
    """What is claimed is a figure at equal time: throughputs, and how busy the machine was, do not speak against it."""
    late = [
        Finding(
            code="UNEQUAL_TIME",
            text=f"{cell.workload.model} seed {cell.details['seed']:g} took {cell.details['seconds']:.0f} s of "
            f"{cell.protocol.window_seconds:g}.",
        )
        for cell in cells
        if cell.details["seconds"] > (1 + OVER) * cell.protocol.window_seconds
    ]
    told: dict[str, Any] = {
        finding.code: finding for cell in cells for finding in cell.validity.warnings if finding.code == "DIRTY_TREE"
    }
    return Validity(valid=not late, reasons=tuple(late), warnings=tuple(told.values()))


def table(records: Sequence[Record]) -> str:
    """A row for every side, a column for every data set and time: NDCG@10, the best in bold, and who is first below."""
    shown = {
        (record.workload.dataset, record.protocol.window_seconds): record
        for record in records
        if record.name == NAME and record.validity.valid
    }
    order = sorted(shown, key=lambda key: shown[key].details["users"] * shown[key].protocol.window_seconds)
    sides = list(dict.fromkeys(side for key in order for side in _figures(shown[key])))
    rows = []
    for side in sides:
        cells = []
        for key in order:
            found = _figures(shown[key])
            best = side in found and found[side] == max(found.values())
            cells.append("–" if side not in found else f"**{found[side]:.4f}**" if best else f"{found[side]:.4f}")
        rows.append((side, *cells))
    firsts = [max(_figures(shown[key]).items(), key=lambda entry: entry[1])[0] for key in order]
    rows.append(("first", *firsts))
    return "\n".join(markdown_table(("NDCG@10", *(_heading(shown[key]) for key in order)), rows)) + "\n"


def _figures(record: Record) -> dict[str, float]:
    return {name.removesuffix(f" {GAIN}"): value for name, value in record.details.items() if name.endswith(f" {GAIN}")}


def _heading(record: Record) -> str:
    counts = [len(windows.windows) for windows in record.measurements.values()]
    seeds = f"{min(counts)} to {max(counts)} seeds" if min(counts) < max(counts) else f"seeds: {max(counts)}"
    return (
        f"{record.workload.dataset}<br>{record.details['users']:,.0f} users, {record.protocol.window_seconds:g} s, "
        f"{seeds}<br>{record.created[:10]}, {short_commit(record.kit['commit'])}"
    )
