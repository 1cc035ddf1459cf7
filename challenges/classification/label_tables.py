"""Tables that say what pictures show, where no folders do: a column names the picture, another one its class.

So have it Kaggle (train.csv beside train_images/) and many archives (metadata.csv beside folders of a thousand each).
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from challenges.classification.split_folders import Role, named, role_of
from common.delimited import find_tables, read_header, read_table
from common.errors import DataError
from common.vision.image_folders import ListedFile, Listing, displayed, listed_file

SUFFIXES = (".csv", ".tsv")
CLASSES = re.compile(
    r"labels?|class(?:es)?(?:name|id)?|categor(?:y|ies)(?:name|id)?|target|groundtruth|y|diagnosis|dx|finding(?:s|labels)?"
    r"|disease|breed|species"
)
"""Columns that hold classes, as letters only."""
PARTS = ("split", "set", "subset", "partition", "dataset", "usage")
"""Columns that hold splits."""
GROUPS = re.compile(
    r"(?:patient|subject|lesion|case|person|participant|individual|video|scene|sequence|group)s?(?:id|no|number)?"
)
"""Columns that hold what several pictures may be of."""
BOXES = re.compile(r"\b(x_?min|x1|bbox\w*|left)\b", re.IGNORECASE)
SAMPLE = "submission"  # in the names of samples of what is to be handed in
FOUND = 0.2  # of a column's values that name pictures, or of the pictures that they name, at least
MANY = 20  # classes from which on most must have several pictures each
WHOLE = re.compile(r"(-?\d+)\.0+")
SEVERAL = re.compile(r"[|;]")


@dataclass(frozen=True)
class Labels:
    """What tables say, by the pictures' paths.

    tables:  those that were read. splits: "" where none is named.
    groups:  which patient or the like pictures are of; none at all where no two are of the same.
    by_name: whether the classes' column is called so. told, told_groups: the columns, in words.
    """

    tables: tuple[ListedFile, ...]
    classes: dict[str, str]
    splits: dict[str, Role | str]
    groups: dict[str, str]
    by_name: bool
    told: str
    told_groups: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """path: below the root. picture, label: columns; label is "" where each class has a column of ones and zeros."""

    path: str
    rows: list[dict[str, str]]
    columns: tuple[str, ...]
    picture: str
    label: str

    @property
    def role(self) -> Role | None:
        return role_of(PurePosixPath(self.path).stem)


def read_labels(root: Path, listing: Listing, column: str | None = None) -> Labels | None:
    """The classes of a listing's pictures by the tables beside them; None where no table names pictures and classes.

    column: the one of the classes; left out, the one that is called so, or the only one there is.
    Raises DataError where a table names pictures and leaves open what they show.
    """
    if not any(suffix in listing.others for suffix in SUFFIXES):
        return None
    pictures = _Pictures([file.path for file in listing.files])
    opened = [
        table
        for path in find_tables(root, SUFFIXES, leave_out=SAMPLE)
        if (table := _opened(root, path, pictures, column)) is not None
    ]
    tables = [table for table in opened if table.label or _one_hot(table)]
    if column is not None and not tables:
        raise DataError(
            f"data.label-column is {column!r}, and no table in {displayed(root)} has such a column and names pictures.",
            "A CSV or TSV file in the folder, or one folder deeper, has a column of file names beside it.",
        )
    if opened and not tables:
        raise DataError(
            f"{displayed(root / opened[0].path)} names pictures, and none of its columns is called like classes: "
            f"{named(opened[0].columns)}.",
            "Such are called label, class, category, target and the like.",
            "Name the column: kit challenge resnet50 --data … --data.label-column NAME",
        )
    if not tables:
        return None
    roles = [table.role for table in tables]
    if len(tables) > 1 and (None in roles or len(set(roles)) < len(roles)):
        raise DataError(
            f"{named(table.path for table in tables)} all say what pictures in {displayed(root)} show.",
            "One table says it, or one for each of train, val and test, called so.",
            "Take the others out of the folder.",
        )
    return _joined(root, tables, pictures, listing)


class _Pictures:
    """Paths by the ways in which tables name them."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = set(paths)
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            name = path.rpartition("/")[2]
            for key in {name.lower(), name.rpartition(".")[0].lower()}:
                self._by_name[key].append(path)

    def named_by(self, values: Sequence[str]) -> int:
        """How many pictures a column names; 0 where that is a small part of them and of its values."""
        found = [self.find(value) for value in values if value.strip()]
        count, values_that_do = len({path for same in found for path in same}), sum(map(bool, found))
        return count if values_that_do >= FOUND * len(values) or count >= FOUND * len(self.paths) else 0

    def find(self, value: str, role: Role | None = None) -> list[str]:
        """Those that a table's value may name: one by its path, else by its last part, with an ending or without.

        role: of the table; of several of a name those are meant that lie in a folder of the same.
        """
        value = value.strip().replace("\\", "/")
        if value in self.paths:
            return [value]
        same = self._by_name.get(value.rpartition("/")[2].lower(), [])
        if len(same) > 1:
            same = [path for path in same if f"/{path}".endswith(f"/{value.lstrip('./')}")] or same
        if len(same) > 1 and role is not None:
            same = [path for path in same if _role_of_folders(path) == role] or same
        return same


def _role_of_folders(path: str) -> Role | None:
    return next((role for part in path.split("/")[:-1] if (role := role_of(part)) is not None), None)


def _opened(root: Path, path: str, pictures: _Pictures, column: str | None) -> _Table | None:
    """The table, where it has a column of pictures; its column of classes, where that is clear.

    Raises DataError where several are called like classes and do not say the same.
    """
    try:
        if BOXES.search(read_header(root / path)):
            return None
        columns, rows = read_table(root / path)
    except (OSError, csv.Error):
        return None
    counts = {name: pictures.named_by([row[name] for row in rows]) for name in columns}
    picture = max(columns, key=lambda name: counts[name], default="")
    if len(columns) < 2 or not counts[picture] or (column is not None and column not in columns):
        return None
    others = [name for name in columns if name != picture and _letters(name) not in PARTS]
    return _Table(path, rows, columns, picture, column or _label(root, path, rows, others))


def _label(root: Path, path: str, rows: Sequence[Mapping[str, str]], others: Sequence[str]) -> str:
    called = [name for name in others if CLASSES.fullmatch(_letters(name))]
    if len(called) > 1:
        pairs = {tuple(row[name] for name in called) for row in rows}
        if any(len({row[name] for row in rows}) != len(pairs) for name in called):
            raise DataError(
                f"{displayed(root / path)} has several columns that may hold classes: {named(called)}.",
                "One class of every picture is learnt.",
                f"Name the column: kit challenge resnet50 --data … --data.label-column {displayed(called[0])}",
            )
        called.sort(key=lambda name: all(row[name].strip().isdecimal() for row in rows))  # words rather than numbers
    if called:
        return called[0]
    return others[0] if len(others) == 1 else ""


def _one_hot(table: _Table) -> list[str]:
    """The columns of ones and zeros, of which each row has a single one; none where there are no such."""
    others = [name for name in table.columns if name != table.picture and _letters(name) not in PARTS]
    ones = [[_whole(row[name]) for name in others] for row in table.rows]
    is_so = len(others) > 1 and all(row.count("1") == 1 and row.count("0") == len(row) - 1 for row in ones)
    return others if is_so else []


def _joined(root: Path, tables: Sequence[_Table], pictures: _Pictures, listing: Listing) -> Labels:
    classes: dict[str, str] = {}
    splits: dict[str, Role | str] = {}
    groups: dict[str, str] = {}
    lost: list[str] = []
    several: dict[str, str] = {}
    for table in tables:
        kinds = _one_hot(table) if not table.label else []
        part = next((name for name in table.columns if _letters(name) in PARTS and _are_splits(table, name)), None)
        group = _group_column(table)
        for row in table.rows:
            label = _whole(row[table.label]) if table.label else next(n for n in kinds if _whole(row[n]) == "1")
            if not label or not row[table.picture].strip():
                continue
            found = pictures.find(row[table.picture], table.role)
            if not found:
                lost.append(row[table.picture])
            for path in found:
                if len(found) > 1 or classes.setdefault(path, label) != label or SEVERAL.search(label):
                    several.setdefault(path, f"{row[table.picture]}: {label}")
                if group and row[group].strip():
                    groups[path] = row[group].strip()
                splits[path] = (role_of(row[part]) if part else table.role) or _role_of_folders(path) or ""
    _refuse_unclear(root, tables, classes, several)
    return Labels(
        tables=tuple(listed_file(root, table.path) for table in tables),
        classes=classes,
        splits=_complete(splits),
        groups=groups if len(set(groups.values())) < len(groups) else {},
        by_name=all(CLASSES.fullmatch(_letters(table.label)) for table in tables),
        told=" and ".join(_told(table) for table in tables),
        told_groups=next((f"the column {displayed(name)}" for table in tables if (name := _group_column(table))), ""),
        notes=tuple(_notes(listing, classes, lost)),
    )


def _group_column(table: _Table) -> str | None:
    others = (name for name in table.columns if name not in (table.picture, table.label))
    return next((name for name in others if GROUPS.fullmatch(_letters(name))), None)


def _are_splits(table: _Table, name: str) -> bool:
    return all(role_of(row[name]) is not None for row in table.rows)


def _complete(splits: Mapping[str, Role | str]) -> dict[str, Role | str]:
    """Splits as they are where some are to learn from and some to judge by; a test part judges where there is no
    other. None else.
    """
    there = set(splits.values())
    if "" in there or "train" not in there or len(there) < 2:
        return dict.fromkeys(splits, "")
    return {path: "val" if "val" not in there and split == "test" else split for path, split in splits.items()}


def _refuse_unclear(
    root: Path, tables: Sequence[_Table], classes: Mapping[str, str], several: Mapping[str, str]
) -> None:
    where = named(table.path for table in tables)
    if several:
        path, told = next(iter(several.items()))
        raise DataError(
            f"{len(several):,} pictures in {displayed(root)} have no single class in {where}, such as "
            f"{displayed(path)} ({displayed(told)}).",
            "Each picture is named once and has one class.",
            "Leave the others out of the table, or give them a class of their own.",
        )
    counts = Counter(classes.values())
    if len(counts) > max(MANY, len(classes) / 2):
        raise DataError(
            f"{where} has {len(counts):,} different values for {len(classes):,} pictures in the column "
            f"{displayed(tables[0].label)}: these are no classes.",
            "A class has several pictures, ten or more to be learnt.",
            "Name the column of the classes: kit challenge resnet50 --data … --data.label-column NAME",
        )


def _notes(listing: Listing, classes: Collection[str], lost: Sequence[str]) -> Iterator[str]:
    aside = [file.path for file in listing.files if file.path not in classes]
    if aside:
        yield f"{len(aside):,} images have no class in the table, such as {displayed(aside[0])}: left aside."
    if lost:
        yield f"{len(lost):,} rows of the table name no picture that is there, such as {displayed(lost[0])}."


def _told(table: _Table) -> str:
    labels = f"the column {displayed(table.label)}" if table.label else "the columns of ones and zeros"
    return f"{labels} of {displayed(table.path)}, whose column {displayed(table.picture)} names the pictures"


def _whole(value: str) -> str:
    """A cell without outer and doubled blanks; whole numbers without a fraction, as data frames write them."""
    value = " ".join(value.split())
    found = WHOLE.fullmatch(value)
    return found[1] if found else value


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name).lower()
