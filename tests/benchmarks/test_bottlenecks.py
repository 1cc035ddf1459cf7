"""What really is made slow is named by the sentence: decoding, the model's step, the disk, the link between ranks."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import probe
from benchmarks.bench import Asked, opened
from benchmarks.limits import limit_of
from benchmarks.probe import Probe
from benchmarks.record import Record, read_all
from benchmarks.throughput import Timing, TrainingWork, measure_training
from common.vision.dali.loader import DaliLoader, decode_path
from tests.benchmarks.test_validity import probe_of

SHORT = Timing(rounds=3, most_rounds=3, block_seconds=0.25, warmup_seconds=0.1, smoke=True)


def trained(model: str, batch: int, roofs: Probe) -> Record:
    with opened(Asked(model=model, device="cpu", batch=batch), Console(quiet=True), ("x",), smoke=True) as bench:
        return measure_training(bench, SHORT, roofs)


def test_a_slow_step_of_the_model_is_named(monkeypatch):
    quick = TrainingWork.__call__

    def slow(self, batch):
        time.sleep(0.05)
        return quick(self, batch)

    monkeypatch.setattr(TrainingWork, "__call__", slow)
    made = trained("ncf", 64, probe_of())
    assert limit_of(made).startswith("computing limits you: ")
    assert made.measurements["compute_only"].samples_per_s.median < 64 / 0.05


@pytest.fixture
def slow_loader(monkeypatch):
    """Every batch takes as long as the longest step so far, on however busy a machine: (bytes, seconds) of each."""
    step, batches = TrainingWork.__call__, DaliLoader.__iter__
    longest, taken = [0.1], []

    def timed(self, batch):
        began = time.perf_counter()
        samples = step(self, batch)
        longest.append(time.perf_counter() - began)
        return samples

    def slow(self):
        for batch in batches(self):
            taken.append((sum(Path(decode_path(path)).stat().st_size for path in self._fed[0]), 2 * max(longest)))
            time.sleep(taken[-1][1])
            yield batch

    monkeypatch.setattr(TrainingWork, "__call__", timed)
    monkeypatch.setattr(DaliLoader, "__iter__", slow)
    return taken


@pytest.mark.slow
def test_slow_decoding_and_a_slow_disk_are_named(slow_loader, monkeypatch):
    """The same wait is the decoder's where the disk is quick, and the disk's where the probe's file lies on it."""
    made = trained("resnet50", 2, probe_of())
    assert limit_of(made).startswith("decoding limits you: 2 cores give ")
    assert "cores would keep up" in limit_of(made)
    speed = sum(size for size, _ in slow_loader) / sum(seconds for _, seconds in slow_loader)
    temporary = tempfile.TemporaryFile

    class Slow:
        def __init__(self) -> None:
            self.file = temporary()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, size):
            content = self.file.read(size)
            time.sleep(len(content) / speed)
            return content

    monkeypatch.setattr(probe.tempfile, "TemporaryFile", Slow)
    monkeypatch.setattr(probe, "BLOCK", int(speed / 4))
    monkeypatch.setattr(probe, "READ", int(speed))
    read = probe._reading()
    assert read == pytest.approx(speed / 1e9, rel=0.3)
    told = limit_of(replace(made, evidence=replace(made.evidence, probe=replace(probe_of(), read_gb_s=read))))
    assert told.startswith("reading limits you: ")
    assert "keep the files on a faster disk" in told


@pytest.mark.slow
def test_a_slow_link_between_two_ranks_is_named_in_a_record_of_their_scaling(tmp_path):
    alone = trained("ncf", 64, probe_of())
    rate = alone.measurements["end_to_end"].samples_per_s.median
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "tests.benchmarks.slow_link", "ncf", "--smoke", "--device", "cpu", "--batch", "64", "--seconds", "4",
        "--alone", f"{alone.id}:{rate}", "--output", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    (made,) = read_all([tmp_path])
    ranks = made.evidence.ranks
    assert (ranks.size, ranks.scaling, ranks.alone) == (2, "weak", alone.id)
    assert ranks.efficiency == pytest.approx(ranks.together_samples_per_s / rate / 2, rel=1e-4)
    assert made.validity.valid
    told = limit_of(made)
    assert told.startswith("the link between ranks limits you: 2 reach ")
    assert f"all-reduce moves {made.evidence.probe.all_reduce_gb_s:.3g} GB/s" in told
