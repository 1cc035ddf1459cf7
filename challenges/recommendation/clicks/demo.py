"""The demo clicks: made up rows whose truth is known, prepared."""

from pathlib import Path

from rich.console import Console

from challenges.recommendation.clicks.prepare.command import progress
from challenges.recommendation.clicks.prepare.engine import opened
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.synthetic import SyntheticRows, synthetic_spec


def generate(folder: Path, rows: int, console: Console) -> Path:
    """Make and prepare the rows, or find them prepared; raises DataError where the folder holds anything else."""
    job = Job(reader=SyntheticRows(rows), spec=synthetic_spec(), options=Options(), output=folder.absolute())
    with opened("local") as engine:
        prepare(job, f"synthetic {rows}", engine, lambda step, count: progress(console, step, count))
    return folder
