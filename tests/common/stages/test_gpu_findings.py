"""What `kit doctor` tells of a machine with a GPU, on a machine without one."""

import importlib.metadata
import sys
from types import SimpleNamespace

import pytest

from common.machine import device
from common.serving.releases import container_release
from common.stages import gpu_findings as findings

H200 = {"name": "NVIDIA H200", "memory_gb": 150.8, "driver": "610.43.02"}

SERVED = container_release().tensorrt


@pytest.fixture
def found(monkeypatch):
    """Examines a machine with these GPUs; returns its findings by subject."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)

    def examine(*, driver="610.43.02", tensorrt=SERVED, gpus=1, used=1, platform="Ubuntu"):
        monkeypatch.setattr("torch.cuda.device_count", lambda: used)
        monkeypatch.setattr(findings, "graphics_processors", lambda: [{**H200, "driver": driver}] * gpus)
        monkeypatch.setattr(findings, "platform_name", lambda: platform)
        module = SimpleNamespace(__version__=tensorrt) if tensorrt else None
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        return {finding.subject: finding for finding in findings.gpu_findings()}

    return examine


def test_nothing_stands_in_the_way_of_a_machine_that_has_everything(found, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    told = found()
    assert list(told) == ["driver", "TensorRT", "DALI"]
    assert not any(finding.remedy for finding in told.values())
    assert "as in Triton" in told["TensorRT"].found


def test_a_machine_without_a_gpu_is_told_nothing_of_gpus(monkeypatch):
    monkeypatch.setattr(findings, "graphics_processors", list)
    monkeypatch.setattr(findings, "visible_nvidia_devices", list)
    assert list(findings.gpu_findings()) == []


@pytest.mark.parametrize(("driver", "old"), [("580.95.05", False), ("579.1", True), ("610.43.02", False)])
def test_a_driver_below_the_images_floor_is_to_be_mended(found, driver, old):
    assert ("R580 or newer" in found(driver=driver)["driver"].remedy) == old


def test_without_tensorrt_it_is_said_that_the_cpu_serves(found):
    finding = found(tensorrt=None)["TensorRT"]
    assert "served from the CPU" in finding.found
    assert "locked/gpu.txt" in finding.remedy


def test_another_tensorrt_than_the_servers_is_told(found):
    finding = found(tensorrt="11.4.0.106")["TensorRT"]
    assert "reads no plans of this one" in finding.found
    assert not finding.remedy


@pytest.mark.parametrize("version", ["0.8.1", "0.10.0"])
def test_a_decoder_that_dali_does_not_ask_for_is_to_be_mended(found, monkeypatch, version):
    known = importlib.metadata.version

    def installed(name):
        return version if "nvimgcodec" in name else known(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert "nvimgcodec" in found()["DALI"].remedy


def test_gpus_that_are_not_used_are_told(found):
    assert "--nproc-per-node 4" in found(gpus=8, used=4)["GPUs"].found
    assert "the kit sees 1" in found(gpus=2, used=1)["GPUs"].found


def test_room_for_images_is_told_where_there_is_docker(found, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/docker")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=12e9))
    assert "12 GB free" in found()["images"].found
    assert "too little" in found()["images"].found


def test_windows_is_told_and_its_gpu_is_seen(found, monkeypatch, tmp_path):
    told = found(platform="Ubuntu 24.04, Linux 5.15.153.1-microsoft-standard-WSL2, x86_64")
    assert "Windows" in told["WSL"].found
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "WSL_DRIVER", tmp_path / "libcuda.so.1")
    before = device.visible_nvidia_devices()
    (tmp_path / "libcuda.so.1").touch()
    assert device.visible_nvidia_devices() == sorted([*before, "libcuda.so.1"])
