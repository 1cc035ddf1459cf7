"""The command from its plan to its last line, with one small model; the figures mean nothing here."""

import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from benchmarks import benchmark as command
from benchmarks import ladders, prices
from benchmarks.bench import Asked, opened
from benchmarks.plan import Item
from benchmarks.record import Evidence, read_all
from benchmarks.throughput import Timing, TrainingWork
from benchmarks.worker import Cloud, Worker
from challenges.__main__ import main
from tests.benchmarks.builders import record

SHORT = Timing(rounds=3, most_rounds=3, block_seconds=0.2, warmup_seconds=0.05, smoke=True)
QUIET = Console(quiet=True)


def line(output: str, start: str) -> str:
    return next(text for text in output.splitlines() if text.startswith(start))


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """A plan and a probe of tenths of a second, of no run that lies in the checkout."""
    from benchmarks import plan, probe

    monkeypatch.setattr(plan, "SMOKE_LEAST", dict.fromkeys(plan.SMOKE_LEAST, 2.5))
    monkeypatch.setattr(command, "exported_run", lambda model: None)
    monkeypatch.setattr(probe, "SIDES", {"cpu": (64,)})
    monkeypatch.setattr(probe, "COPIED", {"cpu": 1 << 22})
    monkeypatch.setattr(probe, "READ", 1 << 22)


def test_quick_makes_valid_smoke_records_and_ends_with_a_line_and_a_sentence(tmp_path, capsys):
    assert main(["benchmark", "ncf", "--quick", "--device", "cpu", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert line(printed, "plan: ") == "plan: 2 measurements in 15 minutes at most"
    assert line(printed, "probe: products fp32 ")
    told = line(printed, "BENCHMARK ncf train ")
    assert re.fullmatch(
        r"BENCHMARK ncf train [\d,.e+]+ interactions/s ± [\d.]+ % \w+ ×1 [\d.e-]+ % of the measured roof "
        r"valid=true \S+\.json",
        told,
    )
    assert re.search(r"end-to-end is \d+% of the slower part \(\d+% – \d+%\)", printed)
    assert "limits you" in printed or "as fast as each other" in printed
    found = {one.name: one for one in read_all([tmp_path])}
    assert found["train"].command.split()[0] == "kit"
    assert found["train"].validity.valid
    assert "SMOKE" in [warning.code for warning in found["train"].validity.warnings]
    assert found["train"].evidence.probe.copy_gb_s > 0


def test_a_published_row_is_followed_and_what_differs_is_said(tmp_path, capsys):
    row = "dle/ncf-a100-sxm4-40gb-amp"
    assert (
        main(["benchmark", "--like", "dle/ncf-a100-amp", "--quick", "--device", "cpu", "--output", str(tmp_path)]) == 0
    )
    printed = capsys.readouterr().out
    assert f"as {row}: train, fp16, NHWC, data" in printed
    (made,) = read_all([tmp_path])
    like = made.evidence.like
    assert like.row == row
    assert "a CPU instead of A100-SXM4-40GB" in like.differences
    assert f"a batch of {made.workload.batch:,} instead of 1,048,576" in like.differences
    assert made.workload.model == "ncf/ml-20m"
    assert f"beside {row}: not the same protocol: " in printed


def test_one_failure_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(command, "measure_training", fail)
    assert main(["benchmark", "ncf", "--quick", "--device", "cpu", "--output", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "BENCHMARK ncf train out of memory: CUDA out of memory" in printed
    assert "BENCHMARK ncf precision" in printed


def test_a_batch_is_doubled_until_memory_ends(monkeypatch):
    """Memory for 32 samples, and every doubling worth it."""

    class Bounded(TrainingWork):
        def __init__(self, bench, *_, **__):
            self.size = bench.batch_size

        def __call__(self, batch):
            assert {len(value) for value in batch.values()} == {self.size}
            if self.size > 32:
                raise torch.OutOfMemoryError("no memory")
            command.time.sleep(0.005)
            return self.size

    monkeypatch.setattr(ladders, "TrainingWork", Bounded)
    with opened(Asked(model="ncf", device="cpu", batch=8), QUIET, ("x",), smoke=True) as bench:
        made = ladders.measure_batches(bench, SHORT, None)
    assert set(made.measurements) == {"batch-8", "batch-16", "batch-32"}
    assert (made.details["best_batch"], made.details["out_of_memory_batch"]) == (32, 64)


def test_doubling_that_brings_nothing_ends(monkeypatch):
    class Level(TrainingWork):
        def __init__(self, bench, *_, **__):
            self.size = bench.batch_size

        def __call__(self, batch):
            command.time.sleep(0.0001 * self.size**2)  # twice the samples take four times as long
            return self.size

    monkeypatch.setattr(ladders, "TrainingWork", Level)
    with opened(Asked(model="ncf", device="cpu", batch=8), QUIET, ("x",), smoke=True) as bench:
        made = ladders.measure_batches(bench, SHORT, None)
    assert (made.details["best_batch"], "out_of_memory_batch" in made.details) == (8, False)


def test_the_forward_pass_alone_has_a_record():
    with opened(Asked(model="ncf", device="cpu", batch=8), QUIET, ("x",), smoke=True) as bench:
        made = ladders.measure_forward(bench, SHORT, None)
    assert (made.kind, made.name, set(made.measurements)) == ("inference", "forward", {"inference"})
    assert made.evidence.work.flop_per_sample > 0
    assert made.validity.valid


def test_made_up_inputs_have_any_batch():
    asked = Asked(model="ncf", device="cpu", batch=100_000, synthetic=True)
    with opened(asked, QUIET, ("x",)) as bench:
        assert {len(value) for value in bench.fixed_batch().values()} == {100_000}


def test_a_million_samples_cost_what_the_instance_does(tmp_path):
    cloud = Cloud(instance="g5.xlarge", region="us-east-1", lifecycle="spot")
    made = replace(record(1000.0), evidence=Evidence(worker=Worker(cloud=cloud)))
    told = command.benchmark_line(Item("resnet50", "train"), made, tmp_path / "x.json", prices.read(prices.PRICES))
    assert " $0.28/M valid=true " in told
    assert "$" not in command.benchmark_line(Item("resnet50", "train"), record(1000.0), tmp_path, [])


def test_a_precision_that_the_device_lacks_becomes_the_nearest(monkeypatch):
    monkeypatch.setattr(command, "precisions_of", lambda device: ("fp32", "bf16"))
    cpu = torch.device("cpu")
    assert [command.nearest(name, cpu) for name in ("fp16", "int8", "tf32", "fp32")] == ["bf16", "bf16", "fp32", "fp32"]


def test_each_kind_of_record_has_a_line_of_its_own(tmp_path):
    def told(item, made):
        return command.benchmark_line(item, made, tmp_path / "x.json", [])

    served = replace(record(100.0, kind="serve", engine="triton", precision="unknown"), name="load")
    served = replace(served, measurements={"concurrency-4": served.measurements["end_to_end"]})
    assert " triton concurrency-4 valid=true " in told(Item("ncf", "served"), served)
    engine = record(100.0, kind="inference", engine="openvino", precision="int8")
    assert " int8 ×1 openvino valid=true " in told(Item("ncf", "engines"), engine)
    assert " bf16 ×8 valid=true " in told(Item("ncf", "ranks", 8), record(100.0))
