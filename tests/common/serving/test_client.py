"""The client's arrays, retries and errors, on a connection that answers what the test says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from common.serving import client as client_module
from common.serving.client import KEY_VARIABLE, Client, address
from common.serving.encoded import padded
from common.serving.front import Front
from common.serving.problems import (
    ForbiddenError,
    InvalidRequestError,
    OverloadedError,
    RequestTimeoutError,
    ServerDownError,
    ServerFaultError,
    UnknownModelError,
    WrongPortError,
    explain,
)
from common.serving.server import Ports
from tests.common.serving.colours import picture


class FakeConnection:
    """Answers the first calls with the given errors, then with the given outputs."""

    def __init__(self, errors: list[Exception], outputs: dict[str, np.ndarray] | None = None) -> None:
        self.errors, self.outputs, self.sent = errors, outputs or {}, []

    def infer(self, model: str, tensors: list[Any], **options: Any) -> Any:
        self.sent.append(([(tensor.name(), tensor.shape(), tensor.datatype()) for tensor in tensors], options))
        if self.errors:
            raise self.errors.pop(0)
        response = {"outputs": [{"name": name} for name in self.outputs]}
        return SimpleNamespace(get_response=lambda: response, as_numpy=self.outputs.__getitem__)

    def get_model_metadata(self, model: str, **_: Any) -> dict[str, Any]:
        return {
            "inputs": [
                {"name": "encoded", "datatype": "UINT8", "shape": ["-1", "-1"]},
                {"name": "extra", "datatype": "FP32", "shape": [-1, 3]},
            ],
            "outputs": [{"name": "scores"}],
        }

    def close(self) -> None:
        pass


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    return slept


def connected(errors: list[Exception], outputs: dict[str, np.ndarray] | None = None, **options: Any) -> Client:
    client = Client("127.0.0.1:9", headers={"who": "me"}, **options)
    client.close()
    client._connection = FakeConnection(errors, outputs)
    return client


def refused(status: str, message: str) -> InferenceServerException:
    return InferenceServerException(message, status)


def test_infer_gives_every_output() -> None:
    outputs = {"scores": np.ones((2, 3), np.float32), "other": np.zeros((2, 1))}
    client = connected([], outputs)
    answer = client.infer("model", {"images": np.zeros((2, 4), np.float16)})
    assert answer.keys() == outputs.keys()
    tensors, options = client._connection.sent[0]
    assert tensors == [("images", [2, 4], "FP16")]
    assert options["headers"] == {"who": "me"}
    with pytest.raises(InvalidRequestError, match="images is complex64"):
        client.infer("model", {"images": np.zeros((2, 4), np.complex64)})


def test_readiness_is_an_inference() -> None:
    client = connected([refused("500", "Stub process is not healthy.")], {"scores": np.zeros((1, 3))})
    assert not client.ready("model")
    assert client.ready("model")
    tensors, _ = client._connection.sent[-1]
    assert [name for name, _, _ in tensors] == ["encoded", "extra"]
    assert tensors[1] == ("extra", [1, 3], "FP32")


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "refused"), refused("503", "Exceeds maximum queue size")]
)
def test_retries_pause_longer_each_time(pauses: list[float], error: Exception) -> None:
    client = connected([error, error, error], {"scores": np.zeros((1, 3))}, retries=3)
    client.infer("model", {"x": np.zeros((1, 1), np.float32)})
    assert len(client._connection.sent) == 4
    for attempt, pause in enumerate(pauses):
        assert 0.05 * 2**attempt <= pause <= 0.15 * 2**attempt


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused("400", "unexpected shape"), InvalidRequestError),
        (refused("StatusCode.INVALID_ARGUMENT", "unexpected shape"), InvalidRequestError),
        (refused("500", "Stub process is not healthy."), ServerFaultError),
        (TimeoutError("timed out"), RequestTimeoutError),
    ],
)
def test_nothing_else_is_repeated(pauses: list[float], error: Exception, expected: type[Exception]) -> None:
    client = connected([error, error])
    with pytest.raises(expected):
        client.infer("model", {"x": np.zeros((1, 1), np.float32)})
    assert len(client._connection.sent) == 1
    assert not pauses


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "Schlüssel"])
def test_a_key_that_no_header_carries_is_told(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    for begin in (lambda: Client("127.0.0.1:9"), lambda: Front(Ports(http=1, grpc=2), nginx=Path("/x"))):
        with pytest.raises(InvalidRequestError) as caught:
            begin()
        assert key not in str(caught.value)


def test_retries_end(pauses: list[float]) -> None:
    client = connected([ConnectionRefusedError(111, "refused")] * 9, retries=2)
    with pytest.raises(ServerDownError, match="kit serve"):
        client.infer("model", {"x": np.zeros((1, 1), np.float32)})
    assert len(client._connection.sent) == 3


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (refused("404", "Request for unknown model: 'm' is not found"), UnknownModelError, "no model m"),
        (refused("StatusCode.NOT_FOUND", "Request for unknown model"), UnknownModelError, "no model m"),
        (refused("403", "This API is restricted, expecting header 'admin-key'"), ForbiddenError, "key"),
        (refused("StatusCode.UNAVAILABLE", "This protocol is restricted, expecting header"), ForbiddenError, "key"),
        (refused("StatusCode.UNAVAILABLE", "in ensemble, Exceeds maximum queue size"), OverloadedError, "overloaded"),
        (refused("503", "Request timeout expired"), OverloadedError, "overloaded"),
        (refused("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded"), RequestTimeoutError, "within 7 s"),
        (refused("StatusCode.UNAVAILABLE", "failed to connect to all addresses"), ServerDownError, "No server"),
        (refused("500", "failed to parse the request JSON buffer"), InvalidRequestError, "refused"),
        (refused("500", "the engine failed"), ServerFaultError, "failed with 500"),
        (refused("500", "[request id: <id_unknown>] the engine failed"), ServerFaultError, "500: the engine failed"),
        (ValueError("odd"), ServerFaultError, "proper answer"),
        (refused("404", "client received an empty response from the server."), WrongPortError, "--protocol grpc"),
        (
            refused(
                "StatusCode.UNAVAILABLE",
                "failed to connect to all addresses; last error: INTERNAL: ipv4:127.0.0.1:9: Failed parsing HTTP/2 "
                "(Expected SETTINGS frame as the first frame) (Trying to connect an http1.x server (HTTP status 400))",
            ),
            WrongPortError,
            "--protocol http",
        ),
    ],
)
def test_every_failure_has_its_kind(error: Exception, expected: type[Exception], words: str) -> None:
    problem = explain(error, "m", "127.0.0.1:9", 7.0)
    assert type(problem) is expected
    assert words in str(problem)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("HTTP://server.example:80", "server.example:80"),
        ("grpc://[::1]:8001", "[::1]:8001"),
    ],
)
def test_addresses_as_people_write_them(given: str, expected: str) -> None:
    assert address(given) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://127.0.0.1:8000", "plain HTTP and gRPC"),
        ("127.0.0.1", "no HOST:PORT"),
        ("http://127.0.0.1:99999", "no HOST:PORT"),
        ("http://127.0.0.1:8000/v2/models", "no HOST:PORT"),
        ("http://me@host:8000", "no HOST:PORT"),
        ("", "no HOST:PORT"),
    ],
)
def test_addresses_that_cannot_be_are_told(given: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        Client(given)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_no_server(protocol: Any) -> None:
    with Client("127.0.0.1:9", protocol, timeout=2, retries=0) as client:
        assert not client.ready("model")
        with pytest.raises(ServerDownError):
            client.infer("model", {"encoded": padded([picture("red")])})
