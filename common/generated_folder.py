"""Folders of generated files that are whole or absent, whatever happens while they are made."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from common.errors import DataError, TrainingError
from common.files import sync_folder
from common.processes import map_in_processes, usable_cores

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
    if is_whole():
        return folder
    _refuse_foreign(folder, marker, noun)
    shell = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        shell = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        fill(shell / "new")
        _replace(folder, shell / "new", marker)
    except OSError as error:
        raise TrainingError(
            f"The {noun} cannot be written to {folder}: {(error.strerror or str(error)).lower()}.",
            f"About {megabytes:.0f} MB are needed.",
            "Set CHALLENGE_KIT_CACHE to a writable folder with free space.",
        ) from None
    finally:
        if shell is not None:
            shutil.rmtree(shell, ignore_errors=True)
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
    raise OSError(f"the process that made {order.file.name} ended with code {exit_code}")


def _refuse_foreign(folder: Path, marker: str, noun: str) -> None:
    """Only what was generated may be replaced."""
    if folder.exists() and not (folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))):
        raise DataError(
            f"{folder} exists and holds something else than {noun}.",
            "They are only written to a new or empty folder.",
            "Name another folder, or set CHALLENGE_KIT_CACHE to one.",
        )


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed generations left behind; one that is under way is younger."""
    for left in folder.parent.glob(f".{folder.name}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(left, ignore_errors=True)


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
