"""What the columns of a table of one's own are for: decided from its first rows, and told with the reason."""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from challenges.recommendation.clicks.prepare.job import Chunk
from challenges.recommendation.clicks.prepare.ready import Note, parts_of, table_files
from challenges.recommendation.clicks.prepare.tables import ParquetTable
from challenges.recommendation.clicks.prepare.text import TextPart, TextTable, first_lines
from challenges.recommendation.clicks.spec import Categorical, Dense, FeatureSpec, Label, MultiHot
from challenges.recommendation.clicks.transform import texts_of
from common.errors import DataError

LABELS = ("label", "click", "clicked", "is_click", "target", "y", "converted", "conversion", "purchased", "bought")
GROUPS = ("user", "user_id", "userid", "uid", "customer", "customer_id", "session", "session_id")
LOOKED_AT = 100_000
FEW = 20
"""Whole numbers of at most so many values are taken for a set."""
TAILED = 30.0
"""Numbers whose largest is so many times their 90th percentile, with none below 0, are logged."""
SEVERAL = "|;"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """label: NAME, or NAME=VALUE where VALUE stands for 1 and the rest for 0."""

    label: str | None = None
    spec: FeatureSpec | None = None


def csv_table(root: Path, asked: Asked, note: Note) -> tuple[TextTable, FeatureSpec]:
    """Tables of text whose first line names their columns."""
    files = table_files(root, (".csv", ".tsv", ".txt"))
    layouts = {path: _header(path) for path in files}
    for path, layout in layouts.items():
        if layout != layouts[files[0]]:
            raise DataError(f"{path} has other columns than {files[0]}.", "All files of a folder have the same.")
    columns, separator = layouts[files[0]]
    parts = tuple(replace(part, first_line=1) for part in _parts(files, note))
    table = TextTable(parts, columns, separator, quoted=True)
    return table, asked.spec or _guessed(_first_text_rows(table), asked, note)


def parquet_table(root: Path, asked: Asked, note: Note) -> tuple[ParquetTable, FeatureSpec]:
    table = ParquetTable(_parts(table_files(root, (".parquet",)), note))
    if asked.spec is not None:
        return table, asked.spec
    chunk = table.chunks({})[0]
    rows = table.read(Chunk(chunk.path, 0, 1), tuple(table.columns())).head(LOOKED_AT)
    return table, _guessed(rows, asked, note)


def _parts(files: list[Path], note: Note) -> tuple[TextPart, ...]:
    parts = parts_of(files)
    dealt = parts[0].split is None
    note(
        "rows are dealt out 8:1:1" if dealt else "splits: " + ", ".join(f"{one.path.name} {one.split}" for one in parts)
    )
    return parts


def _header(path: Path) -> tuple[tuple[str, ...], str]:
    line = first_lines(path, 1)[0]
    separator = max(",\t;|", key=line.count)
    columns = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator)))
    if len(columns) < 2 or len(set(columns)) < len(columns) or any(re.fullmatch(r"-?[\d.]*", name) for name in columns):
        raise DataError(
            f"{path}, line 1, names no columns: {line[:80]}",
            "Its first line has a name for each column, no two the same, with commas, tabs, ; or | between.",
        )
    return columns, separator


def _first_text_rows(table: TextTable) -> pl.DataFrame:
    lines = [line for line in first_lines(table.files[0], LOOKED_AT + 1)[1:] if line]
    if not lines:
        raise DataError(f"{table.files[0]} has no rows.", "A table has a row at least.")
    rows = csv.reader(lines, delimiter=table.separator)
    whole = [row for row in rows if len(row) == len(table.columns)]  # wrong ones are told when all are read
    return pl.DataFrame(whole, schema=dict.fromkeys(table.columns, pl.String), orient="row")


def _guessed(rows: pl.DataFrame, asked: Asked, note: Note) -> FeatureSpec:
    label = _label(rows, asked.label)
    found: list[Dense | Categorical] = []
    for name in rows.columns:
        if name == label.name:
            continue
        column, why = _column(rows[name])
        note(f"{name}: {why}")
        found += [column] if column is not None else []
    group = next((name for name in rows.columns if name.lower() in GROUPS), None)
    return FeatureSpec(
        dense=tuple(column for column in found if isinstance(column, Dense)),
        categorical=tuple(column for column in found if type(column) is Categorical),
        multi_hot=tuple(column for column in found if isinstance(column, MultiHot)),
        label=label,
        group=group,
    )


def _label(rows: pl.DataFrame, asked: str | None) -> Label:
    name, _, positive = (asked or "").partition("=")
    if not name:
        found = [column for column in rows.columns if column.lower() in LABELS]
        if len(found) != 1:
            raise DataError(
                f"{'No column is' if not found else ', '.join(found) + ' are all'} named as a label is.",
                f"There are: {', '.join(rows.columns)}.",
                "Say which it is: --label NAME, or --label NAME=VALUE, where VALUE stands for 1.",
            )
        name = found[0]
    if name not in rows.columns:
        raise DataError(f"There is no column {name}.", f"There are: {', '.join(rows.columns)}.")
    values = texts_of(rows[name]).drop_nulls().unique().sort().to_list()
    if not positive:
        return Label(name=name)
    if positive not in values or len(values) != 2:
        raise DataError(
            f"The label {name} is {', '.join(values[:5])} in the first rows.",
            f"It has two values, one of them {positive}.",
        )
    return Label(name=name, values={value: int(value == positive) for value in values})


def _column(values: pl.Series) -> tuple[Dense | Categorical | None, str]:
    """What a column is taken for, and why."""
    name = values.name
    if values.dtype == pl.List:
        return MultiHot(name=name), "multi-hot, it holds lists"
    texts = texts_of(values).drop_nulls()
    numbers = texts.cast(pl.Float64, strict=False)
    distinct = texts.n_unique()
    if len(texts) and not numbers.null_count():
        whole = bool((numbers == numbers.floor()).all())
        if whole and (distinct <= FEW or re.search(r"(^|_)id$", name.lower())):
            return Categorical(name=name), f"categorical, {distinct:,} whole numbers"
        high, top = float(numbers.quantile(0.9) or 0), float(numbers.max() or 0)  # type: ignore[arg-type]
        tailed = float(numbers.min() or 0) >= 0 and top > TAILED * max(high, 1)  # type: ignore[arg-type]
        return Dense(name=name, transform="log" if tailed else "none"), "dense, numbers" + (
            " with a long tail, logged" if tailed else ""
        )
    if len(texts) > 1_000 and distinct == len(texts):
        return None, "left out, every row has its own"
    for separator in SEVERAL:
        if len(texts) and texts.str.contains(separator, literal=True).mean() > 0.1:  # type: ignore[operator]
            return MultiHot(name=name, separator=separator), f"multi-hot, values with {separator} between"
    return Categorical(name=name), f"categorical, {distinct:,} values in the first rows"
