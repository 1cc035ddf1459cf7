"""Device choice: never the CPU in silence where a GPU is visible."""

import os

import pytest
import torch

from common.errors import DeviceError
from common.machine import device as devices
from common.machine.device import select_device
from common.stages import training_stage
from common.stages.request import Request
from common.terminal.console import SafeConsole
from tests.toy import toy_recipe


@pytest.fixture
def no_usable_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_machine_without_gpu_uses_the_cpu(no_usable_gpu, monkeypatch):
    monkeypatch.setattr(devices, "visible_nvidia_devices", list)
    assert select_device("auto").type == "cpu"


def test_a_visible_but_unusable_gpu_stops_with_an_explanation(no_usable_gpu, monkeypatch):
    monkeypatch.setattr(devices, "visible_nvidia_devices", lambda: ["nvidia0"])
    with pytest.raises(DeviceError, match="never falls back") as stopped:
        select_device("auto")
    assert len(str(stopped.value).splitlines()) <= 3


def test_the_cpu_can_be_asked_for_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "visible_nvidia_devices", lambda: ["nvidia0"])
    assert select_device("cpu").type == "cpu"


def test_asking_for_a_gpu_that_is_not_there_is_an_error(no_usable_gpu):
    with pytest.raises(DeviceError, match="no usable GPU"):
        select_device("cuda")


def test_hidden_gpus_do_not_count(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.visible_nvidia_devices() == []


def test_an_old_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla V100")
    with pytest.raises(DeviceError, match=r"7\.0"):
        select_device("auto")


@pytest.fixture
def any_bits():
    yield
    torch.use_deterministic_algorithms(False)


def test_a_deterministic_training_names_cublas_workspace_before_any_device_is_touched(monkeypatch, any_bits):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def select(*_):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        assert torch.are_deterministic_algorithms_enabled()
        raise DeviceError("selected")

    monkeypatch.setattr(training_stage, "select_device", select)
    request = Request(None, "toy", toy_recipe(deterministic=True))
    with pytest.raises(DeviceError, match="selected"):
        training_stage.train(request, SafeConsole(quiet=True))


def test_a_workspace_with_which_cublas_does_not_repeat_itself_is_refused(monkeypatch, any_bits):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    devices.repeat_exactly(False)
    with pytest.raises(DeviceError, match="is :0:0"):
        devices.repeat_exactly(True)
