"""Challenge 1's benchmarks from end to end on a handful of small pictures; the figures mean nothing here."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.bench import opened
from benchmarks.peers.classification import MEASUREMENTS, Settings
from benchmarks.record import read, write
from common.errors import KitError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(12):
            pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")
    return folder


def settings_of(folder, **options):
    return Settings(
        data=folder,
        depth=18,
        size=32,
        workers=1,
        rounds=2,
        block_seconds=0.05,
        warmup_seconds=0.03,
        settle_seconds=0.01,
        **{"batch": 4, "device": "cpu", "precision": "fp32", **options},
    )


@pytest.mark.parametrize("what", ["step", pytest.param("loader", marks=pytest.mark.slow)])
def test_a_measurement_becomes_a_record(photographs, tmp_path, what):
    settings = settings_of(photographs)
    with opened(
        settings.asked(what), Console(quiet=True), ("python", "-m", "benchmarks.peers.classification")
    ) as bench:
        record = MEASUREMENTS[what](bench, settings)
    assert read(write(record, tmp_path)).workload == record.workload
    assert (record.workload.dataset, record.workload.model, record.workload.batch) == (photographs.name, "resnet18", 4)
    assert record.workload.workers == 1
    assert record.workload.input_shape == (3, 32, 32)
    assert not record.validity.valid  # far too short
    assert "TOO_SHORT" in [reason.code for reason in record.validity.reasons]
    assert "LOSS_NOT_FINITE" not in [reason.code for reason in record.validity.reasons]
    assert len(record.ratios) == 1


def test_a_batch_larger_than_the_data_is_refused(photographs):
    with (
        pytest.raises(KitError, match="training samples") as told,
        opened(settings_of(photographs, batch=64).asked("step"), Console(quiet=True), ("x",)),
    ):
        pass
    assert told.value.exit_code == 2
