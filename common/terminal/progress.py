"""Telling how far a long count has come: a bar on a terminal, a line every ten percent elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common.terminal.console import SafeConsole

Counter = Callable[[int, int], None]
"""Called with (done, in all)."""


@contextlib.contextmanager
def counting(title: str, console: Console | None = None) -> Iterator[Counter]:
    """Show a count under `title` on standard error, or on `console`."""
    console = console or SafeConsole(stderr=True)
    if not console.is_terminal:
        yield _lines(title, console)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _lines(title: str, console: Console) -> Counter:
    shown = -1

    def count(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // max(total, 1)
        if tenth > shown:
            shown = tenth
            console.print(f"{title} {done}/{total}", markup=False, highlight=False)

    return count
