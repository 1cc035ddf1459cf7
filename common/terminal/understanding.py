"""How a check took the data: every check says what it read as what, before anything is learnt from it."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from common.terminal.console import say
from common.text import printable

Understanding = Mapping[str, str]
"""What was decided about the data, such as `format` or `splits` -> how it was taken, in words; kept in check.json."""


def print_understanding(understanding: Understanding, console: Console) -> None:
    """One line each: `understood format: …`."""
    for name, taken in understanding.items():
        console.print(printable(f"understood {name}: {taken}"), markup=False, highlight=False, soft_wrap=True)


def tell_check(record: Mapping[str, Any], console: Console) -> None:
    """What check.json says of a folder: where it is, how it was understood, and the warnings."""
    say(console, printable(record["root"]))
    print_understanding(record["understood"], console)
    for warning in record["warnings"]:
        say(console, f"warning: {warning}")
