"""Columns without names: which holds what, told by their places and values, or by the user."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from challenges.recommendation.files.layout import Layout, chosen_roles
from challenges.recommendation.files.times import counts_by_unit, is_missing, time_problem
from common.errors import DataError

MOST_RATINGS, LARGEST_RATING = 21, 10  # kinds of values, such as half stars, and their size; or percents in fives
_WHOLE, _NUMBER = re.compile(r"\d+"), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_ASIN, _REVIEWER = re.compile(r"B0[0-9A-Z]{8}|\d{9}[\dX]"), re.compile(r"A[0-9A-Z]{10,}")  # Amazon's
ORDERS = (("user", "item"), ("user", "item", "rating"), ("user", "item", "time"), ("user", "item", "rating", "time"),
          ("user", "item", "time", "rating"))  # fmt: skip
"""In which published files without names have their columns."""


@dataclass(frozen=True)
class _Column:
    """What the values of a column could be. kinds: how many different ones there are."""

    could: frozenset[str]
    kinds: int
    values: tuple[str, ...]


def placed_layout(path: Path, delimiter: str, rows: Sequence[Sequence[str]], chosen: Mapping[str, str]) -> Layout:
    """The layout of a file whose first line is data already.

    rows: the first ones. chosen: role -> the user's column, by its place from 1 on; nothing is guessed then.
    Raises DataError where the values do not tell which column is what.
    """
    names = tuple(f"column {place}" for place in range(1, len(rows[0]) + 1))
    if chosen:
        roles = chosen_roles(path, names, chosen)
        _require_ids(path, rows[0], roles)
        return Layout(path, delimiter, names, roles, False, False, quoted=True)
    whole = [row for row in rows if len(row) == len(names)]
    order, why = _order([_column([row[place].strip() for row in whole]) for place in range(len(names))])
    if not order:
        raise _untold(path, delimiter, rows[0])
    roles = {role: names[place] for role, place in order.items()}
    return Layout(path, delimiter, names, roles, False, False, quoted=True, guess=why)


def _require_ids(path: Path, first: Sequence[str], roles: Mapping[str, str]) -> None:
    missing = [role for role in ("user", "item") if role not in roles]
    if missing:
        raise DataError(
            f"{path} names no columns, and --columns does not say which is the {' and the '.join(missing)}.",
            f"Its first line is {', '.join(map(repr, first[:12]))}.",
            "Give both by their places, such as --columns user=1,item=2.",
        )


def _column(values: Sequence[str]) -> _Column:
    known = [value for value in values if not is_missing(value)]
    could = set()
    if _are_times(known):
        could.add("time")
    elif known and all(_NUMBER.fullmatch(value) for value in known):
        numbers = np.asarray(known, np.float64)
        size = np.abs(numbers).max()
        is_small = size <= LARGEST_RATING or (size <= 10 * LARGEST_RATING and not (numbers % 5).any())
        is_coded = any(re.match(r"0\d", value) for value in known)  # 007 is no amount
        if len(np.unique(numbers)) <= MOST_RATINGS and is_small and not is_coded:
            could.add("rating")
        if all(_WHOLE.fullmatch(value) for value in known):
            could.add("id")
    elif len(known) == len(values):
        could.add("id")
    return _Column(frozenset(could), len(set(known)), tuple(values))


def _are_times(values: Sequence[str]) -> bool:
    """Whether all are dates, or all seconds or the like since 1970, of the years 1980 to 2099."""
    if not values:
        return False
    if all(_NUMBER.fullmatch(value) for value in values):
        return sum(counts_by_unit(np.asarray(values, np.float64)).values()) == len(values)
    return any(all(time_problem(value, kind) is None for value in values) for kind in ("date", "zoned date"))


def _order(columns: Sequence[_Column]) -> tuple[dict[str, int], str]:
    """role -> place, and what speaks for it; nothing where the values fit no order, or several."""
    first = 0
    if len(columns) > 2 and _counts_rows(columns[0]) and not _usual(columns):
        first = 1
    order = _usual(columns[first:])
    why = "the usual order, which their values fit"
    if not order:
        order, why = _only(columns[first:]), "the only order that their values fit, the user before the item"
    if not order:
        return {}, ""
    order = {role: place + first for role, place in order.items()}
    user, item = columns[order["user"]], columns[order["item"]]
    if all(map(_ASIN.fullmatch, user.values)) and all(map(_REVIEWER.fullmatch, item.values)):
        order["user"], order["item"] = order["item"], order["user"]
        why = "Amazon's identifiers of products and reviewers"
    return order, why + ("; the first column counts the rows" if first else "")


def _counts_rows(column: _Column) -> bool:
    """Whether the values are 0, 1, 2, or 1, 2, 3 and so on."""
    if not all(map(_WHOLE.fullmatch, column.values)) or len(column.values) < 2:
        return False
    begin = int(column.values[0])
    return begin < 2 and [int(value) for value in column.values] == [*range(begin, begin + len(column.values))]


def _usual(columns: Sequence[_Column]) -> dict[str, int]:
    """One of ORDERS, where the columns could be it and the item is not more like a rating than the rating."""
    for order in ORDERS:
        if len(order) != len(columns):
            continue
        needs = ["id" if role in ("user", "item") else role for role in order]
        if all(need in column.could for need, column in zip(needs, columns, strict=True)):
            places = {role: place for place, role in enumerate(order)}
            rating = columns[places["rating"]] if "rating" in places else None
            if rating is None or "rating" not in columns[1].could or columns[1].kinds >= rating.kinds:
                return places
    return {}


def _only(columns: Sequence[_Column]) -> dict[str, int]:
    """The order where one column at most could be the time, one of the others the rating, and two are left."""
    places = range(len(columns))
    times = [place for place in places if "time" in columns[place].could]
    ratings = [place for place in places if "rating" in columns[place].could]
    if len(columns) - len(times) == 2:
        ratings = []  # two are left already: small numbers are identifiers too
    ids = [place for place in places if place not in (*times, *ratings)]
    if len(ids) != 2 or len(times) > 1 or len(ratings) > 1 or any("id" not in columns[place].could for place in ids):
        return {}
    found = {"user": ids[:1], "item": ids[1:], "rating": ratings, "time": times}
    return {role: places[0] for role, places in found.items() if places}


def _untold(path: Path, delimiter: str, first: Sequence[str]) -> DataError:
    places = ",".join(["user=1", "item=2", "rating=3", "time=4"][: max(2, min(len(first), 4))])
    return DataError(
        f"{path}, line 1: it looks like data and not like names of columns: {', '.join(map(repr, first[:12]))}.",
        "The values fit no usual order of user, item, rating and time, or several.",
        f"Say which column holds what, such as --columns {places}, or put names above: "
        f"{delimiter.join(['user', 'item', '...'][: max(2, len(first))])!r}.",
    )
