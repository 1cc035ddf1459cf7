"""How a file's columns are laid out, and which of them holds what."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError

ROLES: dict[str, tuple[str, ...]] = {
    "user": (
        *("userid", "uid", "customerid", "reviewerid", "visitorid", "profileid", "memberid", "accountid", "personid"),
        *("user", "users"),
    ),
    "item": (
        *("itemid", "iid", "movieid", "sid", "productid", "asin", "parentasin", "articleid", "trackid", "songid"),
        *("bookid", "isbn", "gameid", "animeid", "recipeid", "businessid", "videoid", "newsid", "artistid", "placeid"),
        *("item", "items", "movie", "product", "article", "track", "song", "book", "game", "anime"),
    ),
    "rating": (
        *("rating", "ratings", "score", "stars", "overall", "bookrating"),
        *("label", "liked", "like", "islike", "clicked", "click", "isclick", "feedback"),
    ),
    "time": ("timestamp", "time", "ts", "unixtime", "unixreviewtime", "datetime", "date", "createdat", "eventtime"),
    "event": (
        *("event", "eventtype", "action", "actiontype", "behavior", "behaviour", "behaviortype", "behaviourtype"),
        *("interaction", "interactiontype", "reaction", "label", "liked", "like", "islike", "feedback"),
    ),
}
"""Names of columns by what they hold, in lower case without underscores; of several, the first named here counts.

An identifier comes before the name of what it identifies: `user_id` before `user`. What may be a rating or the kind of
an event, such as `label`, is a rating where it holds numbers.
"""

FORMATS = (
    "Read are MovieLens (u.data, ratings.dat, ratings.csv), lines of `user item`, CSV, TSV or Parquet with columns "
    "such as user, item, rating, timestamp, NCF's .train.rating files and RecBole's .inter files; each also as .gz."
)
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?")
_EPOCH = re.compile(r"\d{9,}(\.\d+)?")


@dataclass(frozen=True)
class Layout:
    """One file's columns.

    delimiter:     between fields; empty for Parquet. names: all columns in the file's order.
    roles:         user, item, and where present rating, time and event -> column name.
    header:        the first record holds the names.
    numeric_ids:   the format knows numbers only; elsewhere ids are any text.
    skipped:       lines before the first row.
    decimal_comma: numbers are written as 4,5.
    """

    path: Path
    delimiter: str
    names: tuple[str, ...]
    roles: dict[str, str]
    header: bool
    numeric_ids: bool
    skipped: int = 0
    decimal_comma: bool = False

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns that are not read."""
        return tuple(name for name in self.names if name not in self.roles.values())

    @property
    def passed_over(self) -> dict[str, str]:
        """Ignored columns that would do for a role that another has taken -> that role."""
        return {name: role for name in self.ignored if (role := role_of(name)) in self.roles}


def named_layout(path: Path, delimiter: str, names: Sequence[str], skipped: int = 0) -> Layout:
    """The layout of columns with names. Raises DataError where none is the user's or the item's, or several are."""
    roles: dict[str, str] = {}
    for role, known in ROLES.items():
        candidates = sorted((known.index(normal(name)), name) for name in names if normal(name) in known)
        taken = [name for _, name in candidates if name not in roles.values()]
        if taken:
            roles[role] = taken[0]
    for role in ("user", "item"):
        if role not in roles:
            raise _nameless(path, delimiter, names, role)
        alike = [name for name in names if normal(name) == normal(roles[role])]
        if len(alike) > 1:
            raise DataError(
                f"{path}, line 1: several columns could hold the {role}: {', '.join(map(repr, alike[:12]))}.",
                f"One column holds the {role}.",
                "Rename or drop the others.",
            )
    return Layout(path, delimiter, tuple(names), roles, bool(delimiter), False, skipped)


def with_words_for_ratings(layout: Layout) -> Layout:
    """The layout where what was taken for ratings is words: the kind of an event, if its name allows that."""
    name = layout.roles.get("rating")
    if name is None or normal(name) not in ROLES["event"]:
        return layout
    roles = {role: column for role, column in layout.roles.items() if role != "rating"}
    return dataclasses.replace(layout, roles={"event": name} | roles)


def unnamed_layout(path: Path, delimiter: str) -> Layout:
    """The layout of the formats that know their columns by their places."""
    names = ("user", "item", "rating", "time")
    return Layout(path, delimiter, names, {name: name for name in names}, False, True)


def _nameless(path: Path, delimiter: str, names: Sequence[str], role: str) -> DataError:
    """The error of a file without a column for a role: its first line may be no header at all."""
    shown = ", ".join(map(repr, names[:12]))
    if any(_NUMBER.fullmatch(name.strip()) for name in names) and not any(map(role_of, names)):
        others = ["timestamp" if _EPOCH.fullmatch(name.strip()) else "rating" for name in names[2:4]]
        line = (delimiter or ",").join(["user", "item", *others, *(["other"] * (len(names) - 4))])
        return DataError(
            f"{path}, line 1: it looks like data and not like names of columns: {shown}.",
            "A file of this kind begins with a line that names its columns; which column holds what is not guessed.",
            f"Add that line, such as {line!r}, after which the columns really hold.",
        )
    return DataError(
        f"{path}, line 1: no column names the {role}; there are {shown}.",
        f"Known names of that column: {', '.join(ROLES[role][:6])} (upper case and _ do not matter).",
        f"Name the columns, such as user{delimiter or ','}item, or rename the one that is meant.",
    )


def role_of(column: str) -> str | None:
    return next((role for role, names in ROLES.items() if normal(column) in names), None)


def normal(column: str) -> str:
    """`user_id:token` and `userId` are both `userid`."""
    return re.sub(r"[^a-z]", "", column.split(":")[0].lower())
