"""The lines of a text file of interactions one by one: slower than reading columns, and able to say what is wrong."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from challenges.recommendation.files.layout import Layout
from challenges.recommendation.files.text import csv_rows, text_lines
from challenges.recommendation.files.times import KNOWN_TIMES, TimeKind, is_missing, kind_of_times, time_problem
from challenges.recommendation.files.user_lines import pairs

SAMPLED = 1000  # records that decide how numbers and times are written
LOOKED, LOOKED_BEYOND = 100_000, 10_000  # records: in all, and at least after the first faulty one
LISTED = 1000  # faulty records that are kept
_NEGATIVE = re.compile(r"-\d+(\.0*)?")


class Problem(NamedTuple):
    """kind: what problems of one cause have in common. told: in words, with the value."""

    kind: str
    told: str


@dataclass(frozen=True)
class Survey:
    """What is wrong with the first lines of a file.

    rows: (line, problem) of the first faulty ones. alike: how many have the first one's cause, among `looked` records.
    """

    rows: tuple[tuple[int, Problem], ...]
    alike: int
    looked: int


def id_problem(name: str, role: str, numeric: bool) -> Problem | None:
    """What is wrong with an id, or None."""
    if name.isdecimal():
        return None  # most are
    if not name:
        return Problem("missing", f"the {role} is empty")
    if is_missing(name):
        return Problem("missing", f"the {role} is missing ({name!r})")
    if _NEGATIVE.fullmatch(name):
        return Problem("negative", f"the {role} {name} is negative")
    if numeric:
        return Problem("text", f"the {role} {name[:40]!r} is no whole number")
    return None


def survey(layout: Layout) -> Survey | None:
    """Look for lines that are not as their columns need them; None where all are."""
    kind = time_kind(layout)
    rows: list[tuple[int, Problem]] = []
    alike, looked, last = 0, 0, 0
    for number, fields in records(layout):
        looked += 1
        if rows and looked > last:
            looked -= 1
            break
        problem = _line_problem(layout, fields, kind)
        if problem is None:
            continue
        last = last or max(LOOKED, looked + LOOKED_BEYOND)
        if len(rows) < LISTED:
            rows.append((number, problem))
        alike += problem.kind == rows[0][1].kind
    return Survey(tuple(rows), alike, looked) if rows else None


def sample(layout: Layout) -> list[dict[str, str]]:
    """The first records of the right width, by role."""
    return [fields for _, fields in islice(records(layout), SAMPLED) if "width" not in fields]


def time_kind(layout: Layout) -> TimeKind:
    """What the file's first times look like."""
    if "time" not in layout.roles:
        return "number"
    return kind_of_times(_pointed(fields["time"], layout.decimal_comma) for fields in sample(layout))


def records(layout: Layout) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by role) of a text file; a line of another width gives the fields `width` and `text`."""
    if layout.user_lines:
        yield from ((number, {"user": user, "item": item}) for number, user, items in pairs(layout) for item in items)
        return
    lines = text_lines(layout.path)
    if layout.delimiter == "::":
        rows: Iterator[tuple[int, list[str]]] = (
            (number, line.rstrip("\r\n").split("::")) for number, line in enumerate(lines, start=1)
        )
    else:
        below = islice(lines, layout.skipped, None)
        table = csv_rows(layout.path, below, layout.delimiter, quoted=layout.has_quotes)
        rows = ((layout.skipped + number, row) for number, row in table)
    places = {role: layout.names.index(name) for role, name in layout.roles.items()}
    for number, row in rows:
        if row in ([], [""]):
            continue
        if len(row) != len(layout.names):
            yield number, {"width": str(len(row)), "text": layout.delimiter.join(row)}
        else:
            yield number, {role: row[place] for role, place in places.items()}


def _line_problem(layout: Layout, fields: dict[str, str], kind: TimeKind) -> Problem | None:
    if "width" in fields:
        told = f"it has {fields['width']} fields instead of {len(layout.names)}"
        if "\\" in fields["text"] and layout.header:
            return Problem("backslash", f"{told}, perhaps for a quote after a backslash")
        return Problem("width", told)
    if repeats_names(layout, fields["user"], fields["item"]):
        return Problem("names", "it repeats the names of the columns")
    for role in ("user", "item"):
        problem = id_problem(fields[role].strip(), role, layout.numeric_ids)
        if problem:
            return problem
    rating, time = fields.get("rating"), fields.get("time")
    if rating is not None and is_missing(rating):
        return Problem("no rating", f"the rating is missing ({rating!r})")
    if rating is not None and not is_number(rating, layout.decimal_comma):
        return Problem("rating", f"the rating {rating[:40]!r} is no number")
    wrong = None if time is None else time_problem(_pointed(time, layout.decimal_comma), kind)
    if wrong is None:
        return None
    return Problem("time" if kind in ("number", "fraction") else "date", wrong)


def repeats_names(layout: Layout, user: str, item: str) -> bool:
    """Whether a row is the line of names again, as joined files have it."""
    return layout.header and (user, item) == (layout.roles["user"].strip(), layout.roles["item"].strip())


def is_number(text: str, decimal_comma: bool = False) -> bool:
    try:
        return "_" not in text and math.isfinite(float(_pointed(text, decimal_comma)))
    except ValueError:
        return False


def _pointed(text: str, decimal_comma: bool) -> str:
    return text.replace(",", ".") if decimal_comma else text


def advice(found: Survey) -> tuple[str, str]:
    """(what is allowed, what to do) about the first problem of a survey: many alike have one cause."""
    kind, told = found.rows[0][1]
    several = "those lines" if found.alike > 1 else "that line"
    allowed = {
        "text": "Here users and items are whole numbers from 0 on; ids of text need a header naming the columns.",
        "date": KNOWN_TIMES,
        "time": KNOWN_TIMES + " One file keeps to one kind.",
        "width": "Every line has as many fields as there are columns.",
        "backslash": "A quote within quotes is written twice, as CSV has it.",
    }.get(kind, "Users and items are ids as large as you like, ratings are finite numbers.")
    remedy = {
        "names": "Files were joined with their headers: drop every line of names but the first.",
        "no rating": f"Drop {several}, or rename the column: it is then not read.",
        "missing": f"Drop {several}, or give whoever is meant an id.",
        "negative": "A negative id often stands for somebody unknown: drop those lines, or number the ids from 0 on.",
        "backslash": 'Write the file again with doubled quotes, such as sed \'s/\\\\"/""/g\' does.',
        "date": f"{_conversion(told)}, or leave the column out: then the order of the lines counts.",
        "width": "Give the first line a name for every field of the others, or mend those lines.",
        "rating": "Write numbers, or rename the column: it is then not read.",
    }.get(kind, f"Mend or drop {several}.")
    if found.alike == 1 and kind not in ("missing", "no rating", "negative", "backslash", "names"):
        remedy = "Mend or drop that line."
    return allowed, remedy


def _conversion(told: str) -> str:
    example = "%d.%m.%Y" if "day.month" in told else "%m/%d/%Y" if "month/day" in told else "..."
    if example != "..." and re.search(r"\d:\d", told):
        example += " %H:%M"
    return f"Convert the column, such as with pandas.to_datetime(column, format={example!r})"
