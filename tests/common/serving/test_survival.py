"""Killed processes: nothing is left of a server whose supervisor dies, and one dead stub is one model's matter."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from challenges.classification.serving import asking
from common.serving import watchdog
from common.serving.payload import Payload
from common.serving.server import LocalServer
from common.serving.supervisor import RestartPolicy, Supervisor
from common.serving.workspace import SAFE_PATH, Workspace
from tests.common.serving.colours import picture, write_repository

OWNER = """
import sys, time
from pathlib import Path
from common.serving.payload import Payload
from common.serving.server import LocalServer
with LocalServer(Path(sys.argv[1]), Payload(Path(sys.argv[2])), Path(sys.argv[3])) as server:
    server.wait_ready()
    print(server.workspace.name, server.ports.http, server.ports.grpc, server.ports.metrics, flush=True)
    time.sleep(60)
"""
POLICY = RestartPolicy(tick_seconds=0.2, probe_seconds=0.5, first_pause=0.1)


def wait_for(condition: Callable[[], object], seconds: float = 10) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture
def supervised(payload: Payload, tmp_path: Path) -> Iterator[tuple[LocalServer, list[str]]]:
    """A served repository under supervision, and what the supervisor says."""
    lines: list[str] = []
    stop = threading.Event()
    repository = write_repository(tmp_path / "repository", tmp_path)
    with LocalServer(repository.path, payload, tmp_path / "log") as server:
        server.wait_ready()
        thread = threading.Thread(target=Supervisor(server, lines.append, POLICY).run, args=(stop,))
        thread.start()
        try:
            yield server, lines
        finally:
            stop.set()
            thread.join(60)


def stub_of(server: LocalServer, model: str) -> psutil.Process:
    return next(process for process, owner in server.health.stubs.items() if owner == model)


def classify(server: LocalServer, colour: str) -> str:
    with server.client(retries=0) as client:
        return asking.classify(client, "colours", [picture(colour)], top_k=1)[0][0][0]


@pytest.mark.serving
def test_a_dead_stub_is_one_model_s_matter(supervised: tuple[LocalServer, list[str]]) -> None:
    server, lines = supervised
    process = server.process
    stub_of(server, "colours_model").kill()
    killed, problems = time.monotonic(), []
    assert server.health.ask("colours", 5.0) is not None
    while server.health.ask("colours", 5.0) is not None:
        problems.append(server.health.ask("slow", 5.0))
        assert time.monotonic() - killed < 10
    assert not any(problems)
    wait_for(lambda: len(lines) == 2)
    assert "colours_model does not serve (process" in lines[0]
    assert "colours_model serves again" in lines[1]
    assert server.process is process
    assert classify(server, "green") == "green"


@pytest.mark.serving
def test_a_slow_model_is_not_restarted_and_an_ended_server_is(
    supervised: tuple[LocalServer, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lines = supervised
    monkeypatch.setattr(server.health, "patience", lambda model: 0.2)  # a half to a fifth of what an answer takes
    time.sleep(3)
    assert lines == []
    assert server.health.stuck.keys() <= {"slow"}
    monkeypatch.undo()
    ports = server.ports
    os.kill(server.process.pid, signal.SIGKILL)
    wait_for(lambda: len(lines) == 2, 20)
    assert "the server process has ended" in lines[0]
    assert server.ports == ports
    assert classify(server, "blue") == "blue"


@pytest.mark.serving
def test_nothing_outlives_a_killed_owner(payload: Payload, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", tmp_path)
    arguments = [str(repository.path), str(payload.folder), str(tmp_path / "log")]
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True)
    name, *ports = owner.stdout.readline().split()
    assert len(list(watchdog.processes_of(name))) == 5  # the server and a stub for each of its four models
    owner.kill()
    owner.wait()

    def gone() -> bool:
        listening = {connection.laddr.port for connection in psutil.net_connections("inet") if not connection.raddr}
        return not (
            list(watchdog.processes_of(name))
            or list(watchdog.SHARED_MEMORY.glob(f"{name}_*"))
            or Path("/var/tmp", name).exists()
            or listening & set(map(int, ports))
        )

    assert wait_for(gone) < 5
    owner.stdout.close()


@pytest.mark.serving
def test_two_servers_on_one_repository(server: LocalServer, tmp_path: Path) -> None:
    with LocalServer(server.repository, server.payload, tmp_path / "log") as other:
        other.wait_ready()
        assert other.workspace.path != server.workspace.path
        assert classify(server, "red") == classify(other, "red") == "red"
        prefix = other.memory_prefix
        assert list(watchdog.SHARED_MEMORY.glob(f"{prefix}*"))
    assert not list(watchdog.SHARED_MEMORY.glob(f"{prefix}*"))
    assert classify(server, "blue") == "blue"


def test_the_workspace_has_a_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "My Photos").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "My Photos"))
    with Workspace() as workspace:
        assert SAFE_PATH.fullmatch(str(workspace.path))
        assert not list((tmp_path / "My Photos").iterdir())


def test_left_overs_go_and_what_is_held_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left = tmp_path / "challenge-kit-left"
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (left / "models").symlink_to(photographs)
    for foreign in (tmp_path / "challenge-kit-mine", tmp_path / "challenge-kit-cache"):
        foreign.mkdir(mode=0o700)
        (foreign / "photo.jpg").touch()
    with Workspace() as held, Workspace() as other:
        assert not left.exists()
        assert held.path.is_dir()
        assert other.path.is_dir()
        assert held.path.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "challenge-kit-cache",
        "challenge-kit-mine",
        "photographs",
    ]
