"""Each model of the registry, in turn: adding one adds no line to a contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from challenges.registry import MODELS
from common.challenge import Trained
from common.export.onnx import export_onnx
from common.run.run_directory import RunDirectory
from common.stages.workflow import evaluate
from tests.contracts.line import CONSOLE, Line


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder of generated samples for all processes of this session."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if shared.name.startswith("popen-") else shared
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHALLENGE_KIT_CACHE", str(shared / "contracts-cache"))
        yield


@pytest.fixture(scope="session", params=MODELS)
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sample_cache: None) -> Line:
    return Line.of(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def run(line: Line) -> RunDirectory:
    """Trained and evaluated."""
    found = line.train("whole")
    evaluate(line.challenge, found, CONSOLE, device="cpu")
    return found


@pytest.fixture(scope="session")
def trained(line: Line, run: RunDirectory) -> Trained:
    return Trained.load(line.challenge, run)


@pytest.fixture(scope="session")
def graph(line: Line, trained: Trained) -> Path:
    """The model as an fp32 ONNX file."""
    signature = trained.task.signature()
    arrays, _ = next(iter(trained.inputs("val", signature.batch.optimum)))
    example = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return export_onnx(
        trained.task.inference_module().eval(), signature, line.folder / "model.fp32.onnx", example=example
    )
