"""One real server for all tests marked `serving`, and the module that Triton's Python stub offers."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from common.serving.payload import DEFAULT_FOLDER, Payload
from common.serving.server import LocalServer
from tests.common.serving.colours import FakeTensor, write_repository


@pytest.fixture(scope="session")
def payload() -> Payload:
    """The unpacked server: $CHALLENGE_KIT_TRITON, else `.triton` in the checkout; skipped where absent."""
    payload = Payload(Path(os.environ.get("CHALLENGE_KIT_TRITON", DEFAULT_FOLDER)))
    if not payload.is_installed():
        pytest.skip("no Triton server: python -m common.serving.payload")
    return payload


@pytest.fixture(scope="session")
def server(payload: Payload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A ready server with `colours` and `slow`."""
    folder = tmp_path_factory.mktemp("serving")
    repository = write_repository(folder / "repository", folder)
    with LocalServer(repository.path, payload, folder / "server.log") as server:
        server.wait_ready()
        yield server


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that Triton's Python stub offers, so that the backends run in this process."""
    module = ModuleType("triton_python_backend_utils")

    class TritonError(Exception):
        INVALID_ARG, INTERNAL = "INVALID_ARG", "INTERNAL"

        def __init__(self, message: str, code: str) -> None:
            super().__init__(message)
            self.code = code

    module.TritonError = TritonError  # type: ignore[attr-defined]
    module.TritonModelException = RuntimeError  # type: ignore[attr-defined]
    module.Tensor = FakeTensor  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = lambda request, name: FakeTensor(name, request[name])  # type: ignore[attr-defined]
    module.InferenceResponse = lambda tensors=(), error=None: SimpleNamespace(  # type: ignore[attr-defined]
        outputs={tensor.name: tensor.owner for tensor in tensors}, error=error
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    for name in [name for name, loaded in sys.modules.items() if "pb_utils" in getattr(loaded, "__dict__", {})]:
        monkeypatch.delitem(sys.modules, name)
    return module
