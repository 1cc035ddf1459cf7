"""Mapping a function over items in processes that may die: the item is reported, the rest goes on."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, get_context
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


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
