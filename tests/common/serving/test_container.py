"""What servers are started with, as text: the local one and the container."""

import itertools
import socket
from pathlib import Path

import pytest

from common.errors import ServingError
from common.serving.container import container_command
from common.serving.payload import Payload
from common.serving.server import RESTRICTED, LocalServer, Ports


def local(tmp_path: Path) -> LocalServer:
    return LocalServer(
        tmp_path / "models", Payload(tmp_path / "triton"), tmp_path / "log", Ports(http=1, grpc=2, metrics=3)
    )


def test_local_server_is_closed_to_the_world(tmp_path: Path) -> None:
    server = local(tmp_path)
    arguments = dict(argument.lstrip("-").partition("=")[::2] for argument in server.command()[1:])
    assert [arguments[f"{name}-address"] for name in ("http", "grpc", "metrics")] == ["127.0.0.1"] * 3
    assert arguments["model-control-mode"] == "poll"
    assert arguments["strict-readiness"] == arguments["exit-on-error"] == "true"
    for protocol in ("http-restricted-api", "grpc-restricted-protocol"):
        apis, _, key = arguments[protocol].partition(":")
        assert set(apis.split(",")) == {"model-repository", "model-config", "shared-memory", "trace", "logging"}
        assert key == "Closed=to\n\nall"
    server.workspace.close()


def test_container_is_unprivileged_and_on_loopback(tmp_path: Path) -> None:
    command = container_command("image:tag", tmp_path)
    assert command[:2] == ["docker", "run"]
    before, after = command[: command.index("image:tag")], command[command.index("image:tag") + 1 :]
    pairs = list(itertools.pairwise(before))
    for pair in (
        ("--gpus", "all"),
        ("--user", "1000:1000"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--memory", "8g"),
        ("--memory-swap", "8g"),
        ("--pids-limit", "2048"),
        ("--log-opt", "max-size=10m"),
        ("--log-opt", "max-file=5"),
        ("--tmpfs", "/tmp:mode=1777,size=1g"),
        ("--publish", "127.0.0.1:8000:8000"),
        ("--publish", "127.0.0.1:8001:8001"),
        ("--publish", "127.0.0.1:8002:8002"),
        ("--mount", f"type=bind,source={tmp_path},target=/models,readonly"),
    ):
        assert pair in pairs
    assert "--read-only" in before
    assert after[:2] == ["tritonserver", "--model-repository=/models"]
    assert "--model-control-mode=none" in after
    assert f"--http-restricted-api={RESTRICTED}:Closed=to\n\nall" in after
    odd = container_command("image:tag", tmp_path / "a:b,c")
    assert f'type=bind,"source={tmp_path}/a:b,c",target=/models,readonly' in odd
    assert "--gpus" not in container_command("image:tag", tmp_path, gpus="")


def test_free_ports_differ_and_a_taken_one_is_refused() -> None:
    ports = Ports().chosen()
    assert len({ports.http, ports.grpc, ports.metrics}) == 3
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"Port {number}, wanted for gRPC, is taken by .*process"):
            Ports(grpc=number).chosen()


def test_a_missing_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no Triton server"):
        local(tmp_path).start()
