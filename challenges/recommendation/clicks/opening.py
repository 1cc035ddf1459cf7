"""A click log as a challenge's data: a prepared folder as it is, anything else prepared on its way into the cache."""

import contextlib
import csv
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from challenges.recommendation.clicks.prepare.command import OWN, READY, progress
from challenges.recommendation.clicks.prepare.engine import opened
from challenges.recommendation.clicks.prepare.guess import LABELS, Asked
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.text import first_lines
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.prepared import FILE, Prepared
from common.errors import DataError
from common.files import cache_folder
from common.slug import slug
from common.terminal.console import say

CRITEO_FIELDS = (39, 40)
TEXTS = (".csv", ".tsv", ".txt")


def open_log(root: Path, console: Console) -> Prepared:
    """Prepare `root` where it is not prepared yet, and say what was taken for what.

    Raises DataError where it is no click log, as prepare does where one cannot be learnt from.
    """
    if (root / FILE).is_file():
        return Prepared.open(root)
    kind, why = kind_of(root)
    say(console, f"understood data: prepared as {kind}, since {why}")
    resolved = root.resolve()
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
    output = cache_folder() / "prepared" / f"{kind}-{slug(resolved.name)}-{digest}"

    def note(line: str) -> None:
        say(console, f"understood {line}")

    reader, spec = READY[kind](resolved, note) if kind in READY else OWN[kind](resolved, Asked(), note)
    job = Job(reader=reader, spec=spec, options=Options(), output=output)
    with opened("local") as engine:
        return prepare(job, f"{kind} {resolved.name}", engine, lambda step, count: progress(console, step, count))


def kind_of(root: Path) -> tuple[str, str]:
    """What `kit prepare` would call the data, and what speaks for it; DataError where it is no click log."""
    names = {path.name.removesuffix(".gz"): path for path in _files(root)}
    if {"adult.data", "adult.test"} <= names.keys():
        return "adult", "it has adult.data and adult.test"
    if {"ratings.dat", "users.dat", "movies.dat"} <= names.keys():
        return "movielens", "it has MovieLens' ratings.dat, users.dat and movies.dat"
    texts = [path for name, path in sorted(names.items()) if name.endswith(TEXTS) or name.startswith("day_")]
    if texts and _fields(texts[0]) in CRITEO_FIELDS:
        return "criteo", f"{texts[0].name} has {_fields(texts[0])} fields with tabs between, as Criteo's logs"
    if any(name.endswith(".parquet") for name in names):
        return "parquet", "it has Parquet files"
    if texts:
        label = next((name for name in _header(texts[0]) if name.lower() in LABELS), None)
        if label is None:
            raise DataError(
                f"{texts[0]} has no column that says what was clicked.",
                f"Such a column is called {', '.join(LABELS)}.",
                f"Say which one it is: kit prepare csv {root} --label NAME --out PREPARED",
            )
        return "csv", f"{texts[0].name} is a table with a column {label}"
    raise DataError(
        f"{root} holds no click log.",
        "Read are prepared folders, Criteo's logs, Adult, MovieLens 1M, and tables of CSV or Parquet with a label.",
        "See kit prepare --help.",
    )


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    with contextlib.suppress(OSError):
        yield from sorted(path for path in root.iterdir() if path.is_file())


def _header(path: Path) -> list[str]:
    line = first_lines(path, 1)[0]
    return next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])


def _fields(path: Path) -> int:
    """How many fields with tabs between the first line has."""
    return len(first_lines(path, 1)[0].split("\t"))
