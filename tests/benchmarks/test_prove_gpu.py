"""The script for a lent GPU: goes on after whatever happens to a part, keeps to its time, and needs torch alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_parts, prove_gpu
from benchmarks.prove_gpu import LIMITS, Verdict, main, prove

ROOT = Path(__file__).parents[2]
PARTS = """
import os, subprocess, sys, time
match sys.argv[1]:
    case "tests": print("a line"); print('{"verdict": "measured", "told": "a|b", "figures": {"images_per_s": 1234.5}}')
    case "momentum": subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
    case "waits": os.abort()
    case "ladder": sys.exit("no such thing")
    case _: print('{"verdict": "needs a GPU", "told": "", "figures": {}}')
"""
BARE = """
from importlib.machinery import PathFinder
absent = {"nvtx", "psutil", "rich", "tyro", "pydantic", "jsonschema", "pynvml", "nvidia", "PIL", "pyarrow", "polars",
          "onnx", "matplotlib", "scipy", "pandas", "pytest"}
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *places: None if name.split(".")[0] in absent else find(name, *places)
"""


@pytest.fixture
def parts(tmp_path, monkeypatch):
    script = tmp_path / "parts.py"
    script.write_text(PARTS)
    monkeypatch.setattr(prove_gpu, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setitem(LIMITS, "momentum", 1.0)


def test_every_part_gets_its_verdict_whatever_happens_to_the_others(tmp_path, parts):
    started = time.monotonic()
    found = prove(list(LIMITS), tmp_path, 100)
    assert time.monotonic() - started < 50  # what a part started ends with it
    assert found["tests"] == Verdict("measured", "a|b", {"images_per_s": 1234.5})
    assert found["momentum"].told.startswith("It was not done after 1 s")
    assert found["waits"].told.startswith("Exit code -6")
    assert found["ladder"].told.endswith("no such thing")
    assert {found[name].verdict for name in list(LIMITS)[4:]} == {"needs a GPU"}
    record = json.loads((tmp_path / "tests.json").read_text())
    assert record["figures"] == {"images_per_s": 1234.5}
    page = (tmp_path / "verdicts.md").read_text()
    assert "| tests | measured | a/b |" in page
    assert "| tests | images_per_s | 1,234.5 |" in page
    assert main(["capture", "--output", str(tmp_path)]) == 0
    assert main(["ladder", "--output", str(tmp_path)]) == 1


def test_what_no_time_is_left_for_is_left_out(tmp_path, parts):
    found = prove(["tests", "walk"], tmp_path, 4.0)
    assert {one.verdict for one in found.values()} == {"left out"}


def test_parts_have_limits_and_fit_into_one_command():
    assert list(gpu_parts.PARTS) == list(LIMITS)
    assert prove_gpu.SECONDS <= 600


def test_momentum_is_proved_on_any_device(tmp_path):
    assert gpu_parts.momentum(tmp_path).verdict == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["momentum", "ladder"])
def test_bare_torch_is_enough(tmp_path, part):
    """An interpreter that finds nothing beside torch, NumPy and what they need."""
    (tmp_path / "sitecustomize.py").write_text(BARE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.gpu_parts", part, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["verdict"] in ("passed", "measured"), done.stdout
