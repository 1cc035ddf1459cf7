"""Who holds a run: one process that writes it, or any number of processes that only read it."""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import psutil

from common.errors import KitError

LOCK = ".lock"
NOTES = ".held.*.json"
"""One beside the lock for every process that holds it, which says who that is."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def hold(
    folder: Path, verb: str, *, shared: bool = False, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold a run for this process until the block ends; the system lets go of it when the process is killed.

    shared: only to read it, beside others that do. waiting: for what others make for this process, too: instead of an
    error it is handed a line that says who is waited for, and the block begins when they are done.
    A reader that may not even make the lock's file goes on without. On a file system without locks so does everyone,
    and says it. Raises KitError with who holds the run.
    """
    with contextlib.ExitStack() as stack:
        stream = _open(folder / LOCK, shared)
        if stream is not None:
            stack.enter_context(stream)
            _lock(stream, folder, shared, waiting)
            stack.enter_context(_noted(folder, verb, shared))
        yield


def is_note(name: str) -> bool:
    """Whether a file of this name is the lock or says who holds it."""
    return name == LOCK or (name.startswith(".held.") and name.endswith(".json"))


def _open(path: Path, shared: bool) -> TextIO | None:
    try:
        return path.open("a+")  # never emptied: another process may hold it
    except OSError as error:
        if not shared or error.errno not in _READ_ONLY:
            raise
        return path.open("r") if os.access(path, os.R_OK) else None


def _lock(stream: TextIO, folder: Path, shared: bool, waiting: Callable[[str], None] | None) -> None:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            raise _held(folder) from None
        waiting(f"{_told_of(folder, _holders(folder))}: waiting until it is done")
        fcntl.flock(stream, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"{folder} lies on a file system without locks: let no other command write it now.", file=sys.stderr)


@contextlib.contextmanager
def _noted(folder: Path, verb: str, shared: bool) -> Iterator[None]:
    """Say who holds the run as long as the block runs; who holds it alone clears away what killed ones said."""
    if not shared:
        for stale in folder.glob(NOTES):
            stale.unlink(missing_ok=True)
    note = None
    try:
        with contextlib.suppress(OSError):  # a reader may not be allowed to write, and a full disk stops no reader
            descriptor, note = tempfile.mkstemp(prefix=".held.", suffix=".json", dir=folder)
            with os.fdopen(descriptor, "w") as stream:
                json.dump(
                    {"verb": verb, "process": os.getpid(), "host": socket.gethostname(), "since": time.time()}, stream
                )
        yield
    finally:
        if note is not None:
            Path(note).unlink(missing_ok=True)


def _holders(folder: Path) -> list[dict[str, Any]]:
    return [note for path in folder.glob(NOTES) if (note := _read(path)) and _is_alive(note)]


def _told_of(folder: Path, holders: list[dict[str, Any]]) -> str:
    return f"{folder} is held by {'; '.join(map(_told, holders)) or 'another process'}"


def _held(folder: Path) -> KitError:
    holders = _holders(folder)
    here = [str(note["process"]) for note in holders if note["host"] == socket.gethostname()]
    return KitError(
        f"{_told_of(folder, holders)}.",
        "One process at a time may write a run; several may read it while none writes.",
        f"Wait until it is done, or stop it: kill {' '.join(here)}" if here else "Wait until it is done, or stop it.",
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return note if {"verb", "process", "host", "since"} <= note.keys() else None
    except (OSError, ValueError, AttributeError):  # it ends, or has only begun
        return None


def _is_alive(note: dict[str, Any]) -> bool:
    """Whether the process that wrote a note still runs, as far as this machine can tell; numbers are used again."""
    if note["host"] != socket.gethostname():
        return True
    try:
        return bool(psutil.Process(note["process"]).create_time() <= note["since"] + 1)  # second, of rounding
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _told(note: dict[str, Any]) -> str:
    since = datetime.datetime.fromtimestamp(note["since"], datetime.UTC).isoformat(" ", "seconds")
    return f"`kit {note['verb']}`, process {note['process']} on {note['host']} since {since}"
