"""docs/adding-a-model.md, taken by its word: one more model in a copy of the tree, from made-up rows to an answer."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.serving.payload import DEFAULT_FOLDER, Payload

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-model.md").read_text()
BLOCKS = re.findall(r"^### `(\S+)`\n\n```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {path: text for path, kind, text in BLOCKS if kind != "diff"}
CHANGES = {path: text for path, kind, text in BLOCKS if kind == "diff"}
WALK, SERVE, ASK = re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
TREE = ("benchmarks", "challenges", "common", "containers", "docs", "locked", "tests", "README.md", "pyproject.toml")
READY_SECONDS = 300

pytestmark = pytest.mark.slow


def changed(text: str, change: str) -> str:
    """The text with a change's added lines after the line that it shows, which is there once."""
    shown = "".join(line[1:] for line in change.splitlines(keepends=True) if line[0] == " ")
    assert text.count(shown) == 1, shown
    return text.replace(shown, "".join(line[1:] for line in change.splitlines(keepends=True)))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with what the page says."""
    copy = tmp_path_factory.mktemp("copy")
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    for path, text in FILES.items():
        assert not (copy / path).exists()
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text)
    for path, change in CHANGES.items():
        (copy / path).write_text(changed((copy / path).read_text(), change))
    return copy


def started(tree: Path, line: str, **options: object) -> "subprocess.Popen[str]":
    """A command of the page; `kit` and the patterns of a shell are what they are in the tree."""
    kit, *words = line.split()
    assert kit == "kit"
    given = [str(found) for word in words for found in ([*tree.glob(word)] if "*" in word else [word])]
    return run_python(tree, "challenges", *given, **options)


def run_python(tree: Path, module: str, *arguments: str, **options: object) -> "subprocess.Popen[str]":
    triton = os.environ.get("CHALLENGE_KIT_TRITON", str(DEFAULT_FOLDER))
    surroundings = {**os.environ, "PYTHONPATH": str(tree), "CHALLENGE_KIT_CACHE": str(tree / "cache")}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(
        command, cwd=tree, env=surroundings | {"CHALLENGE_KIT_TRITON": triton}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


def told(process: "subprocess.Popen[str]") -> str:
    """What a command printed that must succeed."""
    printed, _ = process.communicate(timeout=READY_SECONDS)
    assert process.returncode == 0, printed
    return printed


def test_the_page_makes_one_touch_two_lines_of_what_is_there():
    added = [line for change in CHANGES.values() for line in change.splitlines() if line[0] == "+"]
    assert len(added) <= 2
    assert all(line[0] in "+ " for change in CHANGES.values() for line in change.splitlines())


def test_its_files_are_formatted_and_linted_as_the_tree_is(tree):
    for verb in (["format", "--check"], ["check"]):
        told(run_python(tree, "ruff", *verb, "challenges/numbers", "challenges/registry.py"))


def test_the_new_model_keeps_the_contracts_and_the_trees_shape(tree):
    printed = told(
        run_python(
            tree, "pytest", "tests/contracts", "tests/test_structure.py", "-p", "no:cacheprovider",
            "-k", "numbers or siblings or front_page or silent", "-m", "not serving",
        )
    )  # fmt: skip
    assert int(re.search(r"(\d+) passed", printed)[1]) > 15, printed


@pytest.fixture(scope="module")
def walked(tree: Path) -> str:
    return told(started(tree, WALK))


def test_it_walks_from_generated_rows_to_a_result(tree, walked):
    assert "RESULT" in walked
    assert "parity: serving" in walked
    (run,) = tree.glob("runs/numbers-demo-*")
    assert "Weights" in (run / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def address(tree: Path, walked: str) -> Iterator[str]:
    """Where the run is served."""
    if not Payload(Path(os.environ.get("CHALLENGE_KIT_TRITON", DEFAULT_FOLDER))).is_installed():
        pytest.skip("no Triton server: python -m common.serving.payload")
    process = started(tree, f"{SERVE} --http-port 0 --grpc-port 0 --metrics-port 0")
    try:
        printed = ""
        while "Try: " not in printed:
            line = process.stdout.readline()
            printed += line
            assert line, printed
        yield re.search(r"--url (\S+)", printed)[1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.serving
def test_it_answers_once_it_is_served(tree, walked, address):
    assert "are the evaluation's" in walked
    answer = told(started(tree, f"{ASK} --url {address}"))
    told_classes = re.findall(r"│ (\d) +│ (\w+)", answer)
    assert [row for row, _ in told_classes] == ["1", "2"]
    assert {name for _, name in told_classes} <= {"blue", "green", "red"}
