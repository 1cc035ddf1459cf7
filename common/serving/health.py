"""Whether each model of a local server is well: by its processes, and by real inferences with time-outs of its own."""

import contextlib
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Protocol

import psutil

from common.errors import ServingError
from common.serving.client import Client
from common.serving.problems import InvalidRequestError, OverloadedError, RequestTimeoutError
from common.serving.repository import ModelRepository

SHORTEST_PATIENCE = 5.0
"""Seconds that any answer may take."""
PATIENCE_FACTOR = 10
"""How many times longer than usual an answer may take before the model is looked at more closely."""
STUCK_SECONDS = 60.0
"""A model that computes and answers nobody for this long, and for as many usual answers as STUCK_FACTOR, is stuck."""
STUCK_FACTOR = 20
BUSY_SHARE = 0.1
"""Of one core, from which on a model's processes are at work."""
STUB_NAME = re.compile(r"(.+)_\d+_\d+")  # Triton's name of an instance: model, instance group, number


class Watched(Protocol):
    """What is needed of the server."""

    repository: Path
    process: Popen[bytes] | None

    def client(self, *, timeout: float = ..., retries: int = ...) -> Client: ...


@dataclass
class Health:
    """What is known of a server's models.

    usual: seconds that a model's answer takes, from the probes that came through.
    stubs: process -> model, as it was when all were well.
    stuck: model -> since when it has answered nobody.
    """

    server: Watched
    usual: dict[str, float] = field(default_factory=dict)
    stubs: dict[psutil.Process, str] = field(default_factory=dict)
    stuck: dict[str, float] = field(default_factory=dict)

    def patience(self, model: str) -> float:
        """Seconds to wait for one answer."""
        return max(SHORTEST_PATIENCE, PATIENCE_FACTOR * self.usual.get(model, 0.0))

    def ask(self, model: str, timeout: float) -> ServingError | None:
        """What stands in the way of an answer; a full queue and a refused example are answers too."""
        started = time.monotonic()
        try:
            with self.server.client(timeout=timeout, retries=0) as client:
                client.infer(model, client.example_inputs(model))
        except (OverloadedError, InvalidRequestError):
            return None
        except ServingError as error:
            return error
        seconds = time.monotonic() - started
        self.usual[model] = 0.8 * self.usual.get(model, seconds) + 0.2 * seconds
        self.stuck.pop(model, None)
        return None

    def sick(self) -> dict[str, str]:
        """Why each model that must be loaded anew does not answer. Of an ensemble it is the parts that fall ill."""
        repository = ModelRepository(self.server.repository)
        found: dict[str, str] = {}
        for model in repository.served():
            problem = self.ask(model, self.patience(model))
            if problem is None:
                continue
            parts = [step.model_name for step in repository.config(model).ensemble_scheduling.step]
            answers = {part: self._illness(part) for part in parts or [model]}
            found |= {part: reason for part, reason in answers.items() if reason}
            if not any(answers.values()) and parts and not isinstance(problem, RequestTimeoutError):
                found[model] = problem.given
        return found

    def _illness(self, model: str) -> str | None:
        """Why a single model is sick; None for one that is merely slow."""
        counted, computed = self._executions(model), self._processor_seconds(model)
        problem = self.ask(model, self.patience(model))
        if not isinstance(problem, RequestTimeoutError):
            return problem.given if problem else None
        if self._executions(model) > counted:  # others got their answers meanwhile
            self.stuck.pop(model, None)
            return None
        since = self.stuck.setdefault(model, time.monotonic())
        allowed = max(STUCK_SECONDS, STUCK_FACTOR * self.usual.get(model, 0.0))
        busy = self._processor_seconds(model) - computed > BUSY_SHARE * self.patience(model)
        if busy and time.monotonic() - since < allowed:
            return None  # at work on something large
        return problem.given

    def _executions(self, model: str) -> int:
        with contextlib.suppress(ServingError), self.server.client(timeout=SHORTEST_PATIENCE, retries=0) as client:
            return int(client.statistics(model).get("execution_count", 0))
        return 0

    def _processor_seconds(self, model: str) -> float:
        """What the model's own processes have computed so far."""
        total = 0.0
        for process in self._stubs_of(model):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def note_stubs(self) -> None:
        """Remember which process runs which model; dead ones have no command line any more."""
        self.stubs = {}
        if self.server.process is None:
            return
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.server.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    names = [found[1] for part in process.cmdline() if (found := STUB_NAME.fullmatch(part))]
                    if names:
                        self.stubs[process] = names[0]

    def dead(self) -> dict[str, str]:
        """The models of which a process has ended since all were well."""
        return {
            model: f"process {process.pid} of {model} has ended"
            for process, model in self.stubs.items()
            if not _alive(process)
        }

    def end_stubs(self, model: str) -> None:
        """End a sick model's processes: Triton 24.10 aborts when one that it gave up wakes up again."""
        for process in self._stubs_of(model):
            self.stubs.pop(process)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _stubs_of(self, model: str) -> list[psutil.Process]:
        return [process for process, owner in self.stubs.items() if owner == model]


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
