"""Measurements and records made by hand."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.measure import Ratio, Warmup, Window, Windows, summarise
from benchmarks.probe import Probe
from benchmarks.record import (
    Evidence,
    Kind,
    ProtocolUsed,
    Ranks,
    Record,
    Validity,
    Workload,
    new_record,
    split_of,
)
from benchmarks.telemetry import Telemetry
from benchmarks.validity import Seen, judge
from benchmarks.work import Work
from benchmarks.worker import Gpu, Worker

ENVIRONMENT: dict[str, Any] = {
    "kit": {"version": "0.1.0", "commit": "0123456789abcdef", "dirty": False},
    "python": "3.11.7",
    "packages": {"torch": "2.13.0"},
    "cpu": {"model": "AMD EPYC 9B45", "cores": 2, "features": ["avx512_bf16"]},
    "memory_gb": 25.3,
    "gpus": [],
    "platform": "Debian 12, Linux 6.1, x86_64",
    "device": "cpu",
    "precision": "bf16",
    "world_size": 1,
}
GPU = {"name": "NVIDIA H200", "memory_gb": 150.1, "driver": "580.95.05"}
WORKLOAD = Workload(
    challenge="classification",
    model="resnet50",
    engine="torch",
    batch=32,
    input_shape=(3, 224, 224),
    precision="bf16",
    sample_unit="image",
    data="real",
    dataset="dogs_cats",
)
PROTOCOL = ProtocolUsed(name="windows", version=1, warmup_seconds=5.0, windows=5, window_seconds=4.0)


def windows(rate: float = 100.0, *, seconds: float = 4.0, count: int = 5, spread: float = 0.0) -> Windows:
    """`count` windows of 10 steps around `rate` samples per second."""
    rates = rate * (1 + spread * np.linspace(-1, 1, count))
    timed = [Window(seconds=seconds * rate / value, steps=10, samples=int(rate * seconds)) for value in rates]
    return summarise(Warmup(seconds=2.0, steps=4, steady=True), timed, [seconds / 10] * 10 * count, busy_share=0.01)


def record(
    rate: float = 100.0,
    *,
    valid: Validity | None = None,
    created: str = "2026-11-20T10:00:00Z",
    environment: dict[str, Any] | None = None,
    protocol: ProtocolUsed = PROTOCOL,
    kind: Kind = "train",
    ratio: float | None = None,
    **workload: Any,
) -> Record:
    measurements = {"end_to_end": windows(rate)}
    ratios = {}
    if ratio is not None:
        measurements = {"ours": windows(rate * ratio), "peer": windows(rate)}
        ratios = {"ours/peer": Ratio(median=ratio, interval=(ratio * 0.97, ratio * 1.03), pairs=5)}
    made = new_record(
        kind=kind,
        name="loader" if kind == "comparison" else "train",
        workload=dataclasses.replace(WORKLOAD, **workload),
        protocol=protocol,
        measurements=measurements,
        ratios=ratios,
        validity=valid or Validity(valid=True),
        command=["python", "-m", "benchmarks.peers.classification", "train"],
        environment=environment or ENVIRONMENT,
    )
    return dataclasses.replace(made, created=created)


def planted(
    gpu: str,
    compute: float,
    data: float,
    *,
    ranks: tuple[int, float, float] | None = None,
    memory_gb: float = 25.8,
    cores: int = 8,
    energy_j: float | None = None,
    **workload: Any,
) -> Record:
    """A training's record as a machine with this GPU would write it; rates in images per second.

    ranks: how many, what one reached, and what all reach together.
    """
    size, alone, together = ranks or (1, None, None)
    overlap = 0.98
    rate = together or min(compute, data) * overlap
    parts = {"data_only": windows(data), "compute_only": windows(compute), "end_to_end": windows(rate)}
    ratio = Ratio(median=overlap, interval=(overlap - 0.01, overlap + 0.01), pairs=5)
    worker = Worker(
        gpus=tuple(Gpu(name=gpu, uuid=f"{n:012d}", memory_gb=memory_gb) for n in range(size)), driver="580.95.05"
    )
    roofs = Probe(
        matmul_tflops={"bf16": compute * 0.08, "fp16": compute * 0.08},
        copy_gb_s=compute * 2.0,
        host_to_device_gb_s=20.0,
        launch_us=5.0,
        jpeg_per_s_core=data / cores,
        jpeg_kilobytes=110.0,
        cores=cores,
        read_gb_s=2.0,
        cache_bytes=1 << 20,
        busy_share=0.0,
        ranks=size,
    )
    counted = Work(
        flop_per_sample=24.5e9,
        bytes_per_sample=1.4e9,
        least_bytes_per_sample=0.9e9,
        step_bytes=32 * 0.9e9,
        operators=1200,
        synchronisations=0,
        allocations=900,
    )
    shared = Ranks(
        size=size,
        scaling="weak" if ranks else None,
        alone="00c0ffee" if ranks else None,
        alone_samples_per_s=alone,
        together_samples_per_s=together,
    )
    telemetry = {} if energy_j is None else {"end_to_end": Telemetry(gpus=("0",), readings=200, energy_j=energy_j)}
    environment = ENVIRONMENT | {"gpus": [GPU | {"name": gpu}], "device": "cuda:0", "world_size": size}
    made = record(environment=environment, **({"model": "resnet50/imagenet-90e"} | workload))
    seen = Seen(evidence=Evidence(worker=worker, ranks=shared))
    return dataclasses.replace(
        made,
        measurements=parts,
        split=split_of(parts["data_only"], parts["compute_only"], parts["end_to_end"], ratio),
        details={"training_samples": 1_281_167.0, "mean_file_kilobytes": 110.0},
        validity=judge(parts, environment=environment, data="real", seen=seen),
        evidence=Evidence(worker=worker, probe=roofs, work=counted, ranks=shared, telemetry=telemetry),
    )
