"""A click log as a challenge's data: a prepared folder as it is, anything else prepared on its way into the cache."""

import csv
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from challenges.recommendation.clicks.prepare.command import OWN, READY, progress
from challenges.recommendation.clicks.prepare.engine import opened
from challenges.recommendation.clicks.prepare.guess import LABELS, Asked
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.ready import NUMBERS, RATINGS, TEXTS
from challenges.recommendation.clicks.prepare.text import first_lines
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.prepared import FILE, Prepared
from common.errors import DataError
from common.files import cache_folder
from common.language.telling import english
from common.slug import slug
from common.terminal.understanding import Understanding, print_understanding

CRITEO_FIELDS = (39, 40)
SUFFIXES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Log:
    """understood: what was taken for what, where the data was not prepared before."""

    prepared: Prepared
    understood: Understanding


def open_log(root: Path, console: Console) -> Log:
    """Prepare `root` where it is not prepared yet, and say what was taken for what.

    Raises DataError where it is no click log, as prepare does where one cannot be learnt from.
    """
    if (root / FILE).is_file():
        return Log(Prepared.open(root), {"format": english("a folder that kit prepare wrote")})
    kind, why = kind_of(root)
    understood = {"format": english("{kind}, since {why}", kind=kind, why=why)}
    resolved = root.resolve()

    def note(line: str) -> None:
        name, _, taken = line.partition(": ")
        understood.update({name: taken} if taken else {"splits": line})

    reader, spec = READY[kind](resolved, note) if kind in READY else OWN[kind](resolved, Asked(), note)
    print_understanding(understood, console)
    job = Job(reader=reader, spec=spec, options=Options(), output=Path())
    digest = hashlib.sha256(json.dumps(job.plan(), sort_keys=True).encode()).hexdigest()[:8]
    output = cache_folder() / "prepared" / f"{kind}-{slug(resolved.name)}-{digest}"
    with opened("local") as engine:
        job = replace(job, output=output.absolute())
        prepared = prepare(job, f"{kind} {resolved.name}", engine, lambda step, count: progress(console, step, count))
    return Log(prepared, understood)


def kind_of(root: Path) -> tuple[str, str]:
    """What `kit prepare` would call the data, and what speaks for it; DataError where it is no click log."""
    files = _files(root)
    names = {path.name.removesuffix(".gz") for path in files if path.parent == root}
    if {"adult.data", "adult.test"} <= names:
        return "adult", "it has adult.data and adult.test"
    ratings = [name for name in RATINGS if name in names]
    if ratings and {"users.dat", "movies.dat"} <= names:
        return "movielens", f"it has MovieLens' {ratings[0]}, users.dat and movies.dat"
    texts = [path for path in files if _is_text(path.name.removesuffix(".gz"))]
    criteo = next((path for path in texts if _is_criteo(path)), None)
    if criteo is not None:
        return "criteo", f"{criteo.name} has the columns of Criteo's logs"
    tables = [path for path in files if path.suffix == ".parquet"]
    for kind, some, columns_of in (("csv", texts, _text_columns), ("parquet", tables, _parquet_columns)):
        if some:
            return kind, f"{some[0].name} is a table with a column {_label_of(some[0], kind, columns_of(some[0]))}"
    raise DataError(
        f"{root} holds no click log.",
        "Read are prepared folders, Criteo's logs, Adult, MovieLens 1M, and tables of CSV or Parquet with a label.",
        "See kit prepare --help.",
    )


def _label_of(path: Path, kind: str, columns: list[str]) -> str:
    """The one column that is named as a label is."""
    found = [name for name in columns if name.lower() in LABELS]
    if len(found) == 1:
        return found[0]
    told = f"has the columns {' and '.join(found)}, each of which" if found else "has no column that"
    raise DataError(
        f"{path} {told} says what was clicked.",
        f"One column is called {', '.join(LABELS)}.",
        f"Say which one it is: kit prepare {kind} {path} --label NAME --out PREPARED, then give PREPARED as the data.",
    )


def _files(root: Path) -> list[Path]:
    """As prepare finds them."""
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))


def _is_text(name: str) -> bool:
    return name.endswith(SUFFIXES) or re.fullmatch(r"day_\d+", name) is not None


def _is_criteo(path: Path) -> bool:
    """Whether the first line names Criteo's columns, or is a row of them."""
    line = first_lines(path, 1)[0]
    if {*NUMBERS, *TEXTS} <= set(line.split("\t" if "\t" in line else ",")):
        return True
    cells = line.split("\t")
    numbers = cells[-CRITEO_FIELDS[0] : -len(TEXTS)]
    return len(cells) in CRITEO_FIELDS and all(re.fullmatch(r"-?\d*", cell) for cell in numbers)


def _text_columns(path: Path) -> list[str]:
    line = first_lines(path, 1)[0]
    return [name.strip() for name in next(csv.reader([line], delimiter=max(",\t;|", key=line.count)), [])]


def _parquet_columns(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is no readable Parquet file: {str(error).splitlines()[0]}") from None
