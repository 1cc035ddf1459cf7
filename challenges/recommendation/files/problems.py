"""What is wrong with the lines of a file of interactions, in words, and what to do about it."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from challenges.recommendation.files.times import KNOWN_TIMES
from common.errors import DataError


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


class RowsRefusedError(DataError):
    """Interactions with lines that cannot be used. rows: (line, what they have in common, why) of the first ones."""

    def __init__(self, given: str, allowed: str, remedy: str, rows: tuple[tuple[int, Problem], ...]) -> None:
        super().__init__(given, allowed, remedy)
        self.rows = rows


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
