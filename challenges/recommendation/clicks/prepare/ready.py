"""Ready-made readings of data that everyone has: Criteo's logs, the census of Adult, MovieLens 1M as clicks."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from challenges.recommendation.clicks.prepare.job import Chunk, Split
from challenges.recommendation.clicks.prepare.text import TextPart, TextTable, first_lines
from challenges.recommendation.clicks.spec import Categorical, Cross, Dense, FeatureSpec, Label, MultiHot
from common.errors import DataError

Note = Callable[[str], None]
"""Tells what was taken for what."""

NUMBERS, TEXTS = tuple(f"I{place}" for place in range(1, 14)), tuple(f"C{place}" for place in range(1, 27))
CRITEO_THRESHOLD = 10  # as BARS keeps Criteo_x1's values
_ROLES: tuple[tuple[str, Split], ...] = (
    ("train", "train"), ("val", "validation"), ("valid", "validation"), ("validation", "validation"),
    ("dev", "validation"), ("test", "test"), ("eval", "validation"),
)  # fmt: skip
_DAY = re.compile(r"day_(\d+)(\.gz)?")


def split_of(path: Path) -> Split | None:
    """What a file's or its folder's name says: one of its words is train, valid, dev or test."""
    for name in (path.name, path.parent.name):
        words = re.split(r"[^a-z]+", name.lower())
        for word, split in _ROLES:
            if word in words:
                return split
    return None


def table_files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """`root` itself, or the files below it with one of the suffixes; DataError where there is none."""
    if not root.exists():
        raise DataError(f"There is no {root}.", remedy="Check the path.")
    inside = sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = [root] if root.is_file() else [path for path in inside if path.name.removesuffix(".gz").endswith(suffixes)]
    if not found:
        told = f"; it has {inside[0].name}" if inside else ""
        raise DataError(f"{root} holds no file that ends in {', '.join(suffixes)}{told}.", "Those are read.")
    return found


def parts_of(files: list[Path]) -> tuple[TextPart, ...]:
    """With the splits that the names say, where they say one of all; otherwise rows are dealt out."""
    splits = [split_of(path) for path in files]
    if None in splits or "train" not in splits or len(set(splits)) == 1:
        return tuple(TextPart(path, None) for path in files)
    return tuple(TextPart(path, split) for path, split in zip(files, splits, strict=True))


def criteo(root: Path, note: Note) -> tuple[TextTable, FeatureSpec]:
    """label, I1 to I13, C1 to C26 with tabs between, or named by a first line; days, of which the last is held out.

    Files without labels, as Kaggle's test.txt, and such of another layout are left out, and told.
    """
    files = table_files(root, (".txt", ".tsv", ".csv", *(f"day_{day}" for day in range(24))))
    layouts = {path: _criteo_layout(path) for path in files}
    chosen = next((layout for layout in layouts.values() if "label" in layout.columns), None)
    if chosen is None:
        raise DataError(f"{root} holds no rows with labels.", "A label and 39 columns are read.")
    used = [path for path, layout in layouts.items() if layout == chosen]
    for path in files:
        if path not in used:
            why = "another layout" if "label" in layouts[path].columns else "no labels"
            note(f"left out: {path.name}, {why}")
    days = sorted((int(found[1]), path) for path in used if (found := _DAY.fullmatch(path.name)))
    named = [TextPart(path, "train") for _, path in days] if len(days) > 1 else parts_of(used)
    parts = tuple(replace(part, first_line=int(chosen.named)) for part in named)
    table = TextTable(parts, chosen.columns, chosen.separator, halves=parts[-1].path if len(days) > 1 else None)
    spec = FeatureSpec(
        dense=tuple(Dense(name=name) for name in NUMBERS),
        categorical=tuple(Categorical(name=name, threshold=CRITEO_THRESHOLD) for name in TEXTS),
    )
    return table, spec


class _Layout(NamedTuple):
    """named: whether the first line names the columns."""

    columns: tuple[str, ...]
    separator: str
    named: bool


def _criteo_layout(path: Path) -> _Layout:
    line = first_lines(path, 1)[0]
    separator = "\t" if "\t" in line else ","
    fields = line.split(separator)
    known = {name.lower(): name for name in ("label", *NUMBERS, *TEXTS)}
    named = tuple(known.get(field.strip().lower(), field.strip()) for field in fields)
    if set(named) >= {*NUMBERS, *TEXTS}:
        return _Layout(named, separator, True)
    if len(fields) not in (39, 40):
        raise DataError(
            f"{path}, line 1, has {len(fields)} field{'s' if len(fields) > 1 else ''}.",
            "Criteo's rows have 40: a label, 13 numbers and 26 texts, with tabs between.",
            "For other tables: kit prepare csv",
        )
    return _Layout(("label", *NUMBERS, *TEXTS)[40 - len(fields) :], separator, False)


ADULT_COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
    "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
)  # fmt: skip


def adult(root: Path, _note: Note) -> tuple[TextTable, FeatureSpec]:
    """The census's official training and test files; the census's own weight of a row, fnlwgt, is left out."""
    parts = []
    splits: tuple[tuple[str, Split], ...] = (("adult.data", "train"), ("adult.test", "test"))
    for stem, split in splits:
        found = [path for path in (root / stem, root / f"{stem}.gz") if path.is_file()]
        if not found:
            raise DataError(f"There is no {root / stem}, nor with .gz.", "Adult is adult.data and adult.test.")
        remark = first_lines(found[0], 1)[0].startswith("|")  # the census's own test file begins with one
        parts.append(TextPart(found[0], split, int(remark)))
    plain = ("age", "education_num", "hours_per_week")
    flat = ("workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country")
    spec = FeatureSpec(
        dense=(
            *(Dense(name=name, transform="none") for name in plain),
            Dense(name="capital_gain"),
            Dense(name="capital_loss"),
        ),
        categorical=tuple(Categorical(name=name) for name in flat),
        label=Label(name="income", values={"<=50K": 0, ">50K": 1, "<=50K.": 0, ">50K.": 1}),
        crosses=(
            Cross(columns=("education", "occupation"), buckets=1_000),
            Cross(columns=("native_country", "occupation"), buckets=1_000),
            Cross(columns=("marital_status", "relationship", "sex"), buckets=200),
            Cross(columns=("workclass", "education", "occupation"), buckets=5_000),
        ),
    )
    return TextTable(tuple(parts), ADULT_COLUMNS, ","), spec


RATINGS = ("ratings.dat", "ml1m_interactions.parquet")
"""Of MovieLens 1M: GroupLens's own file, or its copy as Parquet."""
LIKED, NEUTRAL = 3, 3
"""Ratings above are clicks and below are none; three stars are neither, as AutoInt has it (Song et al. 2019)."""
FIRST_DAY = 956_703_932 // 86_400  # of MovieLens 1M's ratings, in days since 1970


@dataclass(frozen=True)
class MovieLens:
    """MovieLens 1M: ratings.dat or its copy as Parquet, users.dat and movies.dat; rows are dealt out 8:1:1."""

    root: Path

    @property
    def ratings(self) -> Path:
        for name in RATINGS:
            if (self.root / name).is_file():
                return self.root / name
        raise DataError(
            f"There is no {self.root / 'ratings.dat'}.", "MovieLens 1M is ratings.dat, users.dat and movies.dat."
        )

    @property
    def files(self) -> tuple[Path, ...]:
        return self.ratings, self.root / "users.dat", self.root / "movies.dat"

    @property
    def packed(self) -> tuple[Path, ...]:
        return ()

    def bytes_per_pass(self) -> int:
        return self.ratings.stat().st_size * 4

    def chunks(self, unpacked: dict[str, Path]) -> list[Chunk]:
        return [Chunk(str(self.ratings), 0, 0)]

    def read(self, chunk: Chunk, columns: tuple[str, ...]) -> pl.DataFrame:
        users = _dat(self.root / "users.dat", ("user", "gender", "age", "occupation", "zip"))
        films = _dat(self.root / "movies.dat", ("film", "title", "genres"))
        films = films.with_columns(films["title"].str.extract(r"\((\d{4})\)\s*$").alias("year"))
        rows = self._ratings().filter((pl.col("rating") > 0) & (pl.col("rating") != NEUTRAL))
        joined = rows.join(users, "user", how="left", maintain_order="left")
        joined = joined.join(films, "film", how="left", maintain_order="left")
        days = pl.when(pl.col("time") > 0).then(pl.col("time") / 86_400 - FIRST_DAY)
        clicked = (pl.col("rating") > LIKED).cast(pl.Int8)
        return joined.with_columns(clicked.alias("clicked"), days.alias("days")).select(columns)

    def place(self, chunk: Chunk, row: int) -> str:
        return f"{chunk.path}, row {row + 1:,} of those with an opinion"

    def _ratings(self) -> pl.DataFrame:
        if self.ratings.suffix == ".dat":
            table = _dat(self.ratings, ("user", "film", "rating", "time"))
            return table.with_columns(table["rating"].cast(pl.Int64), table["time"].cast(pl.Int64))
        table = pl.DataFrame(pl.from_arrow(pq.read_table(self.ratings)))
        texts = {"user": table["user_id"].cast(pl.String), "film": table["movie_id"].cast(pl.String)}
        return pl.DataFrame(texts | {"rating": table["rating"], "time": table["timestamp"]})


def _movielens(root: Path) -> MovieLens:
    reader = MovieLens(root)
    for path in reader.files:
        if not path.is_file():
            raise DataError(f"There is no {path}.", "MovieLens 1M is ratings.dat, users.dat and movies.dat.")
    return reader


def movielens(root: Path, _note: Note) -> tuple[MovieLens, FeatureSpec]:
    """Users, films and what is known of them."""
    flat = ("user", "film", "gender", "age", "occupation", "zip")
    return _movielens(root), FeatureSpec(
        dense=(Dense(name="year", transform="none", missing=1990),),
        categorical=tuple(Categorical(name=name) for name in flat),
        multi_hot=(MultiHot(name="genres"),),
        label=Label(name="clicked"),
        group="user",
        crosses=(
            Cross(columns=("gender", "age"), buckets=50),
            Cross(columns=("age", "occupation"), buckets=500),
            Cross(columns=("gender", "film"), buckets=10_000),
            Cross(columns=("age", "film"), buckets=50_000),
        ),
    )


def movielens_autoint(root: Path, _note: Note) -> tuple[MovieLens, FeatureSpec]:
    """The fields of AutoInt (Song et al. 2019), which have neither users nor films."""
    flat = ("gender", "age", "occupation", "zip", "year")
    return _movielens(root), FeatureSpec(
        dense=(Dense(name="days", transform="none"),),
        categorical=tuple(Categorical(name=name) for name in flat),
        multi_hot=(MultiHot(name="genres"),),
        label=Label(name="clicked"),
        crosses=(Cross(columns=("gender", "age"), buckets=50), Cross(columns=("age", "occupation"), buckets=500)),
    )


def _dat(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """GroupLens's files: fields with :: between, in Latin 1."""
    rows = [line.split("::") for line in path.read_text(encoding="latin-1").splitlines()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise DataError(f"{path}, line {number:,}, has {len(row)} fields.", f"It has {len(columns)}.")
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
