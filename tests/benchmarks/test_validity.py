"""Every code that speaks against a record, triggered by what it stands for."""

import csv
import dataclasses
import itertools
import json
import os
import time
from pathlib import Path

import pytest
import torch

from benchmarks import validity
from benchmarks.measure import More, Ratio, interleave
from benchmarks.record import SCHEMA_FILE, Evidence, Ranks
from benchmarks.telemetry import Telemeter
from benchmarks.validity import Seen, drift, is_steady, judge, superlinear
from benchmarks.work import Utilisation, count_work, peak_of, utilisation
from benchmarks.worker import worker_of
from tests.benchmarks.builders import ENVIRONMENT, GPU, windows
from tests.benchmarks.fake_nvml import Card, Session

UUID = "11111111-aaaa-bbbb-cccc-000000000001"
ON_GPU = ENVIRONMENT | {"gpus": [GPU], "device": "cuda:0"}


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


def verdict(measured=None, *, environment=ENVIRONMENT, data="real", **seen):
    evidence = {field.name: seen.pop(field.name) for field in dataclasses.fields(Evidence) if field.name in seen}
    told = Seen(evidence=Evidence(**evidence), **seen)
    return judge({"train": measured or windows()}, environment=environment, data=data, seen=told)


def session_of(**card):
    """What is seen of a measurement while a card answers so."""
    session = Session(Card(f"GPU-{UUID}", **card))
    with Telemeter([UUID], session, period=0.01) as telemeter:
        with telemeter.watch("train"):
            time.sleep(0.05)
        return {"worker": worker_of([UUID], session), "telemetry": {"train": telemeter.of("train")}}


def test_validity_has_a_test_of_every_code():
    known = json.loads(SCHEMA_FILE.read_text())["$defs"]["finding"]["properties"]["code"]["enum"]
    tests = Path(__file__).read_text() + Path(__file__).with_name("test_record.py").read_text()
    elsewhere = {"UNEQUAL_TIME", "OTHER_COMMIT"}  # of own data's comparison, where its own tests trigger them
    assert [code for code in known if f'"{code}"' not in tests and code not in elsewhere] == []


def test_validity_of_a_cool_gpu_of_our_own():
    assert verdict(environment=ON_GPU, **session_of(processes=[[os.getpid()]])).valid


@pytest.mark.parametrize("bits", [0x8, 0x20, 0x40, 0x80])
def test_validity_throttled_by_heat_or_a_fault(bits):
    found = verdict(environment=ON_GPU, **session_of(reasons=[bits]))
    assert codes(found.reasons) == ["THROTTLED"]


def test_validity_throttled_by_a_lowered_limit_only():
    """A GPU at its own limit does all that it can; one whose limit was lowered does not."""
    assert verdict(environment=ON_GPU, **session_of(reasons=[0x4])).valid
    assert codes(verdict(environment=ON_GPU, **session_of(reasons=[0x4], limit_w=350.0)).reasons) == ["THROTTLED"]


def test_validity_a_gpu_shared_with_others():
    found = verdict(environment=ON_GPU, **session_of(processes=[[os.getpid(), 1]]))
    assert codes(found.reasons) == ["BUSY_GPU"]


def test_validity_another_gpu_than_the_one_that_worked():
    seen = session_of()
    other = worker_of([UUID.replace("1", "3")], Session(Card(f"GPU-{UUID.replace('1', '3')}")))
    assert codes(verdict(environment=ON_GPU, worker=other, telemetry=seen["telemetry"]).reasons) == ["WRONG_GPU"]
    unknown = worker_of([UUID], Session())
    assert codes(verdict(environment=ON_GPU, worker=unknown).reasons) == ["WRONG_GPU"]


def test_validity_more_than_the_ranks_can_do():
    ranks = Ranks(size=4, scaling="weak", alone="00c0ffee", alone_samples_per_s=100.0, together_samples_per_s=460.0)
    assert codes(verdict(ranks=ranks).reasons) == ["SUPERLINEAR"]
    assert verdict(ranks=dataclasses.replace(ranks, together_samples_per_s=430.0)).valid


def test_validity_refuses_the_published_row_of_190_times():
    with (Path(SCHEMA_FILE).with_name("published.csv")).open(newline="") as stream:
        rows = [
            row for row in csv.DictReader(stream) if row["gpu"] == "H100-SXM5-80GB (Dell)" and row["model"] == "ncf"
        ]
    alone, together = sorted(rows, key=lambda row: int(row["num_gpus"]))
    told = superlinear(int(together["num_gpus"]), float(together["value"]), float(alone["value"]))
    assert "190 times" in told


def test_validity_above_the_roof():
    """A loop that counts every sample twice: four times the roof's work is claimed."""
    factor = torch.randn(64, 64)
    work = count_work(lambda: (torch.mm(factor, factor), 1)[1])
    assert work.flop_per_sample == 2 * 64**3
    claimed = utilisation(work, 4e12 / work.flop_per_sample, precision="fp32", probe=probe_of(tflops=1.0), gpu=None)
    assert claimed.mfu == pytest.approx(4.0)
    assert codes(verdict(utilisation=claimed).reasons) == ["ABOVE_ROOF"]
    noisy = verdict(utilisation=claimed, probe=dataclasses.replace(probe_of(), busy_share=0.2))
    assert noisy.valid
    assert codes(noisy.warnings) == ["ABOVE_ROOF"]


def test_validity_above_a_data_sheets_peak():
    sheet = Utilisation(tflops=200.0, gb_s=None, mfu=None, mfu_of_peak=1.6, peak_source="a data sheet")
    assert codes(verdict(utilisation=sheet).reasons) == ["ABOVE_ROOF"]


def test_validity_a_whole_quicker_than_its_slower_part():
    """The loader of the part alone works for each batch; the whole is handed the same batch again."""

    def load() -> int:
        time.sleep(0.04)
        return 1

    def compute() -> int:
        time.sleep(0.001)
        return 1

    sides = {"data_only": load, "compute_only": compute, "end_to_end": compute}
    found = interleave(sides, warmup_seconds=0.06, rounds=5, block_seconds=0.08)
    overlap = found.ratio("end_to_end", "data_only", "compute_only")
    assert codes(verdict(overlap=overlap).reasons) == ["OVERLAP_ABOVE_ONE"]
    assert verdict(overlap=Ratio(median=1.05, interval=(0.74, 1.07), pairs=9)).valid


def test_validity_outputs_that_differ():
    found = verdict(mismatch="openvino int8: 3 of 8 answers differ from the trained model's.")
    assert codes(found.reasons) == ["OUTPUT_MISMATCH"]


def test_validity_a_smoke_run_is_labelled_and_never_too_short():
    short = windows(seconds=0.2, count=3)
    assert "TOO_SHORT" in codes(verdict(short).reasons)
    found = verdict(
        dataclasses.replace(short, busy_share=0.9, warmup=dataclasses.replace(short.warmup, seconds=0.1)), smoke=True
    )
    assert found.valid
    assert codes(found.warnings) == ["BUSY_MACHINE", "SMOKE"]
    assert codes(verdict(windows(seconds=0.01, count=2), smoke=True).reasons) == ["TOO_SHORT"]


def test_validity_noise_is_a_warning_where_everything_was_shrunk():
    assert codes(verdict(windows(spread=0.3)).reasons) == ["UNSTEADY"]
    found = verdict(windows(spread=0.3), smoke=True)
    assert found.valid
    assert codes(found.warnings) == ["UNSTEADY", "SMOKE"]


def test_validity_the_cpu_beside_a_gpu_only_where_it_was_not_asked_for():
    beside = ENVIRONMENT | {"gpus": [GPU]}
    assert codes(verdict(environment=beside).reasons) == ["CPU_FALLBACK"]
    assert verdict(environment=beside, cpu_asked=True).valid


def test_validity_steadiness_is_the_intervals_width_and_the_drift():
    """Windows that scatter by 5 % are many enough to be told to 10 %; a machine that slows down is not steady."""
    rising = windows(spread=0.05, count=20)
    scattered = dataclasses.replace(rising, windows=rising.windows[::2] + rising.windows[::-2])
    assert is_steady(scattered)
    assert verdict(scattered).valid
    slowing = windows(spread=-0.08, count=20)
    assert drift(slowing) == pytest.approx(-0.16, abs=0.01)
    assert "drifted by -16%" in verdict(slowing).reasons[0].text
    assert drift(windows(count=3, spread=-0.08)) == 0


def test_validity_asks_for_more_windows_before_it_gives_up(monkeypatch):
    """One step in seven takes six times as long: five windows cannot tell the rate, and more of them can."""
    pattern = itertools.cycle([0.001] * 6 + [0.006])

    def step() -> int:
        time.sleep(next(pattern))
        return 1

    monkeypatch.setattr(validity, "UNSTEADY_WIDTH", 0.02)
    more = More(most_rounds=30, wanted=lambda found: not is_steady(found.sides["train"]))
    found = interleave({"train": step}, warmup_seconds=0.02, rounds=5, block_seconds=0.03, more=more).sides["train"]
    assert 5 < len(found.windows) <= 30
    fixed = interleave(
        {"train": step},
        warmup_seconds=0.02,
        rounds=5,
        block_seconds=0.03,
        more=dataclasses.replace(more, wanted=lambda found: False),
    ).sides["train"]
    assert len(fixed.windows) == 5


def test_validity_made_up_data_is_told():
    assert codes(verdict(data="synthetic").warnings) == ["SYNTHETIC_DATA"]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A10G", 70), ("NVIDIA A10", 125), ("NVIDIA L40S", 362.05), ("NVIDIA L40", 181.05), ("NVIDIA L4", 121),
        ("NVIDIA H200", 989.5), ("NVIDIA H100 80GB HBM3", 989.5), ("NVIDIA H100 PCIe", 756),
    ],
)  # fmt: skip
def test_a_peak_belongs_to_its_whole_name(name, tflops):
    assert peak_of(name, "fp16").dense_tflops == tflops


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G-24Q", "nvidia a10", "NVIDIA RTX 9999", "H200", "NVIDIA A100-SXM4-80GB MIG 1g.10gb"]
)
def test_an_unknown_gpu_has_no_peak(name):
    assert peak_of(name, "bf16") is None
    work = count_work(lambda: (torch.ones(3) + 1, 1)[1])
    found = utilisation(work, 100.0, precision="bf16", probe=None, gpu=name)
    assert (found.mfu, found.mfu_of_peak, found.bandwidth_of_peak, found.peak_source) == (None, None, None, None)


def probe_of(*, tflops=1.0, cache=0, copy=100.0):
    from benchmarks.probe import Probe

    return Probe(
        matmul_tflops={"fp32": tflops}, copy_gb_s=copy, host_to_device_gb_s=None, launch_us=2.0, jpeg_per_s_core=400.0,
        jpeg_kilobytes=110.0, cores=2, read_gb_s=1.0, cache_bytes=cache, busy_share=0.0,
    )  # fmt: skip
