"""Which files hold the interactions, and what format each is."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from challenges.recommendation.files.columns import SAMPLED, is_number, sample
from challenges.recommendation.files.folders import FROM_JSON, levels, plain_name, without_tables
from challenges.recommendation.files.layout import (
    FORMATS,
    NOTHING,
    Layout,
    looks_like_data,
    named_layout,
    unnamed_layout,
    with_words_for_ratings,
)
from challenges.recommendation.files.names import role_of
from challenges.recommendation.files.places import placed_layout
from challenges.recommendation.files.text import csv_rows, first_line, text_lines
from challenges.recommendation.files.user_lines import user_lines_layout
from common.errors import DataError
from common.files import file_stamp, stamps_digest
from common.text import printable

Kind = Literal["movielens", "ncf", "recbole", "lines", "user-lines", "table"]

SUFFIXES = (".csv", ".tsv", ".parquet", ".dat", ".data", ".txt", ".inter", ".rating")
BESIDE = {"movies", "items", "users", "tags", "links", "genome-scores", "genome-tags", "demo", "README", "readme"}
MAIN = ("ratings", "interactions")
TITLE_FILES = ("movies.dat", "movies.csv", "u.item", "items.csv")
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class Source:
    """Where interactions come from.

    titles: a file that names the items, or None. official: NCF's test.rating and test.negative.
    """

    kind: Kind
    root: Path
    layout: Layout
    titles: Path | None = None
    official: tuple[Path, Path] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.layout.path, self.titles, *(self.official or ())) if path is not None)

    @property
    def fingerprint(self) -> str:
        """Hex digest over the read files' names, sizes and modification times."""
        return stamps_digest((path.name, *file_stamp(path)) for path in self.files)


def find(root: Path, columns: Mapping[str, str] = NOTHING) -> Source:
    """The interactions in `root`: a file, a folder, or a folder in which only one folder with interactions lies.

    columns: role -> the user's column for it, by name or by place from 1 on.
    Raises DataError when there are none, or several to choose from.
    """
    found = find_all(root, columns)
    if len(found) > 1:
        names = [printable(str(source.layout.path.relative_to(root.absolute()))) for source in found]
        likeliest = min(found, key=lambda source: "test" in source.layout.path.name.lower())
        raise DataError(
            f"{root.absolute()} holds several interaction files: {', '.join(names)}.",
            "They may be different splits or numberings of the same data, so none is chosen silently.",
            f"Name the one that is meant, such as DATA={likeliest.layout.path}",
        )
    return found[0]


def find_all(root: Path, columns: Mapping[str, str] = NOTHING) -> list[Source]:
    """Those from among which `find` would have to choose; raises DataError when there are none."""
    root = root.absolute()
    if not root.exists():
        raise DataError(f"{root} does not exist.", FORMATS)
    try:
        if root.is_file():
            source = _of_file(root, columns)
            if source is None:
                raise DataError(f"{root} holds no interactions that the kit knows.", FORMATS)
            return [source]
        each = ([source for folder in level for source in _of_folder(folder, columns)] for level in levels(root))
        found = next(filter(None, each), []) or _nameless_tables(root, columns)
    except OSError as error:
        raise DataError(f"{error.filename or root} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    if not found:
        raise without_tables(root)
    return found


def _nameless_tables(root: Path, columns: Mapping[str, str]) -> list[Source]:
    """The files that are interactions if they are named.

    Raises the error that the first of the others would meet, where there is nothing else.
    """
    sources, errors = [], []
    for folder in chain.from_iterable(levels(root)):
        for path in sorted(path for path in folder.iterdir() if path.is_file() and _is_candidate(path)):
            if not plain_name(path).endswith(".txt"):
                try:
                    sources.append(_of_file(path, columns))
                except DataError as error:
                    errors.append(error)
    found = [source for source in sources if source is not None]
    if errors and not found:
        raise errors[0]
    return found


def _of_folder(folder: Path, columns: Mapping[str, str]) -> list[Source]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_candidate(path))
    main = [path for path in files if _stem(path) in MAIN]
    official = [path for path in files if ".train." in path.name]
    sources = [_listed(path, columns) for path in official or main or files]
    return [source for source in sources if source is not None]


def _listed(path: Path, columns: Mapping[str, str]) -> Source | None:
    """The source that a file of a folder is; a table of something else is none, whatever is wrong with it."""
    try:
        return _of_file(path, columns, listed=True)
    except DataError:
        if columns or not plain_name(path).endswith((".csv", ".tsv")):
            raise
        first = first_line(path) or ""
        names = next(csv_rows(path, [first], _delimiter(first), quoted=True))[1]
        if len(names) < 2 or looks_like_data(names) or not _is_other(path, names):
            raise
        return None


def _is_candidate(path: Path) -> bool:
    name = plain_name(path)
    return name[0] != "." and ".test." not in name and _stem(path) not in BESIDE and name.endswith(SUFFIXES)


def _stem(path: Path) -> str:
    return plain_name(path).rsplit(".", 1)[0]


def _of_file(path: Path, columns: Mapping[str, str] = NOTHING, *, listed: bool = False) -> Source | None:
    """The source that a file is, or None where its first line says nothing; listed: found, not named by the user."""
    name = plain_name(path)
    if re.search(r"\.train\.(rating|parquet)$", name) and not columns:
        return _ncf(path)
    if name.endswith(".parquet"):
        return _table(path, lambda: _parquet_layout(path, columns), _parquet_columns(path), listed and not columns)
    first = first_line(path)
    if first is None:
        if listed and name.endswith(".txt"):
            return None
        raise DataError(f"{path} is empty.", FORMATS)
    if first.startswith(("{", "[", "<")):
        if listed:
            return None
        raise _no_table(path, first)
    return _of_text(path, first, columns, listed)


def _of_text(path: Path, first: str, columns: Mapping[str, str], listed: bool) -> Source | None:
    name = plain_name(path)
    if not columns and name == "u.data":
        return Source("movielens", path.parent, unnamed_layout(path, "\t"), _titles(path.parent))
    if "::" in first:
        return Source("movielens", path.parent, unnamed_layout(path, "::"), _titles(path.parent))
    if name.endswith(".inter"):
        delimiter = next((sign for sign in "\t, " if sign in first), "\t")
        return Source("recbole", path.parent, _text_layout(path, delimiter, columns), _recbole_titles(path))
    of_users = user_lines_layout(path, columns)
    if of_users:
        return Source("user-lines", path.parent, of_users, _own_titles(path.parent))
    lines = re.fullmatch(r"-?[^\s,;|]+([ \t])-?[^\s,;|]+", first)
    if lines and not columns and not role_of(first.split()[0]):
        if listed and not re.fullmatch(r"-?\d+\s-?\d+", first):
            return None  # prose
        layout = Layout(path, lines[1], ("user", "item"), {"user": "user", "item": "item"}, False, True)
        return Source("lines", path.parent, layout, _own_titles(path.parent))
    stated = re.fullmatch(r"sep=(.)", first)  # a line that Excel writes and reads
    delimiter = stated[1] if stated else _delimiter(first)
    if name.endswith((".txt", ".dat", ".data")) and listed and first.count(delimiter) < 1:
        return None
    names, _ = _header(path, delimiter)
    return _table(path, lambda: _text_layout(path, delimiter, columns), names, listed and not columns)


def _no_table(path: Path, first: str) -> DataError:
    """The error of a file that holds something else than a table, whatever it is called."""
    remedy = "Download it again, from the address of the file itself."
    if first[0] != "<":
        remedy = FROM_JSON
    return DataError(f"{path}, line 1: it looks like {'a web page' if first[0] == '<' else 'JSON'}.", FORMATS, remedy)


def _delimiter(first: str) -> str:
    """The sign between the names of the first line; a blank where nothing else is there and the names are known."""
    delimiter = max(_DELIMITERS, key=first.count)
    words = first.split(" ")
    if delimiter not in first and ({"user", "item"} <= set(map(role_of, words)) or looks_like_data(words)):
        return " "
    return delimiter


def _table(path: Path, layout: Callable[[], Layout], columns: Sequence[str], listed: bool) -> Source | None:
    if listed and _is_other(path, columns):
        return None
    return Source("table", path.parent, layout(), _titles(path.parent))


def _is_other(path: Path, columns: Sequence[str]) -> bool:
    """Whether a table is about users or items alone, or about something else, by its columns' names."""
    return not {"user", "item"} <= set(map(role_of, columns)) and _stem(path) not in MAIN


def _header(path: Path, delimiter: str) -> tuple[list[str], int]:
    """The names in the first record below blank lines and Excel's `sep=`, and how many lines lie above the rows."""
    above = sum(1 for _ in takewhile(lambda line: re.fullmatch(r"\s*|sep=.\s*", line), text_lines(path)))
    below = islice(text_lines(path), above, None)
    rows = csv_rows(path, below, delimiter, quoted=True)
    _, names = next(rows, (0, []))
    following = next((number for number, _ in rows), None)
    return names, above + (following - 1 if following else 1 + sum(name.count("\n") for name in names))


def _text_layout(path: Path, delimiter: str, columns: Mapping[str, str]) -> Layout:
    """The layout of a table; without a header its first rows decide, and they decide how its numbers are written."""
    names, skipped = _header(path, delimiter)
    if looks_like_data(names) or (columns and _has_no_header(path, delimiter, names, columns)):
        records = (row for _, row in csv_rows(path, text_lines(path), delimiter, quoted=True) if row)
        return placed_layout(path, delimiter, list(islice(records, SAMPLED)), columns)
    layout = named_layout(path, delimiter, names, skipped, columns)
    rows = sample(layout)
    ratings = [fields["rating"] for fields in rows if "rating" in fields]
    if delimiter != "," and ratings and all(re.fullmatch(r"\s*-?\d+(,\d+)?\s*", text) for text in ratings):
        layout = dataclasses.replace(layout, decimal_comma=any("," in text for text in ratings))
    if not any(is_number(text, layout.decimal_comma) for text in ratings):
        return with_words_for_ratings(layout)
    return layout


def _has_no_header(path: Path, delimiter: str, names: Sequence[str], columns: Mapping[str, str]) -> bool:
    """Whether columns were given by places alone, and the first line's words come again below, as no names do."""
    if not all(given.isdigit() and given not in names for given in columns.values()) or any(map(role_of, names)):
        return False
    rows = islice((row for _, row in csv_rows(path, text_lines(path), delimiter, quoted=True)), 1, SAMPLED)
    again = [place for row in rows for place, name in enumerate(names) if row[place : place + 1] == [name]]
    return bool(again)


def _parquet_layout(path: Path, columns: Mapping[str, str]) -> Layout:
    schema = _parquet_schema(path)
    layout = named_layout(path, "", schema.names, chosen=columns)
    rating = layout.roles.get("rating")
    kind = None if rating is None else schema.field(rating).type
    if kind is not None and (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    ):
        return with_words_for_ratings(layout)
    return layout


def _ncf(path: Path) -> Source:
    stem = re.sub(r"\.train\.(rating|parquet)(\.gz)?$", "", path.name)
    others = []
    for kind in ("test.rating", "test.negative"):
        choices = [path.with_name(f"{stem}.{kind}{gz}") for gz in ("", ".gz")]
        present = [choice for choice in choices if choice.is_file()]
        if not present:
            raise DataError(
                f"{choices[0]} is missing beside {path.name}.",
                "NCF's protocol needs three files: .train.rating, .test.rating and .test.negative.",
                f"Put {choices[0].name} beside the others.",
            )
        others.append(present[0])
    if path.name.endswith(".parquet"):
        layout = dataclasses.replace(_parquet_layout(path, NOTHING), numeric_ids=True)
    else:
        layout = unnamed_layout(path, "\t")
    return Source("ncf", path.parent, layout, _own_titles(path.parent), (others[0], others[1]))


def _titles(folder: Path) -> Path | None:
    return next((folder / name for name in TITLE_FILES if (folder / name).is_file()), None)


def _own_titles(folder: Path) -> Path | None:
    """Renumbered items: MovieLens' own files beside them speak of other numbers, items.csv does not."""
    return folder / "items.csv" if (folder / "items.csv").is_file() else None


def _recbole_titles(path: Path) -> Path | None:
    stem = plain_name(path).removesuffix(".inter")
    choices = (path.with_name(f"{stem}.item{gz}") for gz in ("", ".gz"))
    return next((choice for choice in choices if choice.is_file()), None)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    return tuple(_parquet_schema(path).names)


def _parquet_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} is no readable Parquet file: {str(error).splitlines()[0]}", FORMATS, "Copy or write it again."
        ) from None
