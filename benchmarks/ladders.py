"""One model in several precisions and batches, and its forward pass alone: computing, with no data to wait for."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from benchmarks.bench import Bench
from benchmarks.measure import Interleaved, Step, Windows
from benchmarks.probe import Probe
from benchmarks.record import Evidence, Record, new_record
from benchmarks.telemetry import Telemeter
from benchmarks.throughput import Timing, TrainingWork, in_turns, protocol_of
from benchmarks.validity import BUSY_SHARE, Seen, judge
from benchmarks.work import count_work, utilisation
from benchmarks.worker import worker_of
from common.machine.precision import cpu_has_bfloat16, select_precision
from common.training.task import Batch

WORTH_IT = 1.02  # of the throughput before: what doubling a batch has to bring to be doubled again
Name = Literal["precision", "batch", "forward"]


@dataclass(frozen=True)
class Climb:
    """Batches that were tried, by doubling.

    fits: those that had memory; refused: the first that had not, None where there was memory to the end.
    best: beyond which doubling brings less than 2 %.
    """

    fits: tuple[int, ...]
    refused: int | None
    best: int


def measure_precisions(bench: Bench, timing: Timing, roofs: Probe | None) -> Record | None:
    """The training step in every precision of the device, in turns; None where there is but one."""
    names = precisions_of(bench.device)
    if len(names) < 2:
        return None
    fixed = bench.fixed_batch()
    works = {name: TrainingWork(bench, select_precision(name, bench.device)) for name in names}
    steps = {name: _in_precision(work, name, fixed, bench.device) for name, work in works.items()}
    uuids = bench.uuids()
    with Telemeter(uuids) as telemeter:
        found = in_turns(steps, timing, telemeter.watch, bench.clock(), settle=False)
        evidence = Evidence(
            worker=worker_of(uuids), probe=roofs,
            telemetry={name: told for name in names if (told := telemeter.of(name)) is not None},
        )  # fmt: skip
    select_precision(bench.precision.name, bench.device)
    finite = all(work.losses_were_finite for work in works.values())
    return _record(bench, timing, found, "precision", evidence, finite=finite, base=names[0])


def precisions_of(device: torch.device) -> Sequence[str]:
    """From the widest to the narrowest that the device computes in itself."""
    if device.type == "cpu":
        return ("fp32", "bf16") if cpu_has_bfloat16() else ("fp32",)
    return ("fp32", "tf32", "bf16", "fp16") if torch.cuda.get_device_capability(device) >= (8, 0) else ("fp32", "fp16")


def measure_batches(bench: Bench, timing: Timing, roofs: Probe | None) -> tuple[Record, Climb] | None:
    """The training step at doubled batches until memory ends or doubling brings nothing.

    None where a batch cannot be repeated, since its tensors do not all have a sample in each row.
    """
    fixed = bench.fixed_batch()
    if any(value.ndim == 0 or len(value) != bench.batch_size for value in fixed.values()):
        return None
    quick = replace(timing, rounds=3, most_rounds=3, settle_seconds=0.0)
    sides: dict[str, Windows] = {}
    size = best = bench.batch_size
    refused, uuids = None, bench.uuids()
    with Telemeter(uuids) as telemeter:
        while True:
            name = f"batch-{size}"
            try:
                sides |= in_turns({name: _repeated(bench, fixed, size)}, quick, telemeter.watch, bench.clock()).sides
            except torch.OutOfMemoryError:
                refused = size
            gc.collect()
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()
            before = sides.get(f"batch-{best}")
            if refused is not None or name not in sides or before is None:
                break
            if size > best and sides[name].samples_per_s.median < WORTH_IT * before.samples_per_s.median:
                break
            best, size = size, 2 * size
        telemetry = {name: told for name in sides if (told := telemeter.of(name)) is not None}
    if not sides:
        raise torch.OutOfMemoryError(f"a batch of {refused} has no memory")
    climb = Climb(tuple(int(name.removeprefix("batch-")) for name in sides), refused, best)
    evidence = Evidence(worker=worker_of(uuids), probe=roofs, telemetry=telemetry)
    record = _record(bench, quick, Interleaved(sides), "batch", evidence)
    details = record.details | {"best_batch": float(best)}
    return replace(record, details=details | ({"out_of_memory_batch": float(refused)} if refused else {})), climb


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

    uuids, work = bench.uuids(), count_work(forward)
    with Telemeter(uuids) as telemeter:
        found = in_turns({"inference": forward}, timing, telemeter.watch, bench.clock(), settle=False)
        told = telemeter.of("inference")
    worker = worker_of(uuids)
    shares = utilisation(
        work, found.sides["inference"].samples_per_s.median, precision=bench.precision.name, probe=roofs,
        gpu=worker.gpus[0].name if worker.gpus else None,
    )  # fmt: skip
    evidence = Evidence(
        worker=worker, probe=roofs, telemetry={"inference": told} if told else {}, work=work, utilisation=shares,
        like=bench.asked.like,
    )  # fmt: skip
    record = _record(bench, timing, found, "forward", evidence)
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


def _record(
    bench: Bench, timing: Timing, found: Interleaved, name: Name, evidence: Evidence, *,
    finite: bool = True, base: str | None = None,
) -> Record:  # fmt: skip
    """base: the side that the others are compared with, where they ran in turns."""
    environment, sides, roofs = bench.environment(), found.sides, evidence.probe
    ratios = {f"{side}/{base}": found.ratio(side, base) for side in sides if side != base} if base else None
    seen = Seen(
        losses_finite=finite, worker=evidence.worker, telemetry=evidence.telemetry, utilisation=evidence.utilisation,
        cpu_asked=bench.asked.device == "cpu", smoke=timing.smoke,
        quiet_probe=roofs is not None and roofs.busy_share <= BUSY_SHARE,
    )  # fmt: skip
    return new_record(
        kind="comparison" if base else "inference" if name == "forward" else "train",
        name=name,
        workload=bench.workload(),
        protocol=protocol_of(timing, found),
        measurements=sides,
        ratios=ratios,
        details=bench.details(),
        validity=judge(sides, environment=environment, data=bench.data_kind, ratios=ratios, seen=seen),
        command=bench.command,
        environment=environment,
        evidence=evidence,
    )
