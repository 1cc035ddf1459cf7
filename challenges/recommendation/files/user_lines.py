"""Files with a line per user: the user, then all the user's items, oldest first."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from challenges.recommendation.files.layout import Layout
from challenges.recommendation.files.names import role_of
from challenges.recommendation.files.text import text_lines
from common.errors import DataError

LOOKED = 1000  # lines that decide
REST = re.compile(r"(\d+)-")
"""The user's way to say so: --columns user=1,item=2-"""
_BETWEEN = re.compile(r"[\s,]+")
_ID = re.compile(r"\w[\w.\-]*")


def user_lines_layout(path: Path, chosen: Mapping[str, str]) -> Layout | None:
    """The layout of a file with a line per user, or None where it is none.

    It is one where lines are of different widths, most name several items, and each begins with another user.
    chosen: what the user said; items from a place on, such as `2-`, need none of this.
    Raises DataError where lines per user were asked for in a way that is not read.
    """
    said = REST.fullmatch(chosen.get("item", ""))
    if said and (chosen.get("user") != "1" or said[1] != "2" or len(chosen) > 2):
        raise DataError(
            f"{path}: --columns asks for items from place {said[1]} on.",
            "In files with a line per user, the user comes first and the items follow; there is nothing else.",
            "Give --columns user=1,item=2-",
        )
    if chosen and not said:
        return None
    texts = list(islice(text_lines(path), LOOKED))
    if not said and any(re.search(r",\s*(,|$)", text) for text in texts):
        return None  # a table with empty cells, such as users by items
    lines = [fields_of(text) for text in texts]
    header = int(bool(lines) and bool(lines[0]) and role_of(lines[0][0]) == "user")
    rows = [fields for fields in lines[header:] if fields]
    if not said and not _has_users(rows):
        return None
    roles = {"user": "user", "item": "items"}
    return Layout(path, " ", ("user", "items"), roles, False, False, header, user_lines=True)


def fields_of(line: str) -> list[str]:
    """User and items of a line; the user may stand before a colon."""
    fields = [field for field in _BETWEEN.split(line.strip()) if field]
    return [fields[0].removesuffix(":"), *fields[1:]] if fields else []


def _has_users(rows: Sequence[Sequence[str]]) -> bool:
    users, widths = [fields[0] for fields in rows], [len(fields) for fields in rows]
    several = sum(width > 2 for width in widths)
    fields = [field for row in rows for field in row]
    return (
        len(rows) > 1
        and len(set(widths)) > 1
        and len(set(users)) == len(users)
        and 2 * several > len(rows)
        and all(map(_ID.fullmatch, fields))
        and all(any(sign.isdigit() for sign in field) for field in fields)  # not prose
    )


def pairs(layout: Layout) -> Iterator[tuple[int, str, list[str]]]:
    """(line, user, items) of every line that has a user."""
    for number, line in enumerate(text_lines(layout.path), start=1):
        fields = fields_of(line) if number > layout.skipped else []
        if fields:
            yield number, fields[0], fields[1:]
