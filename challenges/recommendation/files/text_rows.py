"""The lines of a text file of interactions one by one: slower than reading columns, and able to say what is wrong."""

import csv
import math
import re
from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa

from challenges.recommendation.files.sources import Layout, text_lines

_WHOLE = re.compile(r"\d+")
_NEGATIVE = re.compile(r"-\d+")


def id_problem(name: str, role: str, numeric: bool) -> str | None:
    """What is wrong with an id, or None."""
    if not name:
        return f"the {role} is empty"
    if _NEGATIVE.fullmatch(name):
        return f"the {role} {name} is negative"
    if numeric and not _WHOLE.fullmatch(name):
        return f"the {role} {name[:40]!r} is no whole number"
    return None


def first_problem(layout: Layout) -> tuple[int, str] | None:
    """The first line that is not as its columns need it, and why; None where all are."""
    wanted = time_type(layout)
    problems = ((number, _line_problem(layout, fields, wanted)) for number, fields in _records(layout))
    return next(((number, problem) for number, problem in problems if problem), None)


def time_type(layout: Layout) -> pa.DataType:
    """What the first time in the file looks like."""
    for _, fields in _records(layout):
        value = fields.get("time", "").strip()
        if value and not _is_missing(value):
            if re.fullmatch(r"-?\d+", value):
                return pa.int64()
            return pa.float64() if _is_number(value) else pa.timestamp("us")
    return pa.int64()


def _records(layout: Layout) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by role) of a text file; a line of another width gives the one field `width`."""
    lines = text_lines(layout.path)
    if layout.delimiter == "::":
        rows: Iterator[tuple[int, list[str]]] = (
            (number, line.rstrip("\r\n").split("::")) for number, line in enumerate(lines, start=1)
        )
    else:
        table = csv.reader(
            lines, delimiter=layout.delimiter, quoting=csv.QUOTE_MINIMAL if layout.header else csv.QUOTE_NONE
        )
        rows = ((table.line_num, row) for row in table)
    places = {role: layout.names.index(name) for role, name in layout.roles.items()}
    skipped = int(layout.header)
    for number, row in rows:
        if row in ([], [""]):
            continue
        if skipped:
            skipped = 0
        elif len(row) != len(layout.names):
            yield number, {"width": str(len(row))}
        else:
            yield number, {role: row[place] for role, place in places.items()}


def _line_problem(layout: Layout, fields: dict[str, str], wanted: pa.DataType) -> str | None:
    if "width" in fields:
        return f"it has {fields['width']} fields instead of {len(layout.names)}"
    for role in ("user", "item"):
        problem = id_problem(fields[role].strip(), role, layout.numeric_ids)
        if problem:
            return problem
    rating, time = fields.get("rating"), fields.get("time")
    if rating is not None and not (_is_number(rating) and math.isfinite(float(rating))):
        return f"the rating {rating[:40]!r} is no number"
    if time is not None and not _is_missing(time) and not _is_time(time, wanted):
        return f"the time {time[:40]!r} is not of the kind that the first one is"
    return None


def _is_time(text: str, wanted: pa.DataType) -> bool:
    if pa.types.is_integer(wanted):
        return re.fullmatch(r"\s*-?\d{1,19}\s*", text) is not None
    if pa.types.is_floating(wanted):
        return _is_number(text) and math.isfinite(float(text))
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def _is_missing(text: str) -> bool:
    return text.strip().lower() in ("", "nan", "null", "none", "na", "n/a", "-nan")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
