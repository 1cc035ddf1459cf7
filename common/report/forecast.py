"""The page's section on what the training's first steps told, and what it took."""

from collections.abc import Mapping
from typing import Any

from common.report.elements import Section, join, paragraph, table
from common.terminal.duration import duration


def forecast_section(record: Mapping[str, Any]) -> Section | None:
    """From `forecast.json`; None where the training was too short for a forecast."""
    if not record:
        return None
    took, corrected = record["took"], record["corrected"]
    told = [("forecast", record), *([("after the first evaluation", corrected)] if corrected else [])]
    heads = [head for head, _ in told]
    times = [duration(one["seconds"]) for _, one in told]
    memory = [_gigabytes(one["expected_bytes"]) for _, one in told]
    rows = [
        ("training and its evaluations", *times, duration(took["seconds"]) if took else ""),
        ("largest memory", *memory, _gigabytes(took["memory_bytes"]) if took else ""),
    ]
    after = f" of this training, which went on after step {record['first_step']:,}" if record["first_step"] else ""
    intro = paragraph(f"Told after step {record['step']:,}{after}, from {record['measured']:,} timed steps.")
    return Section("Forecast", join([intro, table(("", *heads, "took"), rows, numeric=range(1, len(heads) + 2))]))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
