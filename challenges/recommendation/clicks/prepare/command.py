"""`kit prepare`: which reader and spec a kind of data has, and what is told about the result."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from challenges.recommendation.clicks.prepare.engine import opened
from challenges.recommendation.clicks.prepare.guess import Asked, csv_table, parquet_table
from challenges.recommendation.clicks.prepare.job import Job, Options, Reader
from challenges.recommendation.clicks.prepare.ready import Note, adult, criteo, movielens, movielens_autoint
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.prepared import Prepared
from challenges.recommendation.clicks.spec import FeatureSpec
from challenges.recommendation.clicks.synthetic import SyntheticRows, synthetic_spec
from common.errors import DataError
from common.terminal.console import say

READY: Mapping[str, Callable[[Path, Note], tuple[Reader, FeatureSpec]]] = {
    "criteo": criteo,
    "adult": adult,
    "movielens": movielens,
    "movielens-autoint": movielens_autoint,
}
OWN: Mapping[str, Callable[[Path, Asked, Note], tuple[Reader, FeatureSpec]]] = {
    "csv": csv_table,
    "parquet": parquet_table,
}


def run(options: argparse.Namespace, console: Console) -> None:
    """Prepare what was asked for, and say what became of it."""
    asked = Asked(label=options.label, spec=FeatureSpec.read(Path(options.like)) if options.like else None)

    def note(line: str) -> None:
        say(console, line)

    reader, spec = _source(options, asked, note)
    job = Job(
        reader=reader,
        spec=spec,
        options=Options(threshold=options.threshold, hash_above=options.hash_above, max_rows=options.max_rows),
        output=Path(options.out).absolute(),
    )
    name = options.kind if options.data is None else f"{options.kind} {Path(options.data).name}"
    with opened(options.engine) as engine:
        prepared = prepare(job, name, engine, lambda step, count: progress(console, step, count))
    tell(prepared, console)


def _source(options: argparse.Namespace, asked: Asked, note: Note) -> tuple[Reader, FeatureSpec]:
    if options.kind == "synthetic":
        if options.data is not None:
            raise DataError("Synthetic data is made, not read.", "kit prepare synthetic --rows N --out PREPARED")
        return SyntheticRows(options.rows, options.seed), synthetic_spec()
    if options.data is None:
        raise DataError(f"kit prepare {options.kind} was given no data.", "It takes a file or a folder.")
    root = Path(options.data).absolute()
    if options.kind in OWN:
        return OWN[options.kind](root, asked, note)
    reader, spec = READY[options.kind](root, note)
    return reader, asked.spec or spec


@contextlib.contextmanager
def progress(console: Console, step: str, count: int) -> Iterator[Callable[[], None]]:
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(step, total=count)
        yield lambda: bar.advance(task)


def tell(prepared: Prepared, console: Console) -> None:
    table = Table("column", "kind", "ids", "training values with ids of their own")
    for feature in prepared.spec.features:
        facts = dataclasses.asdict(feature)
        kind = type(feature).__name__.lower() + (", hashed" if facts.get("hashed") else "")
        share = prepared.facts["known_share"].get(feature.name)
        table.add_row(
            feature.name,
            kind,
            f"{facts['cardinality']:,}" if share is not None else "",
            "" if share is None else f"{share:.1%}",
        )
    console.print(table)
    for split, rows in prepared.rows.items():
        say(console, f"{split}: {rows:,} rows, {prepared.positives[split] / rows:.2%} of them 1")
    for split, value in prepared.facts.get("bayes_auc", {}).items():
        say(console, f"The best that any model can do on {split}: AUC {value:.4f}")
    say(console, f"Prepared: {prepared.folder}")
