"""Asking a person before something that costs money, disk or a promise."""

import sys

from common.errors import KitError


def agreed(question: str, nobody: KitError) -> bool:
    """Whether the person at the terminal answers yes.

    nobody: what is raised where no terminal is there to be asked at.
    """
    if not sys.stdin.isatty():
        raise nobody
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False
