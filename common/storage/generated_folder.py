"""Folders of generated files that are whole or absent, whatever happens while they are made."""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from common.errors import DataError, TrainingError
from common.files import sync_folder
from common.machine.processes import map_in_processes, usable_cores

ABANDONED_AFTER_S = 3600


class Order(Protocol):
    """One file to be made."""

    @property
    def file(self) -> Path: ...


OrderType = TypeVar("OrderType", bound=Order)
Made = TypeVar("Made")


def generate_folder(
    folder: Path, marker: str, noun: str, megabytes: float, is_whole: Callable[[], bool], fill: Callable[[Path], None]
) -> Path:
    """Have `fill` make the files in a temporary neighbour of `folder`, which takes its name when all is there.

    marker:   a file, written last, that only such folders hold.
    noun:     what is made, megabytes: and how much of it, for errors.
    is_whole: whether the folder is there already, as it should be: nothing is made then.
    Raises DataError where the folder holds anything else, TrainingError where it cannot be written.
    """
    _remove_abandoned(folder)
    if is_whole():
        return folder
    _refuse_foreign(folder, marker, noun)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _shell(folder) as shell:
            fill(shell / "new")
            _refuse_added(folder, shell / "new", marker, noun)
            _replace(folder, shell / "new", marker)
    except OSError as error:
        raise TrainingError(
            f"The {noun} cannot be written to {folder}: {(error.strerror or str(error)).lower()}.",
            f"About {megabytes:.0f} MB are needed.",
            "Set CHALLENGE_KIT_CACHE to a writable folder with free space.",
        ) from None
    return folder


def make_files(
    make: Callable[[OrderType], Made],
    orders: Sequence[OrderType],
    workers: int | None,
    counter: AbstractContextManager[Callable[[int, int], None]],
) -> list[Made]:
    """Make all the files, and return what `make` does, in no fixed order.

    workers: processes; None: one per usable core; 0: in this process.
    """
    for parent in {order.file.parent for order in orders}:
        parent.mkdir(parents=True)
    if workers == 0:
        results: Iterator[Made] = map(make, orders)
    else:
        results = map_in_processes(make, orders, workers or usable_cores(), when_lost=_lost)
    made = []
    with counter as count:
        for result in results:
            made.append(result)
            count(len(made), len(orders))
    return made


def _lost(order: Order, exit_code: int | None) -> NoReturn:
    raise TrainingError(
        f"The process that made {order.file.name} ended with code {exit_code}.",
        "A negative code is the signal that ended it: -9 comes from a system that is out of memory.",
        "Run the same command again; end other programs where memory was short.",
    )


def _refuse_foreign(folder: Path, marker: str, noun: str) -> None:
    """Only what was generated may be replaced."""
    if folder.exists() and not (folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))):
        raise DataError(
            f"{folder} exists and holds something else than {noun}.",
            "They are only written to a new or empty folder.",
            "Name another folder, or set CHALLENGE_KIT_CACHE to one.",
        )


def _refuse_added(folder: Path, fresh: Path, marker: str, noun: str) -> None:
    """What was put among the generated files later, and is not made anew, is the user's."""
    if not (folder / marker).is_file():
        return
    finished = (folder / marker).stat().st_ctime_ns  # it was written last
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_dir() and not (fresh / inside).exists() and path.lstat().st_ctime_ns > finished:
            raise DataError(
                f"{folder} holds something that was added to its {noun}: {inside}.",
                "The folder is of another version of the kit, or damaged, and would be generated anew.",
                "Move what is yours elsewhere, or set CHALLENGE_KIT_CACHE to another folder.",
            )


@contextmanager
def _shell(folder: Path) -> Iterator[Path]:
    """A temporary neighbour of `folder`, locked as long as this process lives, and removed with all that is in it."""
    descriptor = None
    while True:
        shell = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        with suppress(BlockingIOError, FileNotFoundError):
            descriptor = _locked(shell)
            if shell.is_dir():  # else it was taken for abandoned before it was locked
                break
    try:
        yield shell
    finally:
        shutil.rmtree(shell, ignore_errors=True)
        _unlock(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed generations left behind; one that is under way is locked, or young where nothing locks."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[a-z0-9_]{{8}}\.part")
    with suppress(OSError):
        for left in [path for path in folder.parent.iterdir() if name.fullmatch(path.name) and path.is_dir()]:
            with suppress(BlockingIOError, FileNotFoundError):
                descriptor = _locked(left)
                if descriptor is not None or time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                    shutil.rmtree(left, ignore_errors=True)
                _unlock(descriptor)


def _locked(folder: Path) -> int | None:
    """A descriptor of the folder that is locked until it is closed; None on a file system without locks.

    Raises BlockingIOError where another process has it locked.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _replace(folder: Path, partial: Path, marker: str) -> None:
    """Give the finished files their name; where another process was faster, its identical ones stay."""
    if folder.exists():
        os.rename(folder, partial.with_name("old"))
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / marker).is_file():
            raise
    sync_folder(folder.parent)
