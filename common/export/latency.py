"""How fast engines answer, measured side by side so that a busy machine treats all alike."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.export.runner import Arrays, Runner

ROUNDS = 10  # of turns, spread over the whole measurement
SETTLE_SECONDS = 0.03  # for the previous engine's threads to go to sleep
WARMUP_CALLS = 2  # per turn, at most, and one that takes a turn's time is enough: caches and sleeping threads


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of one call with `batch` samples, and the throughput of back-to-back calls at the median."""

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    samples_per_s: float


def measure_latencies(runners: Sequence[Runner], inputs: Arrays, *, seconds: float = 2.0) -> dict[str, Latency]:
    """Latency of each engine by label on the same inputs: `seconds` of measured calls each, in turns.

    Each turn starts with calls that are not measured. ValueError where two engines share a label.
    """
    labels = [runner.label for runner in runners]
    if len(set(labels)) != len(labels):
        raise ValueError(f"engines to compare need different labels: {labels}")
    times: dict[str, list[float]] = {label: [] for label in labels}
    for runner in runners:
        runner(inputs)  # allocation and lazy compilation
    turn = seconds / ROUNDS
    for _ in range(ROUNDS):
        for runner in runners:
            time.sleep(SETTLE_SECONDS)
            warm = time.perf_counter() + turn
            for _ in range(WARMUP_CALLS):
                runner(inputs)
                if time.perf_counter() >= warm:
                    break
            end = time.perf_counter() + turn
            while True:
                start = time.perf_counter()
                runner(inputs)
                now = time.perf_counter()
                times[runner.label].append(now - start)
                if now >= end:
                    break
    batch = len(next(iter(inputs.values())))
    return {label: _summary(batch, values) for label, values in times.items()}


def fastest(latencies: Mapping[str, Latency], passing: Iterable[str]) -> str | None:
    """The label with the smallest median among those that passed parity; None where none did."""
    allowed = [label for label in passing if label in latencies]
    return min(allowed, key=lambda label: latencies[label].p50_ms, default=None)


def _summary(batch: int, seconds: list[float]) -> Latency:
    p50, p90, p99 = np.percentile(np.array(seconds) * 1e3, (50, 90, 99)).tolist()
    return Latency(batch=batch, calls=len(seconds), p50_ms=p50, p90_ms=p90, p99_ms=p99, samples_per_s=1e3 * batch / p50)
