"""A run's page: written from what the run holds, and again at every evaluation while it trains."""

from pathlib import Path
from typing import Any

from rich.console import Console

from common.challenge import Challenge
from common.failures import explain
from common.report.page import write_report
from common.run.run_directory import Entry, RunDirectory
from common.terminal.console import say
from common.training.observers import Observer, RunFacts


def report(challenge: Challenge[Any, Any, Any], run: RunDirectory) -> Path:
    """Write the run's page from whatever the run holds."""
    return write_report(run, challenge.page.sections(run, run.recipe(challenge.recipe_class)))


class LiveReport(Observer):
    """Refreshes the run's page at every evaluation; a page that cannot be drawn never stops a training."""

    def __init__(self, challenge: Challenge[Any, Any, Any], console: Console) -> None:
        self._challenge, self._console = challenge, console

    def on_start(self, facts: RunFacts) -> None:
        self._run = facts.run
        self._refresh()

    def on_entry(self, entry: Entry) -> None:
        if entry["kind"] == "validation":
            self._refresh()

    def _refresh(self) -> None:
        try:
            report(self._challenge, self._run)
        except Exception as error:
            told = " ".join(str(explain(error) or repr(error)).splitlines())
            say(self._console, f"The report could not be refreshed: {told}")
