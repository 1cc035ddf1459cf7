"""The health check against a server of a few lines that speaks Triton's protocol."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from containers import ready

IMAGE_INPUT = {"name": "encoded", "datatype": "UINT8", "shape": [-1, -1]}
ENSEMBLE = (
    'name: "photos"\nensemble_scheduling { step { model_name: "photos_model" } step { model_name: "photos_check" } }'
)


class FakeTriton(ThreadingHTTPServer):
    """Answers every inference with `status` and `body`, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body = 200, {"outputs": [{"name": "logits"}]}
        self.inputs = [IMAGE_INPUT]
        self.requests: list[tuple[str, dict, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeTriton

    def do_GET(self) -> None:
        self._answer(200, {"inputs": self.server.inputs})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        split = int(self.headers["Inference-Header-Content-Length"])
        self.server.requests.append((self.path, json.loads(body[:split]), body[split:]))
        self._answer(self.server.status, self.server.body)

    def _answer(self, status: int, value: dict) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    server = FakeTriton()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def repository(tmp_path):
    for name, text in {"photos": ENSEMBLE, "photos_model": 'name: "photos_model"', "photos_check": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text(text)
    return tmp_path


def check(monkeypatch, url, repository) -> int:
    arguments = ["ready.py", "--url", url, "--repository", str(repository), "--timeout", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    return ready.main()


def test_the_models_that_clients_call_are_asked(monkeypatch, triton, repository):
    assert ready.offered_models(repository) == ["photos"]
    assert check(monkeypatch, triton.url, repository) == 0
    path, header, body = triton.requests[0]
    assert path == "/v2/models/photos/infer"
    assert header["inputs"][0]["shape"] == [1, len(body)]
    assert body.startswith(b"\x89PNG")


def test_the_example_is_an_image(tmp_path):
    (tmp_path / "example.png").write_bytes(ready.example_image())
    with Image.open(tmp_path / "example.png") as image:
        image.load()
        assert (image.size, image.mode) == ((64, 64), "L")


@pytest.mark.parametrize(
    ("datatype", "shape", "sizes", "length"),
    [("FP32", [-1, 3, 8, 8], [1, 3, 8, 8], 768), ("INT64", [-1, 2], [1, 2], 16), ("BYTES", [-1, 1], [1, 1], 4)],
)
def test_other_tensors_get_zeros(datatype, shape, sizes, length):
    assert ready.example("x", datatype, shape) == (sizes, bytes(length))


def test_a_dead_stub_is_unhealthy(monkeypatch, triton, repository, capsys):
    triton.status, triton.body = 500, {"error": "Stub process 'photos_check_0_0' is not healthy."}
    assert check(monkeypatch, triton.url, repository) == 1
    assert "photos answers 500" in capsys.readouterr().err


def test_a_busy_server_is_not_restarted(monkeypatch, triton, repository):
    triton.status, triton.body = 503, {"error": "in ensemble 'photos', Exceeds maximum queue size"}
    assert check(monkeypatch, triton.url, repository) == 0


def test_another_503_is_unhealthy(monkeypatch, triton, repository):
    triton.status, triton.body = 503, {"error": "model is unloading"}
    assert check(monkeypatch, triton.url, repository) == 1


def test_no_server_and_no_model_are_unhealthy(monkeypatch, repository, tmp_path_factory, capsys):
    assert check(monkeypatch, "http://127.0.0.1:9", repository) == 1
    assert "does not answer" in capsys.readouterr().err
    assert check(monkeypatch, "http://127.0.0.1:9", tmp_path_factory.mktemp("empty")) == 1
    assert "no model" in capsys.readouterr().err
