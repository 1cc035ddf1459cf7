"""Times of interactions: which forms are read, and what numbers can mean."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TimeKind = Literal["number", "fraction", "date", "zoned date"]
"""Whole numbers in a unit of their own, numbers with parts, dates that name no zone, and dates that do."""

UNKNOWN_TIME = np.iinfo(np.int64).min
KNOWN_TIMES = (
    "Known times are 2020-09-13, 2020-09-13 12:26:40 or 2020-09-13T12:26:40, with or without Z, UTC or +02:00 behind, "
    "and numbers such as seconds since 1970."
)
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
FIRST_YEAR, LAST_YEAR = 315_532_800, 4_102_444_800  # 1980 and 2100 in seconds: units stay apart by their size
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d"
    r"([ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(?P<zone>Z|UTC|GMT|[-+]\d\d(:?\d\d)?))?)?"
)
NO_VALUES = ("", *("nan", "NaN", "NAN", "-nan", "-NaN", "NaT", "null", "NULL", "Null", "None", "none", "NONE"),
             *("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>"))  # fmt: skip
"""How programs write that there is no value."""


def is_missing(text: str) -> bool:
    return text.strip() in NO_VALUES


def kind_of_times(texts: Iterable[str]) -> TimeKind:
    """What the first times of a file look like; what looks like nothing known counts as a date."""
    texts = [text.strip() for text in texts if not is_missing(text)]
    if all(re.fullmatch(r"-?\d+", text) for text in texts):
        return "number"
    if _is_float(texts[0]):
        return "fraction"
    found = _DATE.fullmatch(texts[0])
    return "zoned date" if found and found["zone"] else "date"


def time_problem(text: str, kind: TimeKind) -> str | None:
    """What is wrong with one time where the file's others are of a kind, or None."""
    shown, text = repr(text[:40]), text.strip()
    if is_missing(text):
        return None
    if kind in ("number", "fraction"):
        pattern = r"-?\d{1,19}" if kind == "number" else r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
        fits = re.fullmatch(pattern, text)
        return None if fits else f"the time {shown} is not of the kind that the first one is"
    found = _DATE.fullmatch(text)
    if not found or not _exists(text[:19]):
        return f"the time {shown} is in no form that the kit knows" + _looks_like(text)
    if bool(found["zone"]) != (kind == "zoned date"):
        return f"the time {shown} names {'a' if found['zone'] else 'no'} zone, unlike the first one"
    return None


def _looks_like(text: str) -> str:
    if re.match(r"\d{1,2}\.\d{1,2}\.\d{2,4}", text):
        return ": it looks like day.month.year"
    if re.match(r"\d{1,2}/\d{1,2}/\d{2,4}", text):
        return ": it looks like month/day/year or day/month/year"
    return ""


def _exists(text: str) -> bool:
    """Whether there is such a day and hour."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_float(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


def parse_dates(column: pa.Array, kind: TimeKind) -> pa.Array:
    """Microseconds since 1970 in UTC, finer parts cut off; null where a time is missing.

    column: (row,) text. Raises pyarrow.ArrowInvalid where a time is in no known form.
    """
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, pa.array(NO_VALUES, text.type)), None, text)
    text = pc.replace_substring_regex(text, r" ?(UTC|GMT|Z)$", "Z")
    text = pc.replace_substring_regex(text, r" ([-+]\d\d(:?\d\d)?)$", r"\1")
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    zone = "UTC" if kind == "zoned date" else None
    return text.cast(pa.timestamp("us", zone)).cast(pa.int64())


def whole_microseconds(column: pa.Array) -> pa.Array:
    """Timestamps of any unit as microseconds; nanoseconds are rounded down.

    Raises pyarrow.ArrowInvalid where one is too far away.
    """
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        known = column.is_valid().to_numpy(zero_copy_only=False)
        nanoseconds = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return pa.array(nanoseconds // 1000, mask=~known)
    return column.cast(pa.timestamp("us")).cast(pa.int64())


def counts_by_unit(times: np.ndarray) -> dict[str, int]:
    """How many numbers are days between 1980 and 2100, by the unit in which they are.

    times: (row,) int64, the known ones.
    """
    counts = {
        unit: int(np.count_nonzero((times >= FIRST_YEAR * factor) & (times < LAST_YEAR * factor)))
        for unit, factor in UNITS.items()
    }
    return {unit: count for unit, count in counts.items() if count}


def day(time: int, unit: str) -> str:
    return datetime.fromtimestamp(time / UNITS[unit], UTC).date().isoformat()
