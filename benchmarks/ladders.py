"""One model in several precisions and batches, and its forward pass alone: computing, with no data to wait for."""

import gc
from collections.abc import Sequence
from dataclasses import replace

import torch

from benchmarks.bench import Bench
from benchmarks.measure import Interleaved, Step, Windows
from benchmarks.probe import Probe, precisions_of
from benchmarks.record import Evidence, Record
from benchmarks.throughput import Timing, TrainingWork, record_of, watched, with_work
from benchmarks.work import count_work
from common.machine.precision import select_precision
from common.training.task import Batch

WORTH_IT = 1.02  # of the throughput before: what doubling a batch has to bring to be doubled again


def measure_precisions(bench: Bench, timing: Timing, roofs: Probe | None) -> Record | None:
    """The training step in every precision of the device, in turns; None where there is but one."""
    names = precisions_of(bench.device)
    if len(names) < 2:
        return None
    fixed = bench.fixed_batch()
    works = {name: TrainingWork(bench, select_precision(name, bench.device)) for name in names}
    steps = {name: _in_precision(work, name, fixed, bench.device) for name, work in works.items()}
    found, evidence = watched(bench, steps, timing, roofs)
    select_precision(bench.precision.name, bench.device)
    finite = all(work.losses_were_finite for work in works.values())
    ratios = {f"{name}/{names[0]}": found.ratio(name, names[0]) for name in names[1:]}
    return record_of(bench, timing, found, evidence, name="precision", finite=finite, ratios=ratios)


def measure_batches(bench: Bench, timing: Timing, roofs: Probe | None) -> Record | None:
    """The training step at doubled batches until memory ends or doubling brings less than 2 %.

    Among the details are the best batch, and the one that had no memory where there is one. None where a batch cannot
    be repeated, since its tensors do not all have a sample in each row.
    """
    fixed = bench.fixed_batch()
    if any(value.ndim == 0 or len(value) != bench.batch_size for value in fixed.values()):
        return None
    quick = replace(timing, rounds=3, most_rounds=3, settle_seconds=0.0)
    sides: dict[str, Windows] = {}
    refused: dict[str, float] = {}
    size, best, evidence = bench.batch_size, bench.batch_size, Evidence()
    while True:
        name = f"batch-{size}"
        try:
            found, seen = watched(bench, {name: _repeated(bench, fixed, size)}, quick, roofs)
        except torch.OutOfMemoryError:
            refused = {"out_of_memory_batch": float(size)}
            break
        sides |= found.sides
        evidence = replace(seen, telemetry=evidence.telemetry | seen.telemetry)
        gained = sides[name].samples_per_s.median / sides[f"batch-{best}"].samples_per_s.median
        if size > best and gained < WORTH_IT:
            break
        best, size = size, 2 * size
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    if not sides:
        raise torch.OutOfMemoryError(f"a batch of {size} has no memory")
    record = record_of(bench, quick, Interleaved(sides), evidence, name="batch")
    return replace(record, details={**record.details, "best_batch": float(best), **refused})


def measure_forward(bench: Bench, timing: Timing, roofs: Probe | None) -> Record:
    """The forward pass of the module that would be exported, in torch, on a batch that stays in memory."""
    task = bench.task().place(bench.device, channels_last=bench.recipe.training.channels_last).eval()
    module = task.inference_module().to(bench.device).eval()
    names = [spec.name for spec in task.signature().inputs]
    batch = bench.fixed_batch()
    inputs = {name: value for name, value in batch.items() if name in names}
    if set(inputs) != set(names):
        inputs = {name: array.to(bench.device) for name, array in _evaluated(bench, names).items()}
    samples = len(next(iter(inputs.values())))

    def forward() -> int:
        with torch.inference_mode(), bench.precision.context(bench.device):
            module(**inputs)
        return samples

    work = count_work(forward)
    found, evidence = watched(bench, {"inference": forward}, timing, roofs)
    evidence = with_work(evidence, bench, work, found.sides["inference"].samples_per_s.median)
    record = record_of(bench, timing, found, evidence, name="forward")
    return replace(record, workload=replace(record.workload, batch=samples))


def _evaluated(bench: Bench, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Inputs as an exported model is asked with, of the first validation samples."""
    arrays = next(iter(bench.challenge.served.labelled_inputs(bench.data, "val", bench.batch_size)))[0]
    return {name: torch.from_numpy(arrays[name]) for name in names}


def _in_precision(work: TrainingWork, name: str, fixed: Batch, device: torch.device) -> Step:
    """The step after the process-wide choice between fp32 and tf32, which the one before has changed."""

    def step() -> int:
        select_precision(name, device)
        return work(fixed)

    return step


def _repeated(bench: Bench, fixed: Batch, size: int) -> Step:
    times = size // bench.batch_size
    batch = {name: value.repeat(times, *[1] * (value.ndim - 1)) for name, value in fixed.items()}
    batch = {
        name: value.contiguous(memory_format=torch.channels_last)
        if value.ndim == 4 and bench.recipe.training.channels_last
        else value
        for name, value in batch.items()
    }
    work = TrainingWork(bench.with_batch(size))
    return lambda: work(batch)
