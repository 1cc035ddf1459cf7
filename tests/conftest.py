"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: $KIT_TEST_DATA, else `shared/data` beside the checkout; skipped where absent."""
    folder = Path(os.environ.get("KIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set KIT_TEST_DATA to run this test")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run where torch finds a GPU: `python -m pytest -m gpu`."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: python -m pytest -m gpu"))
