"""Each model of the registry, in turn: adding one adds no line to a contract."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from challenges.registry import MODELS
from common.challenge import Trained
from common.run.run_directory import RunDirectory
from tests.contracts.line import Line


@pytest.fixture(scope="session", autouse=True)
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of generated samples for each process of this session: two would wait for each other's checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path_factory.mktemp("contracts-cache")))
        yield


@pytest.fixture(scope="session")
def line_of(tmp_path_factory: pytest.TempPathFactory, sample_cache: None) -> Callable[[str], Line]:
    """A model's line, the same for whoever asks."""
    return cache(lambda model: Line.of(model, tmp_path_factory.mktemp(model)))


@pytest.fixture(scope="session", params=MODELS)
def line(request: pytest.FixtureRequest, line_of: Callable[[str], Line]) -> Line:
    return line_of(request.param)


@pytest.fixture(scope="session")
def run(line: Line) -> RunDirectory:
    return line.run


@pytest.fixture(scope="session")
def trained(line: Line) -> Trained:
    return line.trained


@pytest.fixture(scope="session")
def graph(line: Line) -> Path:
    return line.graph
