"""The script for a lent GPU: goes on after whatever happens to a part, keeps to its time, and needs torch alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.proof import gpu_parts, prove_gpu
from benchmarks.proof.prove_gpu import LIMITS, Verdict, main, prove
from challenges.classification import demo
from challenges.classification.recipes import RECIPES
from challenges.parser import build_parser
from common.errors import DeviceError
from common.run.overrides import apply_overrides

ROOT = Path(__file__).parents[3]
PARTS = """
import os, subprocess, sys, time
match sys.argv[1]:
    case "tests": print("a line"); print('{"verdict": "measured", "told": "a|b", "figures": {"images_per_s": 1234.5}}')
    case "momentum": subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
    case "waits": os.abort()
    case "ladder": print('{"verdict": "measured", "told": "", "figures": {"so_far": 1.0}}'); sys.exit("no such thing")
    case "detection":
        print('{"verdict": "measured", "told": "two of three", "figures": {"so_far": 2.0}}', flush=True); time.sleep(60)
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
    for name in ("momentum", "detection"):
        monkeypatch.setitem(LIMITS, name, 1.0)


def test_every_part_gets_its_verdict_whatever_happens_to_the_others(tmp_path, parts):
    started = time.monotonic()
    found = prove(list(LIMITS), tmp_path, 100)
    assert time.monotonic() - started < 50  # what a part started ends with it
    assert found["tests"] == Verdict("measured", "a|b", {"images_per_s": 1234.5})
    assert found["momentum"].told.startswith("It was not done after 1 s")
    assert found["waits"].told.startswith("Exit code -6")
    assert found["ladder"].told.endswith("no such thing")
    assert (found["ladder"].verdict, found["ladder"].figures) == ("failed", {"so_far": 1.0})
    assert (found["detection"].verdict, found["detection"].figures) == ("measured", {"so_far": 2.0})
    assert found["detection"].told == "It was not done after 1 s: see detection.log. two of three"
    assert {found[name].verdict for name in list(LIMITS)[5:]} == {"needs a GPU"}
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


def test_every_rung_is_a_recipe_and_the_most_telling_come_first(monkeypatch, tmp_path, capsys):
    """Each choice of the recipe that a GPU alone has is on the ladder; what cannot be built here says so."""
    built = []

    def refuse(task, recipe, precision, batch):
        built.append((recipe.training, recipe.model.normalisation))
        raise DeviceError("no such device", "one", "another")

    monkeypatch.setattr(gpu_parts, "HAS_GPU", True)
    monkeypatch.setattr(gpu_parts, "_Stepper", refuse)
    monkeypatch.setattr(torch, "randn", lambda *sizes, device: torch.zeros(1, 3, 8, 8))
    found = gpu_parts.ladder(tmp_path)
    assert found.verdict == "failed"
    assert found.told.count("no such device") == len(built) == len(gpu_parts.RUNGS)
    assert len(capsys.readouterr().out.splitlines()) == len(built)
    taken = [(one.precision, one.channels_last, one.compile, one.cuda_graphs, norm) for one, norm in built]
    assert len(set(taken)) == len(taken)
    assert {("fp16", True, False, True, "apex"), ("bf16", True, True, True, "torch")} <= set(taken)
    assert any(not channels_last for _, channels_last, *_ in taken)
    assert taken[0] == ("bf16", True, False, False, "torch")


def test_the_walk_takes_300_photographs(monkeypatch, tmp_path):
    """The command that a GPU's machine is given, with its data, is one that the kit's parser takes."""
    asked = []
    monkeypatch.setattr(gpu_parts, "HAS_GPU", True)
    monkeypatch.setattr(demo, "generate", lambda folder, *, images_per_class: folder / str(sum(images_per_class)))
    monkeypatch.setattr(gpu_parts, "_command", lambda module, *words: asked.extend(words) or Verdict("passed"))
    assert gpu_parts.walk(tmp_path).verdict == "passed"
    options, overrides = build_parser().parse_known_args(asked)
    assert (options.model, Path(options.data)) == (["resnet50"], tmp_path / "photographs" / "30")
    assert 30 * len(demo.CLASSES) == 300
    assert apply_overrides(RECIPES[options.recipe], tuple(overrides), "kit challenge").training.epochs == 10


def test_the_script_runs_at_the_root_wherever_it_is_called_from(tmp_path):
    """There `-m` finds the kit where nothing is installed, and a relative PYTHON is make's."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\npwd\necho "$@"\n')
    python.chmod(0o755)
    command = ["bash", str(Path(prove_gpu.__file__).with_suffix(".sh")), "momentum", "two words"]
    told = subprocess.check_output(command, cwd=tmp_path, env={**os.environ, "PYTHON": str(python)}, text=True)
    assert told.splitlines() == [str(ROOT), "-m benchmarks.proof.prove_gpu momentum two words"]


def test_momentum_is_proved_on_any_device(tmp_path):
    assert gpu_parts.momentum(tmp_path).verdict == "passed"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["momentum", "ladder"])
def test_bare_torch_is_enough(tmp_path, part):
    """An interpreter that finds nothing beside torch, NumPy and what they need."""
    (tmp_path / "sitecustomize.py").write_text(BARE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.proof.gpu_parts", part, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["verdict"] in ("passed", "measured"), done.stdout
