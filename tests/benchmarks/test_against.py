"""Two commits' training steps in turns: a slower one is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.against import ALLOWED, AgainstError, Verdict, compare, worktree
from benchmarks.measure import Ratio
from common.machine.environment import ROOT


@pytest.mark.parametrize(
    ("interval", "slower", "word"),
    [((0.90, 0.94), True, "slower"), ((0.97, 0.99), False, "no slower"), ((1.05, 1.09), False, "faster")],
)
def test_the_interval_decides(interval, slower, word):
    verdict = Verdict(Ratio(median=sum(interval) / 2, interval=interval, pairs=20))
    assert verdict.slower is slower
    assert str(verdict).startswith(f"{word}: ")
    assert verdict.seen == pytest.approx(ALLOWED + (interval[1] - interval[0]) / 2)


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


def test_what_is_no_commit_is_refused(checkout: Path):
    with pytest.raises(AgainstError, match="no commit of this checkout"), worktree("--nonsense", checkout):
        pass


def test_another_commits_files_go_with_the_block(checkout: Path):
    with worktree("HEAD", checkout) as other:
        assert (other / "benchmarks" / "against.py").is_file()
    assert not other.exists()
    left = subprocess.run(["git", "-C", str(checkout), "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(left.stdout.splitlines()) == 1


@pytest.mark.slow
def test_a_planted_sleep_is_told(checkout: Path):
    file, planted = checkout / "benchmarks" / "throughput.py", "    def __call__(self, batch: Batch) -> int:\n"
    text = file.read_text()
    assert planted in text
    file.write_text(text.replace(planted, f"{planted}        import time\n\n        time.sleep(0.02)\n"))
    assert compare("ncf", "HEAD", rounds=5, seconds=0.2, tree=checkout).slower
