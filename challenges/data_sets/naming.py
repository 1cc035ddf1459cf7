"""Data that a verb was given by a data set's name, where a folder's path could stand."""

import re
from pathlib import Path

from rich.console import Console

from challenges.data_sets.getting import FOLDER, await_whole, get, nearest
from challenges.data_sets.table import DATA_SETS
from common.errors import DataError
from common.terminal.console import say

_NAME = re.compile(r"[\w.-]+")


def resolved(given: str, console: Console) -> str:
    """The path of the data: what was given where it is one, else that of the data set of this name, fetched first.

    A path that has a data set's name wins, which is said. Raises DataError for what is neither and is spelt much like a
    data set, and as `get` does.
    """
    if Path(given).exists():
        if given in DATA_SETS:
            say(console, f"data: {given} is taken for the path here; the published data set is fetched by kit data get")
        return given
    if given in DATA_SETS:
        found = _fetched_once(given, console)
        say(console, f"data: {given} is the published data set of this name, in {found}")
        return str(found)
    near = nearest(given) if _NAME.fullmatch(given) else None
    if near is not None:
        raise DataError(
            f"There is neither a path nor a data set {given!r} here.",
            "Data is a path, or a data set's name: kit data list",
            f"Did you mean {near}?",
        )
    return given


def _fetched_once(name: str, console: Console) -> Path:
    """Fetched by one process of this machine, while those that train with it wait."""
    from common.machine.distributed import world_from_environment

    if world_from_environment().local_rank > 0:
        return await_whole(name, FOLDER)
    return get(name, FOLDER, console)
