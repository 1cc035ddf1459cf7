"""What the check of the data found, for the page: its warnings and the files it put aside."""

from typing import Any

from common.files import read_csv, read_json
from common.report.elements import Markup, folded_table, notice, paragraph
from common.run.run_directory import RunDirectory

FILES = 200  # quarantined files that the page lists


def check_record(run: RunDirectory) -> dict[str, Any]:
    """The content of check.json; empty where there is none."""
    path = run.data / "check.json"
    return read_json(path) if path.is_file() else {}


def data_warnings(run: RunDirectory) -> list[Markup]:
    return [notice(warning, "warning") for warning in check_record(run).get("warnings", [])]


def quarantined_files(run: RunDirectory, consequence: str = "left out of training and evaluation") -> list[Markup]:
    """The rows of quarantine.csv, each with its reason.

    consequence: what became of the files, in words.
    """
    path = run.data / "quarantine.csv"
    if not path.is_file():
        return []
    rows = [(row["path"], row["code"], row["reason"]) for row in read_csv(path, guarded=True)]
    title = Markup("<h3>Quarantined files</h3>")
    if not rows:
        return [title, notice("No file had to be left out.", "good")]
    words = f"{len(rows):,} {'file was' if len(rows) == 1 else 'files were'} {consequence}."
    if len(rows) > FILES:
        words += f" The first {FILES} are listed here, all of them in data/{path.name}."
    return [title, paragraph(words), folded_table(("file", "code", "reason"), rows[:FILES])]
