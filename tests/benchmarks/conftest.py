"""What several benchmarks' tests need."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.machine.environment import ROOT


@pytest.fixture(scope="module")
def keep_threads() -> Iterator[None]:
    """Threads of torch as they were before, however many a benchmark set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with this tree's files in one commit."""
    tree = tmp_path / "tree"
    for folder in ("benchmarks", "challenges", "common"):
        shutil.copytree(
            ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "results", "outcomes")
        )
    shutil.copy(ROOT / "pyproject.toml", tree)
    git = ("git", "-C", str(tree), "-c", "user.name=x", "-c", "user.email=x@example.org")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        subprocess.run([*git, *command], check=True)
    return tree
