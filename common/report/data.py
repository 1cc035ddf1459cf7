"""What the check of the data found, for the page: its warnings and the files it put aside."""

from typing import Any

from common.files import read_csv, read_json
from common.language.telling import retell, tell, tell_count
from common.report.elements import Markup, folded_table, notice, paragraph
from common.run.run_directory import RunDirectory

FILES = 200  # quarantined files that the page lists


def check_record(run: RunDirectory) -> dict[str, Any]:
    """The content of check.json; empty where there is none."""
    path = run.data / "check.json"
    return read_json(path) if path.is_file() else {}


def data_warnings(run: RunDirectory) -> list[Markup]:
    return [notice(retell(warning), "warning") for warning in check_record(run).get("warnings", [])]


def quarantined_files(run: RunDirectory, consequence: str = "") -> list[Markup]:
    """The rows of quarantine.csv, each with its reason.

    consequence: what became of the files, in a sentence; empty where they were left out.
    """
    path = run.data / "quarantine.csv"
    if not path.is_file():
        return []
    rows = [(row["path"], row["code"], retell(row["reason"])) for row in read_csv(path, guarded=True)]
    title = Markup("<h3>{}</h3>").format(tell("Quarantined files"))
    if not rows:
        return [title, notice(tell("No file had to be left out."), "good")]
    words = consequence or tell_count(
        "{count} file was left out of training and evaluation.",
        "{count:,} files were left out of training and evaluation.",
        len(rows),
    )
    if len(rows) > FILES:
        words += " " + tell(
            "The first {shown} are listed here, all of them in data/{file}.", shown=FILES, file=path.name
        )
    return [title, paragraph(words), folded_table((tell("file"), tell("code"), tell("reason")), rows[:FILES])]
