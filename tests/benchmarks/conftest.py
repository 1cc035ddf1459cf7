"""What several benchmarks' tests need."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module")
def keep_threads() -> Iterator[None]:
    """Threads of torch as they were before, however many a benchmark set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
