"""When the supervisor loads a model anew, when it restarts the server, how long it pauses, and when it gives up."""

import threading

import pytest

from common.errors import ServingError
from common.serving import supervisor as supervisor_module
from common.serving.supervisor import RestartPolicy, Supervisor

POLICY = RestartPolicy(probe_seconds=0, patience=2, first_pause=1, longest_pause=4, maximum=4)


class FakeServer:
    """Gives its outages and its sick and dead models in order, then stops the supervisor."""

    def __init__(self, *, outages=(), sick=(), dead=(), broken=0, incurable=False) -> None:
        self.outages, self.illnesses, self.deaths = list(outages), list(sick), list(dead)
        self.broken, self.incurable = broken, incurable
        self.calls, self.stop_event = [], FakeEvent()

    def outage(self) -> str | None:
        return self.outages.pop(0) if self.outages else None

    def dead(self) -> dict[str, str]:
        return self.deaths.pop(0) if self.deaths else {}

    def sick(self) -> dict[str, str]:
        answer = self.illnesses.pop(0) if self.illnesses else {}
        if not (self.illnesses or self.outages or self.deaths):
            self.stop_event.set()
        return answer

    def heal(self, model: str, timeout: float = 30.0) -> float:
        self.calls.append(model)
        if self.incurable:
            raise ServingError("no answer")
        return 2.0

    def stop(self, seconds: float = 15.0) -> None:
        self.calls.append("stop")

    def start(self) -> None:
        self.calls.append("start")

    def wait_ready(self, timeout: float = 60.0) -> float:
        self.broken -= 1
        if self.broken >= 0:
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


def watched(**facts) -> tuple[FakeServer, list[str]]:
    server, lines = FakeServer(**facts), []
    Supervisor(server, lines.append, POLICY).run(server.stop_event)
    return server, lines


def test_one_slow_answer_is_no_illness() -> None:
    server, lines = watched(sick=[{}, {"slow": "no answer"}, {}, {"slow": "no answer"}, {"other": "no answer"}, {}])
    assert server.calls == []
    assert lines == []


def test_a_sick_model_is_loaded_anew_and_the_server_is_not_restarted() -> None:
    server, lines = watched(sick=[{}, {"ssd_model": "gone"}, {"ssd_model": "gone"}, {}])
    assert server.calls == ["ssd_model"]
    assert lines == [
        "ssd_model does not serve (gone); it is loaded anew.",
        "ssd_model serves again after 2.0 s.",
    ]


def test_a_dead_process_needs_no_second_opinion() -> None:
    server, _ = watched(dead=[{}, {"ssd_model": "process 7 of ssd_model has ended"}], sick=[{}])
    assert server.calls == ["ssd_model"]


def test_a_model_that_dies_again_and_again_waits_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    server, lines = FakeServer(dead=[{"ssd_model": "gone"}] * 30, incurable=True), []
    monkeypatch.setattr(supervisor_module.time, "monotonic", lambda: sum(server.stop_event.waits))
    Supervisor(server, lines.append, POLICY).run(server.stop_event)
    assert server.calls == ["ssd_model"] * 5  # in 15 s: after 0.5, 1.5, 3.5, 7.5 and 11.5; the others go on
    assert lines.count("ssd_model is still sick: no answer") == 5


def test_what_stands_before_the_server_is_looked_after() -> None:
    server, lines = FakeServer(sick=[{}, {}, {}]), []
    told = iter([None, "The proxy stands again."])
    Supervisor(server, lines.append, POLICY, mend=lambda: next(told, None)).run(server.stop_event)
    assert lines == ["The proxy stands again."]
    assert server.calls == []


def test_an_ended_server_is_restarted() -> None:
    server, lines = watched(outages=[None, "gone"], sick=[{}])
    assert server.calls == ["stop", "start"]
    assert lines == [
        "The server does not serve (gone); restart 1 of at most 4 in 1 s.",
        "The server serves again after 1.0 s.",
    ]


def test_pauses_grow_to_a_cap_and_restarts_end() -> None:
    server, lines = FakeServer(outages=["gone"], broken=20), []
    with pytest.raises(ServingError, match="failed again after 4 restarts: gone"):
        Supervisor(server, lines.append, POLICY).run(server.stop_event)
    assert server.calls == ["stop", "start"] * 4
    assert [wait for wait in server.stop_event.waits if wait >= 1] == [1, 2, 4, 4]
    assert lines.count("The restart failed: still broken") == 4


def test_old_restarts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1_000_000, 500))
    monkeypatch.setattr(supervisor_module.time, "monotonic", lambda: float(next(clock)))
    server, lines = watched(outages=["gone", None] * 8)
    assert server.calls == ["stop", "start"] * 8
    assert all("restart 1 of" in line or "restart 2 of" in line for line in lines[::2])


def test_stop_during_a_pause_prevents_the_restart() -> None:
    server = FakeServer(outages=["gone"])
    server.stop = lambda seconds=15.0: server.stop_event.set()  # type: ignore[method-assign]
    Supervisor(server, lambda line: None, POLICY).run(server.stop_event)
    assert server.calls == []
