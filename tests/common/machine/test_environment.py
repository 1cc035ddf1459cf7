"""The environment as recorded: shape, speed, privacy, and no guess where nothing is known."""

import getpass
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from common.machine import environment


def test_has_exactly_the_promised_fields():
    found = environment.collect_environment(device="cpu", precision="bf16", world_size=1)
    assert list(found) == [
        *("kit", "python", "packages", "cpu", "memory_gb", "gpus", "platform", "device", "precision", "world_size")
    ]
    assert list(found["kit"]) == ["version", "commit", "dirty"]
    assert list(found["cpu"]) == ["model", "cores", "features"]
    assert found["packages"]["torch"].startswith("2.")
    assert found["cpu"]["cores"] >= 1
    assert found["memory_gb"] > 0
    json.dumps(found)


def test_is_collected_in_a_blink_and_costs_nothing_again():
    environment.collect_environment()
    start = time.perf_counter()
    environment.collect_environment()
    assert time.perf_counter() - start < 0.05


def test_imports_no_heavy_package():
    heavy = "{'torch', 'nvidia.dali', 'matplotlib', 'onnxruntime'} & set(sys.modules)"
    code = f"import sys; import common.machine.environment as e; e.collect_environment(); print({heavy} or 'none')"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "none"


def test_names_no_host_and_no_user():
    text = json.dumps(environment.collect_environment())
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    for name in (socket.gethostname(), getpass.getuser()):
        assert f'"{name}"' not in text


def test_outside_a_checkout_the_commit_is_unknown(tmp_path):
    assert environment._checkout(tmp_path) == (None, None)


def test_an_image_tells_the_commit_it_was_built_from(tmp_path):
    (tmp_path / environment.COMMIT_FILE).write_text("0123abcd\n")
    assert environment._checkout(tmp_path) == ("0123abcd", False)


def test_a_checkout_is_dirty_with_any_change_but_a_new_record(tmp_path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    assert environment._checkout(tmp_path) == (None, True)
    git("add", "file")
    git("commit", "-m", "one")
    commit, dirty = environment._checkout(tmp_path)
    assert len(commit) == 40
    assert not dirty
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "new.json").write_text("{}")
    assert environment._checkout(tmp_path) == (commit, False)
    (tmp_path / "file").write_text("two")
    assert environment._checkout(tmp_path) == (commit, True)


def test_no_driver_means_no_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(driver=False))
    assert environment.graphics_processors() == []


def test_gpus_are_named_with_memory_and_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(driver=True))
    expected = {"name": "NVIDIA H200", "memory_gb": 150.8, "driver": "580.95.05"}
    assert environment.graphics_processors() == [expected, expected]


@pytest.mark.gpu
def test_the_gpu_at_hand_is_found():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    found = environment.graphics_processors()
    assert found[0]["name"] == torch.cuda.get_device_name(0)


def _nvml(*, driver: bool) -> ModuleType:
    """A stand-in for pynvml with two H200, or without a driver."""

    class NVMLError(Exception):
        pass

    def init() -> None:
        if not driver:
            raise NVMLError("driver not loaded")

    module = ModuleType("pynvml")
    memory = type("Memory", (), {"total": 150_754_820_096})
    module.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.95.05",
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "NVIDIA H200",
        nvmlDeviceGetMemoryInfo=lambda handle: memory,
    )
    return module


@pytest.mark.parametrize(
    ("cpu", "told"),
    [
        ({"model": "AMD EPYC", "cores": 1}, "AMD EPYC, 1 core"),
        ({"model": "AMD EPYC", "cores": 64}, "AMD EPYC, 64 cores"),
        ({"model": "AMD EPYC", "cores": None}, "AMD EPYC"),
        ({}, "unknown"),
    ],
)
def test_a_processor_is_told_with_what_is_known_of_it(cpu, told):
    assert environment.told_processor(cpu) == told
