"""Folders of the user's choice into which the kit writes files under names it chooses: nothing else is overwritten."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from common.errors import DataError
from common.files import read_json, sha256, write_text
from common.storage.run_lock import hold, is_note

RECORD = ".written-by-kit.json"
"""In such a folder: the path of all that was written there -> its sha256."""


@contextlib.contextmanager
def claimed(folder: Path, verb: str) -> Iterator[None]:
    """Let the block write into a folder that is new or empty, or holds nothing but what such blocks wrote.

    Raises DataError, with what stands in the way, where it holds anything else or what was changed since, and KitError
    where another process writes there.
    """
    known = _known(folder)
    foreign = sorted(name for name, path in _files(folder).items() if not _is_as_written(path, known.get(name)))
    if foreign:
        raise DataError(
            f"{folder} holds files that the kit did not write, or that were changed since, such as {foreign[0]}.",
            "Copies are written into a new or an empty folder, or over the kit's own from before.",
            "Name another folder with --output.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder, verb):
        try:
            yield
        finally:
            written = {name: sha256(path) for name, path in sorted(_files(folder).items()) if path.is_file()}
            write_text(folder / RECORD, json.dumps(written, indent=1) + "\n")


def _files(folder: Path) -> dict[str, Path]:
    paths = [path for path in folder.rglob("*") if not path.is_dir()] if folder.is_dir() else []
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if name != RECORD and not is_note(name)}


def _known(folder: Path) -> dict[str, str]:
    try:
        return dict(read_json(folder / RECORD))
    except (OSError, ValueError, TypeError):  # none, or none of ours: then every file is foreign
        return {}


def _is_as_written(path: Path, digest: str | None) -> bool:
    return digest is not None and path.is_file() and not path.is_symlink() and sha256(path) == digest
