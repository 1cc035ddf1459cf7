"""Engines side by side: one record each, filed under what it ran on, invalid where its answers are others."""

import json
import os
from types import SimpleNamespace

import numpy as np

from benchmarks import engines
from benchmarks.record import read, write
from benchmarks.throughput import Timing
from common.challenge import ServedFace
from common.export.runner import Runner

SHORT = Timing(rounds=3, most_rounds=3, block_seconds=0.25, warmup_seconds=0.05, settle_seconds=0.0, smoke=True)


class Doubling(Runner):
    """Answers with scores; `wrong` swaps them."""

    def __init__(self, name, precision="fp32", *, wrong=False):
        self.name, self.precision, self.wrong, self.closed = name, precision, wrong, False

    def __call__(self, inputs):
        scores = np.stack([inputs["x"][:, 0], 1 - inputs["x"][:, 0]], axis=1)
        return {"scores": scores[:, ::-1] if self.wrong else scores}

    def close(self):
        self.closed = True


class Trained:
    """As much of a trained run as its engines are measured with."""

    run = SimpleNamespace(description=lambda: {"recipe": "demo", "data": {"root": "/home/someone/photos"}})
    challenge = SimpleNamespace(
        model="resnet50", served=SimpleNamespace(comparison=lambda: ServedFace.comparison(None))
    )
    data = SimpleNamespace(sample_unit="image")

    def inputs(self, split, limit):
        yield {"x": np.linspace(0, 0.4, 8, dtype=np.float32)[:, None]}, {}

    def reference(self):
        return Doubling("torch")


def test_every_engine_has_a_record_and_a_wrong_one_is_invalid(monkeypatch, tmp_path):
    runners = [Doubling("onnxruntime"), Doubling("openvino", "bf16"), Doubling("openvino", "int8", wrong=True)]
    monkeypatch.setattr(engines, "engines", lambda run: iter(runners))
    records = engines.measure_engines(Trained(), SHORT, ("kit", "benchmark", "resnet50"), batch=4)
    found = {f"{record.workload.engine} {record.workload.precision}": record for record in records}
    assert set(found) == {"onnxruntime fp32", "openvino bf16", "openvino int8"}
    assert [record.validity.valid for record in records] == [True, True, False]
    (reason,) = found["openvino int8"].validity.reasons
    assert reason.code == "OUTPUT_MISMATCH"
    assert "openvino int8" in reason.text
    for record in records:
        assert read(write(record, tmp_path)) is not None
        assert (record.kind, record.workload.batch, record.workload.dataset) == ("inference", 4, "photos")
        assert record.device.startswith("cpu-")
        assert "CPU_FALLBACK" not in [reason.code for reason in record.validity.reasons]
    assert all(runner.closed for runner in runners)


def test_an_engine_of_the_gpu_is_filed_under_it(monkeypatch):
    monkeypatch.setattr(engines, "engines", lambda run: iter([Doubling("tensorrt", "fp16")]))
    monkeypatch.setattr(engines, "uuid_of", lambda device: None)
    (record,) = engines.measure_engines(Trained(), SHORT, ("x",))
    assert record.system["device"] == "cuda:0"
    assert "CPU_FALLBACK" not in [reason.code for reason in record.validity.reasons]


def test_the_newest_exported_run_of_a_model_is_found(tmp_path):
    for age, (name, model, exported) in enumerate(
        [("new-but-bare", "ncf", False), ("newer", "ncf", True), ("older", "ncf", True), ("other", "dlrm", True)]
    ):
        folder = tmp_path / name
        (folder / "export").mkdir(parents=True)
        told = {"model": model, "recipe": "demo", "recipe_digest": "0", "command": "kit train", "data": {}}
        (folder / "run.json").write_text(json.dumps(told))
        (folder / "recipe.json").write_text("{}")
        os.utime(folder / "run.json", (1000 - age, 1000 - age))
        if exported:
            (folder / "export" / "model.onnx").touch()
    assert engines.exported_run("ncf", tmp_path).path == tmp_path / "newer"
    assert engines.exported_run("bert4rec", tmp_path) is None
    assert engines.exported_run("ncf", tmp_path / "absent") is None
