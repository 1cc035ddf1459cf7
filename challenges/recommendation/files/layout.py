"""How a file's columns are laid out, and which of them holds what."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from challenges.recommendation.files.names import ROLES, normal, role_of, standing
from common.errors import DataError

FORMATS = (
    "Read are MovieLens (u.data, ratings.dat, ratings.csv), lines of `user item` or `user item item ...`, CSV, TSV or "
    "Parquet with columns such as user, item, rating, timestamp, or without names where values tell them apart, NCF's "
    ".train.rating files and RecBole's .inter files; each also as .gz."
)
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Layout:
    """One file's columns.

    delimiter:     between fields; empty for Parquet. names: all columns in the file's order.
    roles:         user, item, and where present rating, time and event -> column name.
    header:        the first record holds the names; without one, columns are known by their places.
    numeric_ids:   the format knows numbers only; elsewhere ids are any text.
    skipped:       lines before the first row.
    decimal_comma: numbers are written as 4,5.
    quoted:        fields may stand in double quotes, as they may wherever there is a header.
    guess:         how columns without names were told apart, in words; empty where nothing had to be guessed.
    user_lines:    a line holds a user and all the user's items, with any of blanks, tabs and commas between.
    """

    path: Path
    delimiter: str
    names: tuple[str, ...]
    roles: dict[str, str]
    header: bool
    numeric_ids: bool
    skipped: int = 0
    decimal_comma: bool = False
    quoted: bool = False
    guess: str = ""
    user_lines: bool = False

    @property
    def has_quotes(self) -> bool:
        return self.header or self.quoted

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns that are not read."""
        return tuple(name for name in self.names if name not in self.roles.values())

    @property
    def passed_over(self) -> dict[str, str]:
        """Ignored columns that would do for a role that another has taken -> that role."""
        return {name: role for name in self.ignored if (role := role_of(name)) in self.roles}


def named_layout(
    path: Path, delimiter: str, names: Sequence[str], skipped: int = 0, chosen: Mapping[str, str] = NOTHING
) -> Layout:
    """The layout of columns with names.

    chosen: role -> the user's column for it; the other roles are found by name.
    Raises DataError where none is the user's or the item's, or several are.
    """
    roles = chosen_roles(path, names, chosen)
    for role in ROLES:
        if role not in roles:
            places = sorted((place, name) for name in names if (place := standing(name, role)) is not None)
            taken = [name for _, name in places if name not in roles.values()]
            if taken:
                roles[role] = taken[0]
    for role in ("user", "item"):
        if role not in roles:
            raise _nameless(path, delimiter, names, role)
        alike = [name for name in names if normal(name) == normal(roles[role])]
        if len(alike) > 1 and role not in chosen:
            raise DataError(
                f"{path}, line 1: several columns could hold the {role}: {', '.join(map(repr, alike[:12]))}.",
                f"One column holds the {role}.",
                f"Say which: --columns {role}={alike[0]}, or drop the others.",
            )
    ordered = {role: roles[role] for role in ROLES if role in roles}
    return Layout(path, delimiter, tuple(names), ordered, bool(delimiter), False, skipped)


def chosen_roles(path: Path, names: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """role -> column of the user's choice: a name as it stands, else in any case, else a place from 1 on.

    Raises DataError where there is no such column, several are meant, or one is chosen twice.
    """
    roles = {}
    for role, given in chosen.items():
        found = [name for name in names if name == given] or [
            name for name in names if normal_case(name) == normal_case(given)
        ]
        if not found and given.isascii() and given.isdigit() and 1 <= int(given) <= len(names):
            found = [names[int(given) - 1]]
        if len(found) != 1 or names.count(found[0]) > 1:
            told = "no column" if not found else "several columns"
            raise DataError(
                f"{path}: --columns names {given!r} for the {role}, and {told} of that name.",
                f"Its columns are {', '.join(map(repr, names[:12]))}.",
                "Name one of them, or give its place, from 1 on.",
            )
        roles[role] = found[0]
    if len(set(roles.values())) < len(roles):
        told = ", ".join(f"{role}={name}" for role, name in roles.items())
        raise DataError(
            f"{path}: --columns gives one column to several: {told}.",
            "Every column holds one thing.",
        )
    return roles


def normal_case(name: str) -> str:
    return name.split(":")[0].strip().casefold()


def with_words_for_ratings(layout: Layout) -> Layout:
    """The layout where what was taken for ratings is words: the kind of an event, if its name allows that."""
    name = layout.roles.get("rating")
    if name is None or standing(name, "event") is None:
        return layout
    roles = {role: column for role, column in layout.roles.items() if role != "rating"}
    return dataclasses.replace(layout, roles={"event": name} | roles)


def unnamed_layout(path: Path, delimiter: str) -> Layout:
    """The layout of the formats that know their columns by their places."""
    names = ("user", "item", "rating", "time")
    return Layout(path, delimiter, names, {name: name for name in names}, False, True)


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether a first line holds values, not names: numbers are among them, and no name that is known."""
    numbers = [name for name in names if _NUMBER.fullmatch(name.strip())]
    known = [name for name in names if role_of(name) and not re.search(r"\s.*\d", name.strip())]  # no title: Song 2
    return bool(numbers) and not known and not _is_comment(names)


def _nameless(path: Path, delimiter: str, names: Sequence[str], role: str) -> DataError:
    """The error of a file without a column for a role."""
    others = {"user": "item=...", "item": "user=..."}[role]
    if _is_comment(names):
        return DataError(
            f"{path}, line 1: it is a comment: {(delimiter or ' ').join(names)[:60]!r}.",
            "The first line names the columns, or is the first row.",
            "Drop the comments, such as with sed '/^[#%]/d'.",
        )
    return DataError(
        f"{path}, line 1: no column names the {role}; there are {', '.join(map(repr, names[:12]))}.",
        f"Known names of that column (upper case, _ and endings such as _no do not matter): {', '.join(ROLES[role])}.",
        f"Say which it is: --columns {role}=...,{others}, or rename it, such as user{delimiter or ','}item.",
    )


def _is_comment(names: Sequence[str]) -> bool:
    return bool(names) and names[0].lstrip().startswith(("#", "%", "//"))
