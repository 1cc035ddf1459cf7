"""Keeping a local server alive: probe by real inference, restart with growing pauses, give up after too many."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from common.errors import ServingError


class Supervised(Protocol):
    """What a supervisor needs of a server."""

    def start(self) -> None: ...
    def stop(self, seconds: float = ...) -> None: ...
    def wait_ready(self, timeout: float = ...) -> float: ...
    def problem(self, timeout: float = ...) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """probe_seconds:  between two probes of a healthy server.
    patience:       failed probes in a row that make a restart, so that one slow answer makes none.
    first_pause:    seconds before the first restart; doubled for every further one within the window.
    longest_pause:  seconds.
    maximum:        restarts within the window after which the supervisor gives up.
    window_seconds: how far back restarts count.
    grace_seconds:  for requests in flight; a server with a dead stub would use up any time it is given.
    """

    probe_seconds: float = 5.0
    patience: int = 2
    first_pause: float = 1.0
    longest_pause: float = 30.0
    maximum: int = 5
    window_seconds: float = 600.0
    grace_seconds: float = 3.0


DEFAULT_POLICY = RestartPolicy()


@dataclass
class Supervisor:
    """Watches a started server until told to stop.

    report: takes one line for everything that happens.
    """

    server: Supervised
    report: Callable[[str], None]
    policy: RestartPolicy = DEFAULT_POLICY
    restarts: list[float] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Return when `stop` is set; ServingError when restarts do not help. Stopping the server is the caller's."""
        failures = 0
        while not stop.wait(self.policy.probe_seconds if not failures else 0.2):
            problem = self.server.problem()
            failures = failures + 1 if problem else 0
            if problem and failures >= self.policy.patience and self._restart(problem, stop):
                failures = 0

    def _restart(self, problem: str, stop: threading.Event) -> bool:
        """Whether the server is ready again; False also when `stop` came first."""
        recent = [moment for moment in self.restarts if time.monotonic() - moment < self.policy.window_seconds]
        if len(recent) >= self.policy.maximum:
            raise ServingError(
                f"The server failed again after {len(recent)} restarts: {problem}",
                f"At most {self.policy.maximum} restarts in {self.policy.window_seconds:.0f} s are tried.",
                "See the server's log.",
            )
        pause = min(self.policy.longest_pause, self.policy.first_pause * 2 ** len(recent))
        count = f"restart {len(recent) + 1} of at most {self.policy.maximum}"
        self.report(f"The server does not serve ({problem}); {count} in {pause:g} s.")
        self.server.stop(self.policy.grace_seconds)
        if stop.wait(pause):
            return False
        self.restarts.append(time.monotonic())
        try:
            self.server.start()
            seconds = self.server.wait_ready()
        except ServingError as error:
            self.report(f"The restart failed: {error.given}")
            return False
        self.report(f"The server serves again after {seconds:.1f} s.")
        return True
