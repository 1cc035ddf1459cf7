"""A repository folder that the kit may write: nothing that somebody else put there is ever removed or overwritten."""

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from common.errors import ServingError
from common.files import read_json, sha256, write_json

LOCK = ".challenge-kit.lock"
MARKER = ".challenge-kit.json"
"""What the kit wrote: {"models": names, "files": {path: sha256}}, the files null until all are there."""
_OURS = (LOCK, MARKER)


@contextlib.contextmanager
def claimed(folder: Path, models: Sequence[str]) -> Iterator[Path]:
    """Hold an empty folder for one writer and its server, removing what the kit itself wrote there before.

    models: names of the folders that will be written; `seal` records their files.
    Raises ServingError where another process holds the folder, or where it has files that the kit did not write.
    """
    _refuse_foreign(folder)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / LOCK).open("a+"))
        except OSError as error:
            raise ServingError(
                f"The folder {folder} cannot be written: {error.strerror}.", remedy="Pass another --repository."
            ) from None
        _hold(lock, folder)
        _refuse_foreign(folder)  # again, since nobody else writes from here on
        _clear(folder)
        write_json(folder / MARKER, {"models": list(models), "files": None})
        yield folder


def seal(folder: Path) -> None:
    """Record every file of a repository that has been written."""
    written = {str(path.relative_to(folder)): sha256(path) for path in _entries(folder) if path.is_file()}
    write_json(folder / MARKER, {**read_json(folder / MARKER), "files": written})


def foreign(folder: Path) -> list[Path]:
    """What lies in the folder and was not written by the kit, or was changed since; sorted."""
    if not folder.is_dir():
        return [folder] if folder.exists() or folder.is_symlink() else []
    try:
        marker = read_json(folder / MARKER)
        models, files = set(marker["models"]), marker["files"]
    except (OSError, ValueError, KeyError, TypeError):
        models, files = set(), {}
    return sorted(path for path in _entries(folder) if not _ours(path, path.relative_to(folder), models, files))


def _ours(path: Path, name: Path, models: set[str], files: Mapping[str, str] | None) -> bool:
    """Whether the kit wrote what lies at `name`, a path below the repository, and nobody changed it."""
    if not any(name.parts[0] == model or name.parts[0].startswith(f"{model}_") for model in models):
        return False
    if files is None or (path.is_dir() and not path.is_symlink()):  # null: the writer was ended before its last file
        return True
    return str(name) in files and not path.is_symlink() and files[str(name)] == sha256(path)


def _refuse_foreign(folder: Path) -> None:
    found = foreign(folder)
    if found:
        names = ", ".join(str(path.relative_to(folder)) if path != folder else "a file" for path in found[:3])
        raise ServingError(
            f"{folder} holds what the kit did not write, or what was changed since: {names}"
            f"{f' and {len(found) - 3} more' if len(found) > 3 else ''}.",
            "A repository is written into a folder that is absent, empty or the kit's own.",
            "Name another folder, or move away what lies there.",
        )


def _hold(lock: TextIO, folder: Path) -> None:
    """Lock the open file for this process, and write its number into it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise ServingError(
            f"Process {lock.read().strip() or 'of unknown number'} serves {folder}.",
            "One repository folder belongs to one server.",
            "Stop that server, or name another folder with --repository.",
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _clear(folder: Path) -> None:
    """Remove what is there; all of it was seen to be the kit's."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in _OURS:
            path.unlink()  # the beginning of a marker


def _entries(folder: Path) -> list[Path]:
    """What lies below the folder, but the kit's two files, their beginnings, and what Python leaves beside modules."""
    return [
        path
        for path in folder.rglob("*")
        if not re.match(r"\.+challenge-kit\.", path.relative_to(folder).parts[0])
        and "__pycache__" not in path.relative_to(folder).parts
    ]
