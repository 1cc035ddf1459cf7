"""Which files hold the interactions, and how their columns are laid out."""

import csv
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import DataError

Kind = Literal["movielens", "ncf", "recbole", "lines", "table"]

ROLES: dict[str, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "users", "customerid", "reviewerid", "visitorid", "profileid", "memberid"),
    "item": (
        *("item", "itemid", "iid", "items", "movie", "movieid", "sid", "product", "productid", "asin", "parentasin"),
        *("article", "articleid", "track", "trackid", "song", "songid", "book", "bookid", "game", "gameid"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
    "time": ("timestamp", "time", "ts", "unixtime", "unixreviewtime", "datetime", "date", "createdat", "eventtime"),
}
"""Names of columns by what they hold, in lower case without underscores; of several, the first named here counts."""

FORMATS = (
    "Read are MovieLens (u.data, ratings.dat, ratings.csv), lines of `user item`, CSV, TSV or Parquet with columns "
    "such as user, item, rating, timestamp, NCF's .train.rating files and RecBole's .inter files; each also as .gz."
)
SUFFIXES = (".csv", ".tsv", ".parquet", ".dat", ".data", ".txt", ".inter", ".rating")
BESIDE = {"movies", "items", "users", "tags", "links", "genome-scores", "genome-tags", "demo", "README", "readme"}
MAIN = ("ratings", "interactions")
TITLE_FILES = ("movies.dat", "movies.csv", "u.item", "items.csv")
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class Layout:
    """One file's columns.

    delimiter:    between fields; empty for Parquet. names: all columns in the file's order.
    roles:        user, item, and where present rating and time -> column name.
    header:       the first line holds the names.
    numeric_ids:  the format knows numbers only; elsewhere ids are any text.
    """

    path: Path
    delimiter: str
    names: tuple[str, ...]
    roles: dict[str, str]
    header: bool
    numeric_ids: bool


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
        digest = hashlib.sha256()
        for path in self.files:
            status = path.stat()
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def find(root: Path) -> Source:
    """The interactions in `root`: a file, a folder, or a folder whose only subfolder with interactions is meant.

    Raises DataError when there are none, or several to choose from.
    """
    root = root.absolute()
    if not root.exists():
        raise DataError(f"{root} does not exist.", FORMATS)
    try:
        if root.is_file():
            source = _of_file(root)
            if source is None:
                raise DataError(f"{root} holds no interactions that the kit knows.", FORMATS)
            return source
        found = _of_folder(root)
        if not found:
            folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and folder.name[0] != ".")
            found = [source for folder in folders for source in _of_folder(folder)]
    except OSError as error:
        raise DataError(f"{error.filename or root} cannot be read: {(error.strerror or str(error)).lower()}.") from None
    if not found:
        raise DataError(f"No interactions were found in {root}.", FORMATS, "Name the folder or the file itself.")
    if len(found) > 1:
        names = [str(source.layout.path.relative_to(root)) for source in found]
        raise DataError(
            f"{root} holds several interaction files: {', '.join(names)}.",
            "They may be different splits or numberings of the same data, so none is chosen silently.",
            f"Name the one that is meant, such as DATA={found[0].layout.path}",
        )
    return found[0]


def _of_folder(folder: Path) -> list[Source]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and _is_candidate(path))
    main = [path for path in files if _stem(path) in MAIN]
    official = [path for path in files if ".train." in path.name]
    sources = [_of_file(path, listed=True) for path in official or main or files]
    return [source for source in sources if source is not None]


def _is_candidate(path: Path) -> bool:
    name = _plain_name(path)
    return name[0] != "." and ".test." not in name and _stem(path) not in BESIDE and name.endswith(SUFFIXES)


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _stem(path: Path) -> str:
    return _plain_name(path).rsplit(".", 1)[0]


def _of_file(path: Path, *, listed: bool = False) -> Source | None:
    """The source that a file is, or None where its first line says nothing; listed: found, not named by the user."""
    name = _plain_name(path)
    if re.search(r"\.train\.(rating|parquet)$", name):
        return _ncf(path)
    if name.endswith(".parquet"):
        return _named(path, "", _parquet_columns(path), listed)
    first = _first_line(path)
    if first is None:
        if listed and name.endswith(".txt"):
            return None
        raise DataError(f"{path} is empty.", FORMATS)
    if name == "u.data":
        return Source("movielens", path.parent, _unnamed(path, "\t"), _titles(path.parent))
    if "::" in first:
        return Source("movielens", path.parent, _unnamed(path, "::"), _titles(path.parent))
    if name.endswith(".inter"):
        columns = tuple(first.split("\t"))
        return Source("recbole", path.parent, _layout(path, "\t", columns), _recbole_titles(path))
    lines = re.fullmatch(r"-?[^\s,;|]+([ \t])-?[^\s,;|]+", first)
    if lines and not _role_of(first.split()[0]):
        if listed and not re.fullmatch(r"-?\d+\s-?\d+", first):
            return None  # prose
        layout = Layout(path, lines[1], ("user", "item"), {"user": "user", "item": "item"}, False, True)
        return Source("lines", path.parent, layout, _own_titles(path.parent))
    delimiter = max(_DELIMITERS, key=first.count)
    if name.endswith((".txt", ".dat", ".data")) and listed and first.count(delimiter) < 1:
        return None
    return _named(path, delimiter, tuple(next(csv.reader([first], delimiter=delimiter))), listed)


def _named(path: Path, delimiter: str, columns: tuple[str, ...], listed: bool) -> Source | None:
    roles = {role for column in columns if (role := _role_of(column))}
    if listed and not {"user", "item"} & roles and _stem(path) not in MAIN:
        return None  # some other table
    return Source("table", path.parent, _layout(path, delimiter, columns), _titles(path.parent))


def _layout(path: Path, delimiter: str, columns: tuple[str, ...]) -> Layout:
    roles: dict[str, str] = {}
    for role, names in ROLES.items():
        known = sorted((names.index(_normal(name)), name) for name in columns if _normal(name) in names)
        if known:
            roles[role] = known[0][1]
    for role in ("user", "item"):
        if role not in roles:
            raise DataError(
                f"{path}, line 1: no column names the {role}; there are {', '.join(map(repr, columns[:12]))}.",
                f"Known names of that column: {', '.join(ROLES[role][:6])} (upper case and _ do not matter).",
                f"Name the columns, such as user{delimiter or ','}item, or rename the one that is meant.",
            )
    return Layout(path, delimiter, columns, roles, bool(delimiter), False)


def _unnamed(path: Path, delimiter: str) -> Layout:
    names = ("user", "item", "rating", "time")
    return Layout(path, delimiter, names, {name: name for name in names}, False, True)


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
        named = _layout(path, "", _parquet_columns(path))
        layout = Layout(path, "", named.names, named.roles, False, True)
    else:
        layout = _unnamed(path, "\t")
    return Source("ncf", path.parent, layout, _own_titles(path.parent), (others[0], others[1]))


def _role_of(column: str) -> str | None:
    return next((role for role, names in ROLES.items() if _normal(column) in names), None)


def _normal(column: str) -> str:
    """`user_id:token` and `userId` are both `userid`."""
    return re.sub(r"[^a-z]", "", column.split(":")[0].lower())


def _titles(folder: Path) -> Path | None:
    return next((folder / name for name in TITLE_FILES if (folder / name).is_file()), None)


def _own_titles(folder: Path) -> Path | None:
    """Renumbered items: MovieLens' own files beside them speak of other numbers, items.csv does not."""
    return folder / "items.csv" if (folder / "items.csv").is_file() else None


def _recbole_titles(path: Path) -> Path | None:
    stem = _plain_name(path).removesuffix(".inter")
    choices = (path.with_name(f"{stem}.item{gz}") for gz in ("", ".gz"))
    return next((choice for choice in choices if choice.is_file()), None)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} is no readable Parquet file: {str(error).splitlines()[0]}", FORMATS, "Copy or write it again."
        ) from None


def _first_line(path: Path) -> str | None:
    return next((line.rstrip("\r\n") for line in text_lines(path) if line.strip()), None)


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """A text file's lines, unpacked where it is gzipped; raises DataError where it is cut off or no text."""
    number = 0
    try:
        with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as stream:
            for number, line in enumerate(stream, start=1):  # noqa: B007 (named in the error)
                yield line.decode(encoding).removeprefix("\ufeff")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, error, number) from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}, line {number}: it is not UTF-8.", FORMATS, f"Try: iconv -f latin1 -t utf-8 {path.name}"
        ) from None


def damaged(path: Path, error: Exception, line: int | None = None) -> DataError:
    """The error of a gzip file that breaks off."""
    after = f" after line {line:,}" if line else ""
    reason = "it is cut off" if isinstance(error, EOFError) else str(error)
    return DataError(
        f"{path} cannot be unpacked{after}: {reason}.", "A whole gzip file is needed.", "Download or copy it again."
    )
