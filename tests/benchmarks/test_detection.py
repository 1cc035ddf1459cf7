"""Challenge 2's benchmarks on a handful of small pictures; the figures mean nothing here."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.detection import CHAIN, Bench, Settings, boundaries, record_of, strict
from benchmarks.detection_stages import Stages
from benchmarks.measure import interleave
from benchmarks.record import Finding, Validity, read, write
from challenges.detection.recipes import RECIPES
from challenges.detection.task import DetectionTask
from common.machine.precision import Precision
from common.stages.deployment import Choice
from tests.detection.builders import paint, scenes_of

CPU, FULL = torch.device("cpu"), Precision("fp32", None)
BOX = (1, 20, 20, 90, 90)
SHORT = {"rounds": 2, "block_seconds": 0.02, "warmup_seconds": 0.01, "settle_seconds": 0.0}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    encoded = []
    for number, size in enumerate([(200, 160), (120, 180)]):
        paint(*size, [BOX], {1: (250, 10, 10)}).save(folder / f"{number}.jpg", quality=95)
        encoded.append(np.frombuffer((folder / f"{number}.jpg").read_bytes(), np.uint8))
    torch.manual_seed(0)
    recipe = RECIPES["small"]
    task = DetectionTask(recipe, 2, scenes_of(folder, [(200, 160)], {0: [BOX]}))
    return Stages(task, recipe, encoded, CPU, FULL)


def test_the_stages_apart_make_what_they_make_together(stages):
    prepared = stages.prepare().clone()
    assert [image.shape for image in stages.pixels] == [(160, 200, 3), (180, 120, 3)]
    assert torch.equal(stages.preprocess(), prepared)
    assert torch.equal(stages.images, prepared)
    found = {name: work() for name, work in stages.works().items()}
    for name in ("pixels to boxes (torch)", "file to boxes (torch)", "forward and suppression"):
        for part, expected in zip(found[name], found["box decode and suppression"], strict=True):
            torch.testing.assert_close(part, expected)


class EchoRunner:
    """An engine that answers at once."""

    def __init__(self, label):
        self.label, self.shapes = label, set()

    def __call__(self, inputs):
        self.shapes.add(inputs["images"].shape)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_the_record_has_every_boundary_beside_the_forward_pass(stages, monkeypatch, tmp_path):
    runners = [
        EchoRunner(label) for label in ("onnxruntime fp32", "onnxruntime int8", "openvino fp32", "openvino bf16")
    ]
    monkeypatch.setattr("benchmarks.detection.engines", lambda run: runners)
    run = SimpleNamespace(description=lambda: {"recipe": "small"})
    trained = SimpleNamespace(run=run, recipe=RECIPES["small"], task=stages.task)
    bench = Bench(trained, Choice("openvino", "bf16", "fast"), [b"", b""], "pictures", "real", CPU, FULL)
    with contextlib.ExitStack() as stack:
        found = interleave(boundaries(bench, stages, None, stack), warmup_seconds=0.01, rounds=2, block_seconds=0.02)
    record = record_of(bench, Settings(**SHORT), found, 0.03)
    assert read(write(record, tmp_path)).details.keys() == record.details.keys()
    assert set(record.measurements) == {
        *stages.works(),
        "forward to boxes (onnxruntime fp32)",
        "forward to boxes (openvino fp32)",
        "forward to boxes (openvino bf16)",
        "file to boxes",
    }
    assert [runner.shapes for runner in runners] == [{(2, 3, 300, 300)}, set(), {(2, 3, 300, 300)}, {(2, 3, 300, 300)}]
    assert set(record.ratios) == {f"{name}/forward" for name in record.measurements if name != "forward"}
    for detail, side in CHAIN.items():
        assert record.details[f"{detail}_images_per_s"] == record.measurements[side].samples_per_s.median


def test_a_busy_machine_makes_the_stages_invalid():
    busy, dirty = Finding(code="BUSY_MACHINE", text="busy"), Finding(code="DIRTY_TREE", text="dirty")
    verdict = strict(Validity(valid=True, warnings=(busy, dirty)))
    assert verdict == Validity(valid=False, reasons=(busy,), warnings=(dirty,))
    assert strict(Validity(valid=True, warnings=(dirty,))).valid
