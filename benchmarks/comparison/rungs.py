"""Where the rest went: from a data sheet's peak down to what a training really does, each loss named."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.record import Record
from benchmarks.work import peak_of

LOSSES = {
    "data sheet": "",
    "measured roof": "what no program reaches of the data sheet",
    "memory-bound floor": "waiting for memory",
    "compute only": "launches, small operators and imperfect kernels",
    "end to end": "waiting for data",
    "of each rank": "talking to other ranks",
}
"""Rungs from the top, and what is lost on the way down to each."""


@dataclass(frozen=True)
class Rung:
    """samples_per_s: of one device, if nothing below this rung were in the way; loss: the share lost since the last."""

    name: str
    samples_per_s: float
    lost_to: str
    loss: float


def rungs(record: Record) -> list[Rung]:
    """The record's known rungs, from the top; shares that are left multiply to the whole.

    Empty where the work of a step was not counted. A rung above the one before it has a loss below zero, which a wrong
    roof or count has, too.
    """
    found: list[Rung] = []
    for name, rate in _rates(record):
        above = found[-1].samples_per_s if found else rate
        found.append(Rung(name, rate, LOSSES[name], 1 - rate / above))
    return found


def _rates(record: Record) -> Iterator[tuple[str, float]]:
    work, roofs = record.evidence.work, record.evidence.probe
    if work is None or "compute_only" not in record.measurements:
        return
    gpus, ranks = record.evidence.worker.gpus, record.evidence.ranks
    peak = peak_of(gpus[0].name, record.workload.precision) if gpus else None
    has_products = work.flop_per_sample > 0
    if peak is not None and has_products:
        yield "data sheet", peak.dense_tflops * 1e12 / work.flop_per_sample
    roof = roofs.matmul_tflops.get(record.workload.precision) if roofs is not None else None
    if roof is not None and has_products:
        yield "measured roof", roof * 1e12 / work.flop_per_sample
    if roofs is not None and work.least_bytes_per_sample and work.step_bytes / ranks.size > roofs.cache_bytes:
        bound = roofs.copy_gb_s * 1e9 / work.least_bytes_per_sample
        computed = roof * 1e12 / work.flop_per_sample if roof is not None and has_products else bound
        yield "memory-bound floor", 1 / (1 / bound + 1 / computed) if computed != bound else bound
    alone = ranks.alone_samples_per_s
    if ranks.size > 1 and alone is not None and ranks.together_samples_per_s is not None:
        yield "end to end", alone
        yield "of each rank", ranks.together_samples_per_s / ranks.size
        return
    yield "compute only", record.measurements["compute_only"].samples_per_s.median
    if "end_to_end" in record.measurements:
        yield "end to end", record.measurements["end_to_end"].samples_per_s.median
