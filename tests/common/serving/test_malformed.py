"""A thousand malformed requests over both protocols: each is refused with a reason, and the server goes on."""

import json
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from common.serving.problems import PARSER_WORDS
from common.serving.server import LocalServer
from tests.common.serving.colours import picture
from tests.common.serving.test_server import http_request

pytestmark = pytest.mark.serving
INFER = "/v2/models/colours/infer"
HEADER = "Inference-Header-Content-Length"
GOOD = picture("red")
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "OUT_OF_RANGE"}


def body(data: bytes, tensor: dict[str, Any] | None = None, **request: Any) -> tuple[bytes, dict[str, str]]:
    """A request in Triton's binary form, with `tensor` and `request` overriding its JSON."""
    described = {"name": "encoded", "shape": [1, len(data)], "datatype": "UINT8"}
    described["parameters"] = {"binary_data_size": len(data)}
    text = json.dumps({"inputs": [described | (tensor or {})], **request}).encode()
    return text + data, {HEADER: str(len(text))}


def one_by_one() -> list[tuple[bytes, dict[str, str]]]:
    """A wrong thing each: types, shapes, sizes, names, headers, JSON."""
    tensors: list[dict[str, Any]] = [
        {"datatype": kind} for kind in ("FP32", "INT64", "BYTES", "BOOL", "FOO", "", 5, None)
    ]
    shapes: list[Any] = [[], [1], [0, 5], [9, 5], [1, 1, 5], [1, 2**62], [2**33, 2**33], [1, -5], [-1, -1], "x", None]
    tensors += [{"shape": shape} for shape in shapes]
    tensors += [{"name": name} for name in ("", "x", "ENCODED", "encoded ", 5, None)]
    tensors += [{"parameters": {"binary_data_size": size}} for size in (0, 4, 6, 10**12, -1, "5", None)]
    shared = {"shared_memory_region": "x", "shared_memory_byte_size": 5}
    tensors += [{"parameters": shared}, {"parameters": []}, {"parameters": {"binary_data_size": 5, "data": 1}}]
    requests = [body(b"12345", tensor) for tensor in tensors]
    requests += [body(GOOD, outputs=[{"name": name}]) for name in ("", "x", 5)]
    requests += [body(GOOD, outputs=[{"name": "scores", "parameters": {"classification": -1}}])]
    text, header = body(b"12345")
    requests += [(text, {HEADER: value}) for value in ("-1", "0", "1", "abc", str(10**9), str(2**70))]
    requests += [(text, header | {"Content-Encoding": coding}) for coding in ("gzip", "deflate", "br")]
    for raw in (
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b"[" * 500,
        b"\xff" * 100,
    ):
        requests += [(raw, {}), (raw, {HEADER: str(len(raw))})]
    for data in ([1, 2, 300, 4, 5], ["a"] * 5, [[1, 2], 3], {}, "12345", [1.5] * 5, list(range(4)), [-1] * 5):
        tensor = {"name": "encoded", "shape": [1, 5], "datatype": "UINT8", "data": data}
        requests.append((json.dumps({"inputs": [tensor]}).encode(), {}))
    return requests


def damaged_pictures(number: int) -> list[bytes]:
    """Files that are no whole image: cut, overwritten in the header, or of other kinds."""
    generator = np.random.default_rng(0)
    files = [b"a text, not an image", b"%PDF-1.7", b"GIF89a" + bytes(100), b"\0", bytes(1000), b"\xff\xd8\xff\xd9"]
    files.append(picture("red", 10_000, 10_000, kind="PNG"))
    while len(files) < number:
        kind = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")[len(files) % 5]
        whole = picture("green", 64, 48, kind=kind)
        files.append(whole[: generator.integers(1, len(whole) * 3 // 4)])
        files.append(generator.bytes(4) + whole[4:])
    return files


def test_http(server: LocalServer) -> None:
    requests = [(INFER, *request) for request in one_by_one()]
    requests += [(INFER, *body(data)) for data in damaged_pictures(860)]
    paths = (
        "/v2/models/nothing/infer",
        "/v2/models/colours/versions/7/infer",
        "/v2/models//infer",
        "/v2/models/..%2f/infer",
    )
    requests += [(path, *body(GOOD)) for path in (*paths, "/v2/models/colours/versions/x/infer", "/v9", "/")]
    assert len(requests) > 930
    for path, data, headers in requests:
        status, answer = http_request(server, "POST", path, data, headers)
        reason = json.loads(answer)["error"]
        assert reason
        by_the_parser = status in (500, 501) and any(words in reason.lower() for words in PARSER_WORDS)
        assert 400 <= status < 500 or by_the_parser, (status, reason, path, data[:200])
    assert http_request(server, "POST", INFER, *body(GOOD))[0] == 200


def test_grpc(server: LocalServer) -> None:
    requests = []
    for changes in (
        *({"datatype": kind} for kind in ("FP32", "BYTES", "BOOL", "FOO", "")),
        *({"shape": shape} for shape in ([], [1], [0, 5], [9, 5], [1, 1, 5], [1, 2**62], [1, -5], [-1, -1], [1, 50])),
        *({"name": name} for name in ("", "x")),
        *({"model": model} for model in ("", "nothing", "../colours")),
        *({"version": version} for version in ("7", "x", "-1")),
        {"raw": []},
        {"raw": [b"12345", b"12345"]},
        {"output": "x"},
    ):
        requests.append(grpc_request(b"12345", **changes))
    requests += [grpc_request(data) for data in damaged_pictures(60)]
    assert len(requests) > 80
    with grpc.insecure_channel(server.url("grpc")) as channel:
        service = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for request in requests:
            with pytest.raises(grpc.RpcError) as caught:
                service.ModelInfer(request, timeout=10)
            assert caught.value.code().name in REFUSALS, (caught.value, str(request)[:300])
            assert caught.value.details()
        assert service.ModelInfer(grpc_request(GOOD), timeout=10).outputs[0].name == "scores"


def grpc_request(data: bytes, **changes: Any) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(
        model_name=changes.get("model", "colours"), model_version=changes.get("version", "")
    )
    tensor = request.inputs.add(name=changes.get("name", "encoded"), datatype=changes.get("datatype", "UINT8"))
    tensor.shape.extend(changes.get("shape", [1, len(data)]))
    request.raw_input_contents.extend(changes.get("raw", [data]))
    if "output" in changes:
        request.outputs.add(name=changes["output"])
    return request
