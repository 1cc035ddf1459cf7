"""What each verb of `kit` does. Heavy modules are imported inside, so that help and errors come at once."""

import argparse
from collections.abc import Callable

from challenges.commands import around, line, trained


def command(verb: str) -> Callable[[argparse.Namespace], int | None]:
    """The function of a verb's name; it returns an exit code, or None for 0."""
    found: Callable[[argparse.Namespace], int | None] = next(
        getattr(module, verb) for module in (line, trained, around) if hasattr(module, verb)
    )
    return found
