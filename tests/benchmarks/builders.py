"""Measurements and records made by hand."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.measure import Ratio, Warmup, Window, Windows, summarise
from benchmarks.record import Kind, ProtocolUsed, Record, Validity, Workload, new_record

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
