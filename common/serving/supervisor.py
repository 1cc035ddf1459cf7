"""Keeping a local server alive: load a sick model anew, restart a server that fails as a whole, with growing pauses."""

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
    def outage(self) -> str | None: ...
    def dead(self) -> dict[str, str]: ...
    def sick(self) -> dict[str, str]: ...
    def heal(self, model: str, timeout: float = ...) -> float: ...


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """tick_seconds:   between two looks at the processes.
    probe_seconds:  between two inferences per model.
    patience:       failed probes in a row that make a model sick, so that one slow answer does not.
    first_pause:    seconds before the first restart; doubled for every further one within the window.
    longest_pause:  seconds.
    maximum:        restarts within the window after which the supervisor gives up.
    window_seconds: how far back restarts and healings count.
    grace_seconds:  for requests in flight; a server with a dead stub would use up any time it is given.
    """

    tick_seconds: float = 0.5
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

    report:    takes one line for everything that happens.
    restarts:  moments of the server's.
    healings:  moments of each model's, the first of them at once and each further one after a longer pause: whatever
               ends a model again and again, the others go on.
    mend:      looks after what stands before the server; gives a line where there was something to do.
    """

    server: Supervised
    report: Callable[[str], None]
    policy: RestartPolicy = DEFAULT_POLICY
    restarts: list[float] = field(default_factory=list)
    healings: dict[str, list[float]] = field(default_factory=dict)
    mend: Callable[[], str | None] = lambda: None

    def run(self, stop: threading.Event) -> None:
        """Return when `stop` is set; ServingError when restarts do not help. Stopping the server is the caller's."""
        next_probe = time.monotonic()
        outage = self.server.outage()
        while not stop.wait(0 if outage else self.policy.tick_seconds):
            if outage:
                outage = None if self._restart(outage, stop) else outage
                continue
            mended = self.mend()
            if mended:
                self.report(mended)
            sick = self.server.dead()
            if not sick and time.monotonic() >= next_probe:
                outage = self.server.outage()
                sick = {} if outage else self._probed(stop)
                next_probe = time.monotonic() + self.policy.probe_seconds
            for model, reason in sick.items():
                outage = self.server.outage()  # whose models fail one and all
                if not outage:
                    self._heal(model, reason)

    def _probed(self, stop: threading.Event) -> dict[str, str]:
        """The models that failed every one of the probes."""
        sick = self.server.sick()
        for _ in range(1, self.policy.patience):
            if not sick or stop.wait(0.2):
                return {}
            again = self.server.sick()
            sick = {model: reason for model, reason in again.items() if model in sick}
        return sick

    def _heal(self, model: str, reason: str) -> None:
        """Load the model anew unless that was done a moment ago."""
        recent = self._recent(self.healings.get(model, []))
        if recent and time.monotonic() - recent[-1] < self._pause(len(recent) - 1):
            return
        self.healings[model] = [*recent, time.monotonic()]
        self.report(f"{model} does not serve ({reason}); it is loaded anew.")
        try:
            seconds = self.server.heal(model)
        except ServingError as error:
            self.report(f"{model} is still sick: {error.given}")
        else:
            self.report(f"{model} serves again after {seconds:.1f} s.")

    def _restart(self, problem: str, stop: threading.Event) -> bool:
        """Whether the server is ready again; False also when `stop` came first."""
        recent = self._recent(self.restarts)
        if len(recent) >= self.policy.maximum:
            raise ServingError(
                f"The server failed again after {len(recent)} restarts: {problem}",
                f"At most {self.policy.maximum} restarts in {self.policy.window_seconds:.0f} s are tried.",
                "See the server's log.",
            )
        pause = self._pause(len(recent))
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

    def _recent(self, moments: list[float]) -> list[float]:
        return [moment for moment in moments if time.monotonic() - moment < self.policy.window_seconds]

    def _pause(self, earlier: int) -> float:
        """Seconds before the next attempt after so many earlier ones."""
        return min(self.policy.longest_pause, self.policy.first_pause * 2.0**earlier)
