"""The demo clicks: made up rows whose truth is known, prepared."""

from pathlib import Path

from rich.console import Console

from challenges.recommendation.clicks.prepare.command import progress
from challenges.recommendation.clicks.prepare.engine import opened
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.synthetic import VERSION, SyntheticRows, synthetic_spec

ROWS_PER_USE = 1600
"""Of a value that has an id of its own, at most."""


def generate(folder: Path, rows: int, console: Console) -> Path:
    """Make and prepare the rows, or find them prepared: in `folder` with the version of the truth in its name.

    Only values that are frequent enough for so few rows to teach something about have ids of their own. Raises
    DataError where that folder holds anything else.
    """
    options = Options(threshold=max(2, rows // ROWS_PER_USE))
    output = folder.absolute().with_name(f"{folder.name}-{VERSION}")
    job = Job(reader=SyntheticRows(rows), spec=synthetic_spec(), options=options, output=output)
    with opened("local") as engine:
        prepare(job, f"synthetic {rows}", engine, lambda step, count: progress(console, step, count))
    return output
