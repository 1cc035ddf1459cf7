"""A stop that is asked for from outside, which a training obeys between two steps."""

import signal
import threading
from types import FrameType


class StopSignal:
    """Remembers SIGINT or SIGTERM until the step is over; a second signal ends the process at once."""

    number: int | None = None

    def __enter__(self) -> "StopSignal":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._arrived) for name in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _arrived(self, number: int, _: FrameType | None) -> None:
        self.number = number
        for name in self._before:
            signal.signal(name, signal.SIG_DFL)
