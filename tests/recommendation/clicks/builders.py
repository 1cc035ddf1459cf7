"""Small click logs, and preparations of them."""

import contextlib
import gzip
from pathlib import Path

import numpy as np

from challenges.recommendation.clicks.prepare.engine import Local
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.ready import NUMBERS, TEXTS, criteo
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.synthetic import make_rows

COLUMNS = ("label", *NUMBERS, *TEXTS)


def criteo_lines(rows=600, chunk=0):
    """As Criteo writes them."""
    table = make_rows(0, chunk, rows).select(COLUMNS)
    return [
        "\t".join("" if cell is None else str(int(cell)) if isinstance(cell, float) else str(cell) for cell in row)
        for row in table.iter_rows()
    ]


def write_criteo(folder, lines=None, name="train.txt"):
    folder.mkdir(exist_ok=True)
    content = "".join(f"{line}\n" for line in lines or criteo_lines()).encode()
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@contextlib.contextmanager
def silent(step, count):
    yield lambda: None


def prepared(reader, spec, output, *, engine=None, **options):
    job = Job(reader=reader, spec=spec, options=Options(**options), output=Path(output))
    return prepare(job, "test", engine or Local(), silent)


def prepare_criteo(source, output, *, engine=None, **options):
    return prepared(*criteo(source, lambda line: None), output, engine=engine, **{"threshold": 2, **options})


def content_of(folder):
    """Every file below the folder but locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def column_of(prepared, split, name):
    import pyarrow.parquet as pq

    tables = [pq.read_table(path, columns=[name])[name].combine_chunks() for path in prepared.split(split)]
    arrays = [
        one.flatten().to_numpy().reshape(len(one), -1)
        if hasattr(one.type, "list_size")
        else one.to_numpy(zero_copy_only=False)
        for one in tables
    ]
    return np.concatenate(arrays)
