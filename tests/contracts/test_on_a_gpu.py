"""Every model walks to its end on a machine with a GPU and TensorRT, and its repository is one that a server takes.

Both are stand-ins: plans are run by ONNX engines of the CPU, and DALI's graph is made for the CPU.
"""

import contextlib
import io
import shutil
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from challenges.registry import MODELS
from common.export import exported, tensorrt
from common.export.artefact import read_sidecar
from common.export.exported import artefact, left_out_of
from common.export.latency import Latency
from common.export.runner import TensorRtRunner
from common.files import read_json
from common.run.run_directory import RunDirectory
from common.serving.releases import container_release
from common.serving.repository import ModelRepository
from common.stages import deployment, exporting
from common.stages.deployment import Choice, write_repository
from common.stages.exporting import export
from common.stages.request import Request
from common.stages.serving_stage import write_for
from common.stages.workflow import walk
from common.vision.dali import images
from tests.contracts.line import Line
from tests.contracts.validator import problems_of
from tests.stand_in_tensorrt import stand_in

GPU = {"gpu": "NVIDIA H200", "compute_capability": "9.0"}


class Stream:
    cuda_stream = 0

    def synchronize(self) -> None: ...


@pytest.fixture
def on_a_gpu(line_of, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int | None]:
    """A machine with the TensorRT of Triton's image; returns the devices that DALI's graphs were asked for."""
    assert line_of(model).trained  # before anything is pretended
    version, asked = container_release().tensorrt, []
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(version))
    monkeypatch.setattr(tensorrt, "gpu_identity", lambda: dict(GPU))
    for module in (deployment, exporting, exported):
        monkeypatch.setattr(module, "plan_target", lambda: {**GPU, "tensorrt": version})
    monkeypatch.setattr(TensorRtRunner, "device", "cpu")
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(deployment, "measure_latencies", plans_are_faster)
    monkeypatch.setenv("CHALLENGE_KIT_TRITON", str(tmp_path / "none"))
    for_the_cpu = images.serving_pipeline

    def pipeline(preprocessing, *, device_id, **options):
        asked.append(device_id)
        return for_the_cpu(preprocessing, device_id=None, **options)

    monkeypatch.setattr(images, "serving_pipeline", pipeline)
    return asked


def plans_are_faster(runners, inputs, *, seconds):
    """As on a GPU: half precisions the fastest, and any plan before any engine of the CPU."""
    order = {"fp16": 1.0, "int8": 2.0, "bf16": 3.0, "fp32": 4.0}
    speed = {one.label: order[one.precision] * (1 if one.name == "tensorrt" else 100) for one in runners}
    figures = {"calls": 1, "batch": 1, "samples_per_s": 1.0}
    return {label: Latency(p50_ms=ms, p90_ms=ms, p99_ms=ms, **figures) for label, ms in speed.items()}


PICTURES = ("resnet50", "ssd300")
UNDECIDED = ("ssd300",)
"""After four steps it finds hundreds of boxes that are as good as each other, which parity on no machine lets pass."""


@pytest.mark.slow
@pytest.mark.parametrize("model", [model for model in MODELS if model not in UNDECIDED])
def test_the_walk_ends_with_a_repository_of_plans(line_of, model, on_a_gpu, tmp_path):
    line: Line = line_of(model)
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(line.run.path, run.path)
    console = Console(file=io.StringIO(), width=400)
    walk(Request(line.challenge, "demo", line.recipe, line.root, run.path, "cpu"), console)
    told = console.file.getvalue()
    print(told)
    assert "RESULT" in told
    signature = line.trained.task.signature().of_plan()
    plans = [name for name in ("fp32", "fp16", "bf16", "int8") if artefact(run, name, "plan").is_file()]
    assert {"fp32", "fp16"} <= set(plans), left_out_of(run)
    for precision in plans:
        assert read_sidecar(artefact(run, precision, "plan")).signature == signature
    record = read_json(run.parity_file)
    assert {row["precision"] for row in record["rows"] if row["engine"] == "tensorrt"} == set(plans)
    assert max(row["batch"] for row in record["rows"]) <= signature.batch.maximum
    assert record["choice"]["engine"] == "tensorrt"
    check(ModelRepository(run.serving), signature, model)
    if model in PICTURES:
        assert set(on_a_gpu) == {0}
    write_for([(line.challenge, run)], console, container_release(), precision="fp32")
    check(ModelRepository(run.serving), signature, model)


@pytest.mark.slow
@pytest.mark.parametrize("model", UNDECIDED)
def test_what_is_exported_of_the_others_becomes_a_repository_of_plans(line_of, model, on_a_gpu, tmp_path):
    line: Line = line_of(model)
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(line.run.path, run.path)
    export(line.challenge, run, Console(quiet=True))
    signature = line.trained.task.signature().of_plan()
    for precision in ("fp32", "fp16"):
        assert read_sidecar(artefact(run, precision, "plan")).signature == signature
        repository = ModelRepository(tmp_path / precision, "gpu", container_release())
        write_repository(line.challenge, run, Choice("tensorrt", precision, "asked for"), repository, model)
        check(repository, signature, model)


def check(repository, signature, model):
    assert problems_of(repository, signature) == []
    assert repository.served() == [model]
    assert repository.config(f"{model}_model").platform == "tensorrt_plan"
