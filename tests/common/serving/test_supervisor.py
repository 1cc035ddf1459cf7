"""When the supervisor restarts, how long it pauses, and when it gives up."""

import threading

import pytest

from common.errors import ServingError
from common.serving import supervisor as supervisor_module
from common.serving.supervisor import RestartPolicy, Supervisor

POLICY = RestartPolicy(probe_seconds=0, patience=2, first_pause=1, longest_pause=4, maximum=4)


class FakeServer:
    """Answers the probes in order, then stops the supervisor; a problem named "broken" also breaks the restart."""

    def __init__(self, answers: list[str | None]) -> None:
        self.answers, self.calls, self.stop_event = answers, [], FakeEvent()

    def problem(self, timeout: float = 5.0) -> str | None:
        answer = self.answers.pop(0)
        if not self.answers:
            self.stop_event.set()
        return answer

    def stop(self, seconds: float = 15.0) -> None:
        self.calls.append("stop")

    def start(self) -> None:
        self.calls.append("start")

    def wait_ready(self, timeout: float = 60.0) -> float:
        if self.answers and self.answers[0] == "broken":
            raise ServingError("still broken")
        return 1.0


class FakeEvent(threading.Event):
    """Records the waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        return self.is_set()


def watched(answers: list[str | None]) -> tuple[FakeServer, list[str], Supervisor]:
    server, lines = FakeServer(answers), []
    return server, lines, Supervisor(server, lines.append, POLICY)


def test_a_healthy_server_is_left_alone() -> None:
    server, lines, supervisor = watched([None, "slow", None, "slow", None])
    supervisor.run(server.stop_event)
    assert server.calls == []
    assert lines == []


def test_two_failed_probes_make_one_restart_that_is_told() -> None:
    server, lines, supervisor = watched([None, "gone", "gone", None])
    supervisor.run(server.stop_event)
    assert server.calls == ["stop", "start"]
    assert lines == [
        "The server does not serve (gone); restart 1 of at most 4 in 1 s.",
        "The server serves again after 1.0 s.",
    ]


def test_pauses_grow_to_a_cap_and_restarts_end() -> None:
    server, lines, supervisor = watched(["gone"] + ["broken"] * 20)
    with pytest.raises(ServingError, match="failed again after 4 restarts: broken"):
        supervisor.run(server.stop_event)
    assert server.calls == ["stop", "start"] * 4
    assert [wait for wait in server.stop_event.waits if wait >= 1] == [1, 2, 4, 4]
    assert lines.count("The restart failed: still broken") == 4


def test_old_restarts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 500))
    monkeypatch.setattr(supervisor_module.time, "monotonic", lambda: float(next(clock)))
    server, lines, supervisor = watched(["gone", "gone", None] * 8)
    supervisor.run(server.stop_event)
    assert server.calls == ["stop", "start"] * 8
    assert all("restart 1 of" in line or "restart 2 of" in line for line in lines[::2])


def test_stop_during_a_pause_prevents_the_restart() -> None:
    server, _, supervisor = watched(["gone", "gone"])
    supervisor.run(server.stop_event)
    assert server.calls == ["stop"]
