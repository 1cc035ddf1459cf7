"""Making the next items in a thread while the present one is used."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

Item = TypeVar("Item")
POLL_S = 0.1


class _End:
    pass


class _Filler(Generic[Item]):
    """A thread that puts a generator's items into a bounded queue until it is told to stop."""

    def __init__(self, make: Callable[[], Iterator[Item]], depth: int) -> None:
        self.ready: queue.Queue[Item | _End | BaseException] = queue.Queue(depth)
        self._make = make
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        items = self._make()
        try:
            for item in items:
                if not self._put(item):
                    return
            self._put(_End())
        except BaseException as error:
            self._put(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _put(self, item: "Item | _End | BaseException") -> bool:
        while not self._stopped.is_set():
            try:
                self.ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()


def prefetched(make: Callable[[], Iterator[Item]], depth: int) -> Iterator[Item]:
    """The items of `make()`, up to `depth` made ahead; its errors are raised here, and closing this ends the thread."""
    if depth == 0:
        yield from make()
        return
    with closing(_Filler(make, depth)) as filler:
        while True:
            item = filler.ready.get()
            if isinstance(item, _End):
                return
            if isinstance(item, BaseException):
                raise item
            yield item
