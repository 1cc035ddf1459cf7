"""A real Triton: pictures in, names out; bad requests, overload, killed processes."""

import http.client
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from challenges.classification.serving import asking
from common.errors import ServingError
from common.serving.client import Protocol
from common.serving.encoded import padded
from common.serving.load import LoadGenerator, LoadPlan
from common.serving.payload import Payload
from common.serving.problems import (
    InvalidRequestError,
    OverloadedError,
    UnknownModelError,
)
from common.serving.repository import Exported, ModelRepository
from common.serving.server import LocalServer, Ports
from common.serving.statistics import counted_since, read_counts
from tests.common.serving.colours import COLOURS, SIGNATURE, colour_model, picture

pytestmark = pytest.mark.serving
PARTS = ("colours_check", "colours_preprocessing", "colours_model")
WHOLE = picture("red", kind="PNG")
UNDECODABLE = WHOLE[:60] + b"0123456789" + WHOLE[70:]
"""A PNG whose header and end are right and whose compressed pixels are damaged."""


def in_parallel(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results or kit errors, in order; every call in a thread of its own."""

    def caught(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ServingError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(caught, calls))


def classify(server: LocalServer, image: bytes, protocol: Protocol = "grpc") -> Any:
    with server.client(protocol, retries=0) as client:
        return asking.classify(client, "colours", [image], top_k=1)[0][0][0]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_pictures_in_names_out(server: LocalServer, protocol: Protocol, tmp_path: Path) -> None:
    (tmp_path / "blue.png").write_bytes(picture("blue", 64, 48, kind="PNG"))
    with server.client(protocol) as client:
        answers = asking.classify(client, "colours", [tmp_path / "blue.png", picture("red"), picture("green")], batch=2)
        assert [answer[0][0] for answer in answers] == ["blue", "red", "green"]
        assert [len(answer) for answer in answers] == [3, 3, 3]
        scores = client.infer("colours", {"encoded": padded([picture("red")])})["scores"]
        assert scores.shape == (1, 3)
        assert dict(answers[1])["red"] == pytest.approx(scores[0, 0], abs=1e-5)


def test_requests_of_different_length_share_batches(server: LocalServer) -> None:
    colours = [COLOURS[number % 3] for number in range(24)]
    images = [picture(colour, 100 + 7 * number) for number, colour in enumerate(colours)]
    with server.client() as client:
        before = read_counts(client, PARTS)
        assert in_parallel([lambda image=image: classify(server, image) for image in images]) == colours
        for model, happened in counted_since(client, before, len(images)).items():
            assert happened["requests"] == 24
            if model != "colours_check":
                assert happened["mean_batch"] > 1.2, (model, happened)


def test_a_bad_image_fails_alone(server: LocalServer) -> None:
    images = [picture("red"), UNDECODABLE, picture("blue"), b"not an image", picture("green")] * 3
    answers = in_parallel([lambda image=image: classify(server, image) for image in images])
    for image, answer in zip(images, answers, strict=True):
        if image in (UNDECODABLE, b"not an image"):
            assert isinstance(answer, InvalidRequestError)
            assert "image 1 of 1" in str(answer)
        else:
            assert answer in COLOURS


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_mistakes_have_names(server: LocalServer, protocol: Protocol) -> None:
    images = np.zeros((1, 3, 224, 224), np.float32)
    with server.client(protocol, retries=0) as client:
        for inputs, words in (
            ({"images": images.astype(np.float64)}, "FP64"),
            ({"images": images[..., :-1]}, "unexpected shape"),
            ({"images": np.repeat(images, 9, 0)}, "batch-size must be <= 8"),
            ({"pictures": images}, "pictures"),
        ):
            with pytest.raises(InvalidRequestError, match=words):
                client.infer("colours_model", inputs)
        bomb = picture("red", 10_000, 10_000, kind="PNG")
        with pytest.raises(InvalidRequestError, match="10000 x 10000 pixels"):
            asking.classify(client, "colours", [bomb])
        with pytest.raises(UnknownModelError, match="no model colors"):
            asking.classify(client, "colors", [picture("red")])
        assert asking.classify(client, "colours", [picture("red")], top_k=1)[0][0][0] == "red"


def test_administration_is_closed_to_all(server: LocalServer) -> None:
    for method, path in (
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/colours/unload"),
        ("GET", "/v2/models/colours/config"),
        ("POST", "/v2/logging"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/cudasharedmemory/status"),
    ):
        for headers in ({}, {"closed": "to all"}, {"Closed": "to\n\tall"}, {"Closed": "to%0A%0Aall"}):
            assert refused(server, method, path, headers)
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")  # gRPC listens on the same address in its IPv6 form
        for connection in psutil.Process(server.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def refused(server: LocalServer, method: str, path: str, headers: dict[str, str]) -> bool:
    """Whether the answer is no; where a header cannot be read, the connection ends without one."""
    try:
        return http_request(server, method, path, b"", headers)[0] in (400, 403)
    except http.client.RemoteDisconnected:
        return True


def http_request(
    server: LocalServer, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.http, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_a_full_queue_refuses_at_once(server: LocalServer) -> None:
    def ask() -> tuple[float, Any]:
        started = time.monotonic()
        with server.client("grpc", retries=0) as client:
            try:
                client.infer("slow", {"value": np.ones((1, 1), np.float32)})
            except OverloadedError as error:
                return time.monotonic() - started, error
        return time.monotonic() - started, None

    answers = in_parallel([ask] * 12)
    refused = [seconds for seconds, error in answers if error]
    served = [seconds for seconds, error in answers if not error]
    assert 3 <= len(served) <= 6  # one or two at work, two waiting, and places that become free meanwhile
    assert len(refused) == 12 - len(served)
    assert np.median(refused) < np.median(served) / 2


def test_load_record(server: LocalServer) -> None:
    batches = [{"encoded": padded([picture(colour)])} for colour in COLOURS]
    generator = LoadGenerator(server.url("http"), "http", "colours", batches, PARTS, memory_bytes=server.memory_bytes)
    record = generator.run(LoadPlan(concurrencies=(1, 4), rates=(20.0,), seconds=1.0, warmup_seconds=0.2))
    assert [step["mode"] for step in record["steps"]] == ["closed", "closed", "open"]
    for step in record["steps"]:
        assert step["errors"] == {}
        assert step["requests"] > 5
        assert 0 < step["latency_ms"]["p50"] <= step["latency_ms"]["p99"]
        assert step["models"]["colours_model"]["requests"] >= step["requests"]
        assert step["server_memory_mb"]["after"] > 50


def test_a_taken_port_is_named_before_the_start(server: LocalServer, tmp_path: Path) -> None:
    other = LocalServer(server.repository, server.payload, tmp_path / "log", Ports(http=server.ports.http))
    with pytest.raises(ServingError, match=f"Port {server.ports.http}, wanted for HTTP, is taken by tritonserver"):
        other.start()
    assert other.process is None


def test_an_empty_repository_is_refused(payload: Payload, tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="no model"):
        LocalServer(tmp_path, payload, tmp_path / "log").start()


def test_a_corrupt_engine_stops_the_start_with_its_name(payload: Payload, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx.ModelProto.SerializeToString(colour_model())[:40])
    broken = Exported(artefact=tmp_path / "model.onnx", signature=SIGNATURE, engine="onnxruntime")
    ModelRepository(tmp_path / "repository").add("colours", broken)
    server = LocalServer(tmp_path / "repository", payload, tmp_path / "log")
    with server, pytest.raises(ServingError, match=r"cannot load .*model\.onnx"):
        server.wait_ready()


def stubs(server: LocalServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def runs_model(process: psutil.Process, model: str) -> bool:
    return any(f"/{model}/" in argument for argument in process.cmdline())


def test_raw_bytes_instead_of_http(server: LocalServer) -> None:
    """Noise on either port is answered or dropped, and hurts nobody else."""
    generator = np.random.default_rng(0)
    for port in (server.ports.http, server.ports.grpc):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(generator.bytes(200) + b"\r\n\r\n")
    assert classify(server, picture("red"), "http") == "red"
