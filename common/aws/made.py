"""What a launch makes, undone where it does not end well, by Ctrl-C too."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console

from common.errors import KitError
from common.storage.cloud import Answer, Cloud
from common.terminal.console import say


class Made:
    """What a launch has made so far, each with how it is undone."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._undoing: list[Callable[[], object]] = []

    def ask(self, undo: Callable[[Answer], object], service: str, operation: str, **request: Any) -> Answer:
        """Make something; Ctrl-C waits until it is known whether it was made."""
        with _undisturbed():
            answer = self.cloud.ask(service, operation, **request)
            self._undoing.append(lambda: undo(answer))
        return answer

    @contextlib.contextmanager
    def undone_on_error(self, console: Console) -> Iterator[None]:
        """Undo all, the latest first, where the block does not end well; what cannot be undone is told."""
        try:
            yield
        except BaseException:
            with _undisturbed():
                for undo in reversed(self._undoing):
                    try:
                        undo()
                    except KitError as error:
                        say(console, f"Left behind: {error.given}")
            raise


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep a Ctrl-C until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
