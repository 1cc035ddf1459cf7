"""The table of what own_data.py measured: who is first, by data and by processor seconds."""

from collections.abc import Sequence

from benchmarks.compare import markdown_table
from benchmarks.record import Record, short_commit

NAME = "own-data"
METRIC = {"classify": "top1", "detect": "ap"}
SIDES = ("kit", "plain", "timm", "ultralytics")
HEADER = ("data", "processor", "seeds", "metric", *SIDES, "first", "measured")


def table(records: Sequence[Record]) -> str:
    """A row for every set and budget, of its newest valid record: each side's figure, the best in bold."""
    shown = {
        (record.workload.dataset, record.protocol.window_seconds): record
        for record in sorted(records, key=lambda record: record.created)
        if record.name == NAME and record.validity.valid
    }
    return "\n".join(markdown_table(HEADER, [_row(shown[key]) for key in sorted(shown)])) + "\n"


def _row(record: Record) -> tuple[str, ...]:
    metric = METRIC["classify" if record.workload.challenge == "classification" else "detect"]
    values = {side: record.details.get(f"{side} {metric}") for side in SIDES}
    best = max(value for value in values.values() if value is not None)
    told = {side: "–" if value is None else f"{value:.3f}" for side, value in values.items()}
    first = ", ".join(side for side in SIDES if values[side] == best)
    figures = (f"**{told[side]}**" if values[side] == best else told[side] for side in SIDES)
    measured = f"{record.created[:10]}, {short_commit(record.kit['commit'])}"
    seconds, seeds = f"{record.protocol.window_seconds:g} s", str(record.protocol.windows)
    return (record.workload.dataset, seconds, seeds, metric, *figures, first, measured)
