"""Reading interactions of any known format into one table of numbers, with ids, titles and NCF's own split."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from challenges.recommendation.files.columns import read_columns
from challenges.recommendation.files.ids import IdNumbers, id_problem
from challenges.recommendation.files.layout import NOTHING, Layout
from challenges.recommendation.files.names import ROLES, normal
from challenges.recommendation.files.sources import Source, find
from challenges.recommendation.files.text import csv_rows, first_line, text_lines
from challenges.recommendation.files.times import TimeKind
from common.errors import DataError

_TITLE_NAMES = ("title", "movietitle", "name", "itemname", "itemtitle", "productname")


@dataclass(frozen=True, eq=False)
class OfficialSplit:
    """NCF's test files: one item of every judged user, and unseen items to rank it among.

    users, items: (judged user,) int64. negatives: (judged user, count) int64; some of the published lists hold the
    test item itself and are kept as they are.
    """

    users: np.ndarray
    items: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who met which item, in the file's order.

    users, items: (row,) int32, positions in user_ids and item_ids.
    ratings:      (row,) float32, or None where the data has none.
    times:        (row,) int64, columns.UNKNOWN_TIME where one is missing, or None: then the lines are in time's order.
    user_ids, item_ids: (user,), (item,) str, sorted: by number where all are whole numbers, else as text.
    titles:       (item,) str, empty where unknown.
    time_kind:    how the times were written; events: kind of event -> rows of it, where a column tells kinds apart.
    """

    source: Source
    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    times: np.ndarray | None
    user_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray
    official: OfficialSplit | None = None
    time_kind: TimeKind = "number"
    events: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.users)


def read(source: Source | Path, columns: Mapping[str, str] = NOTHING) -> Interactions:
    """Read a file or folder of interactions, in memory that grows with the rows and the distinct ids alone.

    columns: role -> the user's column for it, where `source` is a path.

    Raises DataError naming the file and the line where something cannot be read.
    """
    source = find(source, columns) if isinstance(source, Path) else source
    table = read_columns(source.layout)
    user_ids, item_ids = table.user_ids, table.item_ids
    tests = None
    if source.official:
        users, items = (IdNumbers(role, True, ids) for role, ids in (("user", user_ids), ("item", item_ids)))
        tests = _official(source, users, items)
        user_ids, item_ids = list(users.numbers), list(items.numbers)
    sorted_users, user_places = _sorted(user_ids)
    sorted_items, item_places = _sorted(item_ids)
    titles = {} if source.titles is None else read_titles(source.titles)
    return Interactions(
        source=source,
        users=user_places[table.users],
        items=item_places[table.items],
        ratings=table.ratings,
        times=table.times,
        user_ids=np.asarray(sorted_users),
        item_ids=np.asarray(sorted_items),
        titles=np.asarray([titles.get(name, "") for name in sorted_items]),
        official=tests
        and OfficialSplit(
            user_places[tests.users].astype(np.int64),
            item_places[tests.items].astype(np.int64),
            item_places[tests.negatives].astype(np.int64),
        ),
        time_kind=table.time_kind,
        events=table.events,
    )


def _sorted(ids: list[str]) -> tuple[list[str], np.ndarray]:
    """The ids in order, and (id,) int32: where each has gone."""
    numeric = all(name.isascii() and name.isdigit() for name in ids)
    order = sorted(range(len(ids)), key=(lambda n: (len(ids[n]), ids[n])) if numeric else ids.__getitem__)
    places = np.empty(len(ids), np.int32)
    places[order] = np.arange(len(ids), dtype=np.int32)
    return [ids[number] for number in order], places


def _official(source: Source, users: IdNumbers, items: IdNumbers) -> OfficialSplit:
    assert source.official is not None
    test_file, negative_file = source.official
    names = ("user", "item", "rating", "time")
    test = read_columns(Layout(test_file, "\t", names, {"user": "user", "item": "item"}, False, True))
    test_users = users.add(pa.array(test.user_ids))[test.users]
    test_items = items.add(pa.array(test.item_ids))[test.items]
    if len(np.unique(test_users)) < len(test_users):
        raise DataError(f"{test_file} names a user twice.", "NCF's protocol has one test item per user.")
    rows: list[list[str]] = []
    for number, line in enumerate(text_lines(negative_file), start=1):
        if not line.strip():
            continue
        pair, *names_of_row = line.rstrip("\r\n").split("\t")
        key = re.fullmatch(r"\((\d+), ?(\d+)\)", pair)
        problem = next((found.told for name in names_of_row if (found := id_problem(name, "item", True))), None)
        if key is None:
            problem = f"it begins with {pair[:40]!r} instead of (user,item)"
        elif len(rows) >= len(test) or (key[1], key[2]) != test.pair(len(rows)):
            problem = f"it is about {pair}, which is not row {len(rows) + 1} of {test_file.name}"
        elif rows and len(rows[0]) != len(names_of_row):
            problem = f"it has {len(names_of_row)} items, the lines before it {len(rows[0])}"
        if problem:
            raise DataError(
                f"{negative_file}, line {number}: {problem}.",
                "A line is (user,item), then as many items as in every other line, with tabs between, "
                "in the order of the test file.",
                "Download the three files again.",
            )
        rows.append(names_of_row)
    if len(rows) != len(test):
        raise DataError(
            f"{negative_file} has {len(rows):,} lines, {test_file.name} {len(test):,}.",
            "Every test item has its list.",
            "Download the three files again.",
        )
    flat = items.add(pa.array([name for row in rows for name in row], pa.string()))
    return OfficialSplit(test_users, test_items, flat.reshape(len(rows), -1))


def read_titles(path: Path) -> dict[str, str]:
    """Item id -> title, of MovieLens' movies.dat, movies.csv and u.item, RecBole's .item, or items.csv."""
    name = path.name.removesuffix(".gz")
    if name == "movies.dat":
        pairs = (line.rstrip("\r\n").split("::") for line in text_lines(path, "latin-1"))
        return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    if name == "u.item":
        pairs = (line.rstrip("\r\n").split("|") for line in text_lines(path, "latin-1"))
        return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    first = first_line(path) or ""
    delimiter = max("\t,;", key=first.count)
    rows = (row for _, row in csv_rows(path, text_lines(path), delimiter, quoted=not name.endswith(".item")))
    header = [normal(column) for column in next(rows, [])]
    title = next((header.index(known) for known in _TITLE_NAMES if known in header), None)
    if title is None:
        return {}
    item = next((header.index(known) for known in ROLES["item"] if known in header[:title] + header[title + 1 :]), 0)
    return {row[item].strip(): row[title] for row in rows if len(row) > max(item, title)}
