"""Mapping a function over items in processes that may die: the item is reported, the rest goes on."""

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors that this process may use: its affinity's, or as many as its container's quota of time is worth.

    groups: where the system shows the process's control group, as containers see it.
    """
    allowed = len(os.sched_getaffinity(0))
    quota, period = _quota(groups)
    return max(1, min(allowed, math.ceil(quota / period))) if quota > 0 else allowed


def _quota(groups: Path) -> tuple[int, int]:
    """Microseconds of processor time in a period, and the period; 0 or less where there is no quota."""
    with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" where there is none
        quota, period = (groups / "cpu.max").read_text().split()
        return int(quota), int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1
        parts = [(groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
        return int(parts[0]), int(parts[1])
    return 0, 1


def map_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    when_lost: Callable[[Item, int | None], Result],
    quiet: bool = False,
) -> Iterator[Result]:
    """Yield `function(item)` of every item in the order in which the processes finish.

    function:  importable by name; what it raises is raised here.
    when_lost: gives the result of an item whose process died, from the item and the exit code (negative: the signal).
    quiet:     silence what the processes, and the C libraries in them, print.
    The processes end when this one does, however it ends.
    """
    waiting = iter(items)
    pool: dict[Any, _Worker[Item, Result]] = {}
    try:
        for item in waiting:
            _put(pool, _Worker(function, quiet), item)
            if len(pool) == workers:
                break
        while pool:
            for pipe in connection.wait(list(pool)):
                worker = pool[pipe]
                finished, alive = worker.item, worker.receive()
                result = worker.result if alive else when_lost(finished, worker.exit_code())
                following = next(waiting, _NOTHING)
                if following is _NOTHING or not alive:
                    pool.pop(pipe).stop()
                    worker = _Worker(function, quiet) if following is not _NOTHING else worker
                if following is not _NOTHING:
                    _put(pool, worker, following)
                yield result
    finally:
        for worker in pool.values():
            worker.process.terminate()
        for worker in pool.values():
            worker.stop()


_NOTHING: Any = object()


class _Worker(Generic[Item, Result]):
    """One process, the item it holds and its last result."""

    item: Item
    result: Result

    def __init__(self, function: Callable[[Item], Result], quiet: bool) -> None:
        context = get_context("spawn")  # a forked process would inherit locked locks of DALI's and torch's threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function, quiet), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self) -> bool:
        """Take the result of the item; False when the process died over it."""
        try:
            succeeded, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return False
        if not succeeded:
            raise value
        self.result = value
        return True

    def exit_code(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()


def _put(pool: dict[Any, _Worker[Item, Result]], worker: _Worker[Item, Result], item: Item) -> None:
    worker.item = item
    pool[worker.pipe] = worker
    with contextlib.suppress(BrokenPipeError):  # it died while idle: receive() will tell
        worker.pipe.send(item)


def _serve(pipe: connection.Connection, function: Callable[[Any], Any], quiet: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            item = pipe.recv()
            try:
                answer = (True, function(item))
            except Exception as error:
                answer = (False, error)
            pipe.send(answer)
