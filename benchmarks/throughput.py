"""How fast a model of the registry trains: data alone, computing alone, and both together, in turns.

    python -m benchmarks.throughput resnet50 --data FOLDER
    torchrun --nproc-per-node 2 -m benchmarks.throughput ncf --scaling weak

`kit benchmark` does this for every model, beside much else. Every model that the registry has is measured by the same
lines: its challenge brings data and task, the trainer's own step computes. Writes one record under benchmarks/results.
"""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from benchmarks.bench import Asked, Bench, opened
from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Clock, Interleaved, More, Ratio, Step, Watch, interleave
from benchmarks.probe import Probe, probe, with_ranks
from benchmarks.record import Evidence, ProtocolUsed, Ranks, Record, Split, new_record, split_of
from benchmarks.steps import ready_step
from benchmarks.telemetry import Telemeter
from benchmarks.validity import Seen, is_steady, judge
from benchmarks.work import Work, count_work, utilisation
from benchmarks.worker import worker_of
from common.errors import KitError
from common.machine.device import DeviceChoice
from common.machine.distributed import ALONE, World, world_from_environment
from common.machine.precision import Precision
from common.training.task import Batch

LEAST_ROUNDS, LEAST_BLOCK = 6, 2.0  # a drift needs six windows to be seen, and a record twelve seconds
STEP_SECONDS, PACING_BATCH, LEAST_BATCH = 1.0, 4, 2  # of a CPU: twenty steps fit into the shortest measurement
PARTS = ("data_only", "compute_only", "end_to_end")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long is measured.

    rounds:        of all works in turns; up to most_rounds where intervals are not narrow enough by then.
    block_seconds: of one work in one round, at least one step.
    settle_seconds: untimed, at the start of a block, in which queues that filled meanwhile are emptied.
    smoke:         everything is shrunk: the record shows that it works and is labelled so.
    """

    rounds: int
    most_rounds: int
    block_seconds: float
    warmup_seconds: float
    settle_seconds: float = 0.0
    smoke: bool = False

    @classmethod
    def within(cls, seconds: float, works: int, *, smoke: bool = False) -> "Timing":
        """Blocks with which `works` in turns take `seconds` at most, warm-ups included; less where they are steady."""
        each = seconds / works
        if smoke:
            block = each / 4.5  # three rounds and a warm-up
            return cls(rounds=3, most_rounds=3, block_seconds=block, warmup_seconds=block, smoke=True)
        block = min(5.0, max(LEAST_BLOCK, each / 16))
        settle = 0.1 * block
        most = max(LEAST_ROUNDS, int((each - 2 * block) / (block + settle)))
        return cls(
            rounds=LEAST_ROUNDS, most_rounds=most, block_seconds=block, warmup_seconds=block, settle_seconds=settle
        )


class TrainingWork:
    """The kit's training step as the trainer runs it; a call trains on a batch and returns the samples of all ranks."""

    def __init__(self, bench: Bench, precision: Precision | None = None, *, plain: bool = False) -> None:
        precision, world = precision or bench.precision, 1 if plain else bench.world.size
        self._step = ready_step(bench.task(), bench.recipe, precision, bench.device, world, plain=plain)
        self._finite = torch.ones((), dtype=torch.bool, device=bench.device)
        self._samples, self._done = bench.batch_size if world == bench.world.size else bench.share, 0

    def __call__(self, batch: Batch) -> int:
        losses = self._step([batch], self._done)
        self._done += 1
        self._finite &= losses["loss"].isfinite()
        return self._samples

    @property
    def losses_were_finite(self) -> bool:
        return bool(self._finite)


def paced(bench: Bench) -> Bench:
    """On a CPU, with the largest batch (a power of two, the recipe's at most) of which a step takes a second or less.

    A GPU's batch stays, and so does one that was asked for.
    """
    asked = bench.asked
    if bench.device.type != "cpu" or bench.world.size > 1 or (asked.batch is not None and not asked.shrinks):
        return bench
    small = bench.with_batch(min(PACING_BATCH, bench.batch_size))
    work, fixed = TrainingWork(small, plain=True), small.fixed_batch()
    work(fixed)
    started = time.perf_counter()
    work(fixed)
    each = (time.perf_counter() - started) / small.batch_size
    size = 2 ** max(0, math.floor(math.log2(STEP_SECONDS / each)))
    return bench.with_batch(min(max(size, LEAST_BATCH), bench.batch_size))


def count(bench: Bench, fixed: Batch) -> Work:
    """The work of one step, counted on a task of its own that is neither compiled nor captured, on this rank alone."""
    work = TrainingWork(bench, plain=True)
    work(fixed)  # state that an optimizer makes in its first step
    return count_work(lambda: work(fixed))


def in_turns(
    steps: Mapping[str, Step], timing: Timing, watch: Watch, clock: Clock | None = None, *, settle: bool = True
) -> Interleaved:
    """Measure works in turns, with further rounds while an interval is wide."""
    return interleave(
        steps,
        warmup_seconds=timing.warmup_seconds,
        rounds=timing.rounds,
        block_seconds=timing.block_seconds,
        settle_seconds=timing.settle_seconds if settle else 0.0,
        clock=clock,
        more=More(most_rounds=timing.most_rounds, wanted=lambda found: not all(map(is_steady, found.sides.values()))),
        watch=watch,
    )


def watched(
    bench: Bench, steps: Mapping[str, Step], timing: Timing, roofs: Probe | None, *, settle: bool = False
) -> tuple[Interleaved, Evidence]:
    """Measure a bench's works in turns, and read meanwhile what the GPUs of all ranks do; all ranks call it."""
    uuids = bench.uuids()
    with Telemeter(uuids if bench.world.is_main else []) as telemeter:
        found = in_turns(steps, timing, telemeter.watch, bench.clock(), settle=settle)
        telemetry = {name: told for name in steps if (told := telemeter.of(name)) is not None}
    return found, Evidence(worker=worker_of(uuids), probe=roofs, telemetry=telemetry, like=bench.asked.like)


def with_work(evidence: Evidence, bench: Bench, work: Work, samples_per_s: float) -> Evidence:
    """The evidence with a step's work, and with what the throughput of all ranks is of the roofs."""
    gpus = evidence.worker.gpus
    shares = utilisation(
        work, samples_per_s, precision=bench.precision.name, probe=evidence.probe, gpu=gpus[0].name if gpus else None,
        ranks=bench.world.size,
    )  # fmt: skip
    return replace(evidence, work=work, utilisation=shares)


def record_of(
    bench: Bench, timing: Timing, found: Interleaved, evidence: Evidence, *,
    name: Literal["train", "precision", "batch", "forward"], finite: bool = True,
    ratios: Mapping[str, Ratio] | None = None, split: Split | None = None,
) -> Record:  # fmt: skip
    """finite: whether all losses were; ratios: of sides that are compared with each other."""
    environment, sides = bench.environment(), found.sides
    seen = Seen(
        evidence=evidence, overlap=split.overlap_efficiency if split else None, cpu_asked=bench.asked.device == "cpu",
        smoke=timing.smoke,
    )  # fmt: skip
    return new_record(
        kind="comparison" if ratios else "inference" if name == "forward" else "train",
        name=name,
        workload=bench.workload(),
        protocol=protocol_of(timing, found),
        measurements=sides,
        split=split,
        ratios=ratios,
        details=bench.details(),
        validity=judge(
            sides, environment=environment, data=bench.data_kind, ratios=ratios, losses_finite=finite, seen=seen
        ),
        command=bench.command,
        environment=environment,
        evidence=evidence,
    )


def protocol_of(timing: Timing, found: Interleaved) -> ProtocolUsed:
    windows = max(len(side.windows) for side in found.sides.values())
    return replace(ProtocolUsed.interleaved(timing), windows=windows)


def measure_training(bench: Bench, timing: Timing, roofs: Probe | None = None, ranks: Ranks | None = None) -> Record:
    """Data-only, compute-only and end-to-end; made-up inputs have no data to wait for, and are computed only.

    ranks: of several, what one reached; all ranks call this, and the main one's record is theirs.
    """
    fixed = bench.fixed_batch()
    counted = count(bench, fixed)
    work, batches, loaded = TrainingWork(bench), bench.batches(), bench.batches()

    def load() -> int:
        next(loaded)
        return bench.batch_size

    parts: dict[str, Step] = {"compute_only": lambda: work(fixed)}
    if not bench.asked.synthetic:
        parts = {"data_only": load, **parts, "end_to_end": lambda: work(next(batches))}
    for part in parts.values():
        part()  # a cold start is no warm-up: code is compiled, kernels are chosen, a loader opens its files
    found, evidence = watched(bench, parts, timing, roofs, settle=len(parts) > 1)
    sides, size, split = found.sides, bench.world.size, None
    evidence = with_work(evidence, bench, counted, sides["compute_only"].samples_per_s.median)
    if size > 1:
        rate = (sides.get("end_to_end") or sides["compute_only"]).samples_per_s.median
        alone = ranks.alone_samples_per_s if ranks else None
        shared = replace(
            ranks or Ranks(), together_samples_per_s=rate, efficiency=rate / alone / size if alone else None
        )
        evidence = replace(evidence, probe=with_ranks(roofs, bench.device) if roofs else None, ranks=shared)
    if not bench.asked.synthetic:
        overlap = found.ratio("end_to_end", "data_only", "compute_only")
        split = split_of(sides["data_only"], sides["compute_only"], sides["end_to_end"], overlap)
    return record_of(bench, timing, found, evidence, name="train", finite=work.losses_were_finite, split=split)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    recipe: str | None = None
    """By default the first with a published target."""
    data: Path | None = None
    """The data set's folder or file; generated data where none is given."""
    batch: int | None = None
    """Samples per step over all processes."""
    override: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A recipe's flag or its value, as --override=--training.precision --override=bf16; again for each."""
    synthetic: bool = False
    """Compute on made-up inputs that stay in memory."""
    device: DeviceChoice = "auto"
    seconds: float = 150.0
    """Of the whole measurement."""
    smoke: bool = False
    """Shrunk: the demo's recipe, and a record that is labelled so."""
    scaling: Literal["weak", "strong"] = "weak"
    """Of several processes: whether --batch is of each, or of all."""
    alone: str | None = None
    """Identifier and rate of one process's record, as 00c0ffee:123.4."""
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


def main(model: Annotated[str, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a model's training and write a record.

    Args:
        model: its name, as `kit list` has it.
    """
    console, world = Console(), world_from_environment()
    batch = settings.batch
    if batch is not None and settings.scaling == "weak":
        batch *= world.size
    asked = Asked(
        model=model, recipe=settings.recipe, data=settings.data, batch=batch, overrides=settings.override,
        device=settings.device, synthetic=settings.synthetic,
    )  # fmt: skip
    command = ("python", "-m", "benchmarks.throughput", *sys.argv[1:])
    timing = Timing.within(settings.seconds, 1 if settings.synthetic else len(PARTS), smoke=settings.smoke)
    with opened(asked, console, command, smoke=settings.smoke) as bench:
        roofs = probe(bench.device, 0.05 if settings.smoke else 0.5)
        record = measure_training(bench if settings.smoke else paced(bench), timing, roofs, _ranks(world, settings))
        if world.is_main:
            publish(record, settings.output, console)
    return 0


def _ranks(world: World, settings: Settings) -> Ranks:
    if world == ALONE:
        return Ranks()
    identifier, _, rate = (settings.alone or ":").partition(":")
    try:
        alone = float(rate) if rate else None
    except ValueError:
        raise KitError(
            f"--alone is {settings.alone!r}.", "It is a record's identifier and rate, as 00c0ffee:123.4."
        ) from None
    return Ranks(size=world.size, scaling=settings.scaling, alone=identifier or None, alone_samples_per_s=alone)


if __name__ == "__main__":
    run_command(main)
