"""Folders of the user's choice into which the kit writes files under names it chooses: nothing else is overwritten."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from common.errors import DataError
from common.files import read_json, write_text

RECORD = ".written-by-kit.json"
"""In such a folder: the paths of all that was written there."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Let the block write into a folder that is new or empty, or holds nothing but what such blocks wrote.

    Raises DataError, with what stands in the way, where it holds anything else.
    """
    known = _known(folder)
    foreign = sorted(_files(folder) - known)
    if foreign:
        raise DataError(
            f"{folder} holds files that the kit did not write, such as {foreign[0]}.",
            "Copies are written into a new or an empty folder, or over the kit's own from before.",
            "Name another folder with --output.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        write_text(folder / RECORD, json.dumps(sorted(_files(folder)), indent=1) + "\n")


def _files(folder: Path) -> set[str]:
    paths = folder.rglob("*") if folder.is_dir() else ()
    return {path.relative_to(folder).as_posix() for path in paths if not path.is_dir() and path.name != RECORD}


def _known(folder: Path) -> set[str]:
    try:
        return set(read_json(folder / RECORD))
    except (OSError, ValueError, TypeError):  # none, or none of ours: then every file is foreign
        return set()
