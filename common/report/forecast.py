"""The page's section on what the training's first steps told, and what it took."""

from collections.abc import Mapping
from typing import Any

from common.language.telling import tell
from common.report.elements import Section, join, paragraph, table
from common.terminal.duration import duration


def forecast_section(record: Mapping[str, Any]) -> Section | None:
    """From `forecast.json`; None where the training was too short for a forecast."""
    if not record:
        return None
    took, corrected = record["took"], record["corrected"]
    told = [(tell("forecast"), record), *([(tell("after the first evaluation"), corrected)] if corrected else [])]
    heads = [head for head, _ in told]
    times = [duration(one["seconds"]) for _, one in told]
    memory = [_gigabytes(one["expected_bytes"]) for _, one in told]
    rows = [
        (tell("training and its evaluations"), *times, duration(took["seconds"]) if took else ""),
        (tell("largest memory"), *memory, _gigabytes(took["memory_bytes"]) if took else ""),
    ]
    told_from = tell(
        "Told after step {step:,}, from {measured:,} timed steps.", step=record["step"], measured=record["measured"]
    )
    if record["first_step"]:
        told_from += " " + tell("This training went on after step {step:,}.", step=record["first_step"])
    body = table(("", *heads, tell("took")), rows, numeric=range(1, len(heads) + 2))
    return Section("Forecast", join([paragraph(told_from), body]))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
