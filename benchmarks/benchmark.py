"""`kit benchmark`: every model measured in one command, one record each, and a sentence about what limits it."""

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import plan as planning
from benchmarks import prices, published
from benchmarks import served as served_runs
from benchmarks.bench import Asked, chosen_recipe, opened
from benchmarks.engines import exported_run, measure_engines
from benchmarks.ladders import measure_batches, measure_forward, measure_precisions
from benchmarks.limits import limit_of, percent
from benchmarks.measure import Windows
from benchmarks.plan import Item, Plan
from benchmarks.probe import Probe, precisions_of, probe
from benchmarks.record import Like, Record, read_all, without_paths, write
from benchmarks.throughput import PARTS, Timing, measure_training, paced
from challenges.registry import MODELS, find_model
from common.challenge import Trained
from common.errors import KitError
from common.failures import explain
from common.machine.device import DeviceChoice, select_device
from common.machine.environment import ROOT, told_processor
from common.machine.prices import Price
from common.machine.processes import usable_cores
from common.terminal.console import say

FAILED = 1  # the exit code where a measurement failed, all others being done


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for; models: all where there are none. gpus and like: as given."""

    models: tuple[str, ...] = ()
    gpus: str | None = None
    minutes: float = 15.0
    like: str | None = None
    quick: bool = False
    recipe: str | None = None
    data: Path | None = None
    device: DeviceChoice = "auto"
    output: Path | None = None
    prices: Path = prices.PRICES


@dataclass
class Session:
    """One run of the command: the machine's roofs, and what was measured before."""

    request: Request
    plan: Plan
    device: torch.device
    console: Console
    command: tuple[str, ...]
    table: Sequence[Price]
    roofs: Probe | None = None

    def asked(self, item: Item) -> Asked:
        request = self.request
        asked = Asked(model=item.model, recipe=request.recipe, data=request.data, device=request.device)
        if self.plan.like is None:
            return asked
        row, protocol = self.plan.like
        precision = nearest(protocol.precision, self.device)
        told = published.differences(
            row, protocol, gpu=torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None,
            ranks=item.ranks, precision=precision,
            data="" if protocol.synthetic else request.data.name if request.data else "that the kit generates",
        )  # fmt: skip
        batch = None if protocol.batch is None or self.plan.quick else protocol.batch * item.ranks
        return replace(
            asked,
            recipe=protocol.recipe.partition("/")[2],
            batch=batch,
            overrides=protocol.overrides(precision),
            synthetic=protocol.synthetic,
            shrinks=True,
            like=Like(row=row.identifier, differences=tuple(told)),
        )


def run(request: Request, console: Console, command: Sequence[str]) -> int:
    """Plan, probe, measure, and end each model with a line and a sentence; the exit code.

    Raises KitError, before anything is measured, for what cannot be measured.
    """
    session = prepared(request, console, tuple(command))
    for line in session.plan.lines():
        say(console, line)
    _doctor(console)
    started, failed = time.perf_counter(), False
    session.roofs = probe(session.device, 0.05 if request.quick else 0.5)
    say(console, probe_line(session.roofs))
    alone: dict[str, Record] = {}  # of each model, what one process reached
    for place, item in enumerate(session.plan.items):
        remaining = session.plan.seconds - (time.perf_counter() - started)
        seconds = session.plan.share(item, session.plan.items[place:], remaining)
        try:
            for record in measured(session, item, seconds, alone.get(item.model)):
                if item.what == "train":
                    alone[item.model] = record
                _publish(session, item, record)
        except Exception as error:
            failed = True
            _tell_failure(console, item, error)
        gc.collect()
        if session.device.type == "cuda":  # other processes may need what this one keeps for itself
            torch.cuda.empty_cache()
    return FAILED if failed else 0


def prepared(request: Request, console: Console, command: tuple[str, ...]) -> Session:
    """Everything that can be refused is refused here."""
    like = None
    if request.like:
        row = published.find(request.like, published.rows())
        like = (row, published.protocol_of(row))
    planning.require_file(request.data)
    table = prices.read(request.prices)
    device = select_device(request.device)
    for model in request.models:
        chosen_recipe(Asked(model=model, recipe=request.recipe), smoke=request.quick)
    if request.data is not None and len(request.models) != 1 and like is None:
        raise KitError(
            f"--data was given to {len(request.models) or len(MODELS)} models.",
            "Each reads data of its own kind.",
            "Name the model: MODEL=resnet50",
        )
    available = torch.cuda.device_count() if device.type == "cuda" else usable_cores()
    counts = planning.rank_counts(request.gpus if request.gpus or device.type == "cuda" else "1", available)
    if like is not None:
        counts = (min(like[1].ranks, available if device.type == "cuda" else 1),) if not request.gpus else counts
    models = request.models or tuple(MODELS)
    runs = {model: run for model in models if (run := exported_run(model)) is not None}
    served = [model for model, run in runs.items() if not served_runs.why_not(run)]
    made = planning.plan_of(
        models,
        counts,
        request.minutes,
        quick=request.quick,
        on_gpu=device.type == "cuda",
        exported=list(runs),
        served=served,
        like=like,
    )
    return Session(request, made, device, console, command, table)


def measured(session: Session, item: Item, seconds: float, alone: Record | None) -> Iterator[Record]:
    """The records of one item, each as soon as it is made."""
    quick, roofs = session.request.quick, session.roofs
    if item.what == "ranks":
        yield _ranks(session, item, seconds, alone)
        return
    if item.what in ("engines", "served"):
        found = exported_run(item.model)
        assert found is not None, "a plan has these only where there is an export"
        if item.what == "served":
            logs = (session.request.output or Path("runs") / "benchmark") / "loadgen" / item.model
            yield from served_runs.measure_served(found, seconds, smoke=quick, logs=logs)
            return
        trained = Trained.load(find_model(item.model).load(), found)
        timing = Timing.within(seconds, 4, smoke=quick)  # engines are as many as the export has; four are usual
        yield from measure_engines(trained, timing, session.command, roofs=roofs)
        return
    with opened(session.asked(item), Console(quiet=True), session.command, smoke=quick) as opened_bench:
        bench = opened_bench if quick else paced(opened_bench)
        if item.what == "train":
            works = 1 if bench.asked.synthetic else len(PARTS)
            yield measure_training(bench, Timing.within(seconds, works, smoke=quick), roofs)
        elif item.what == "forward":
            yield measure_forward(bench, Timing.within(seconds, 1, smoke=quick), roofs)
        elif item.what == "precision":
            works = len(precisions_of(bench.device))
            yield from filter(None, [measure_precisions(bench, Timing.within(seconds, works, smoke=quick), roofs)])
        else:
            yield from filter(None, [measure_batches(bench, Timing.within(seconds / 4, 1, smoke=quick), roofs)])


def nearest(precision: str, device: torch.device) -> str:
    """The precision of a published row, or what this device has instead of it."""
    names = precisions_of(device)
    if precision in names:
        return precision
    return "bf16" if precision in ("fp16", "int8") and "bf16" in names else "fp32"


def benchmark_line(item: Item, record: Record, path: Path, table: Sequence[Price]) -> str:
    """For people and for `grep`: the rate and its half width, the share of the roof, and what a million costs."""
    name, windows = headline(record)
    low, high = windows.samples_per_s.interval
    rate, half = windows.samples_per_s.median, (high - low) / 2 / windows.samples_per_s.median
    shares, cloud = record.evidence.utilisation, record.evidence.worker.cloud
    parts = [f"BENCHMARK {item.model} {record.name}", f"{rate:,.4g} {record.workload.sample_unit}s/s ± {percent(half)}"]
    if record.kind == "serve":
        parts.append(f"{record.workload.engine} {name}")
    else:
        parts.append(f"{name if record.name == 'precision' else record.workload.precision} ×{item.ranks}")
    if record.kind == "inference":
        parts.append(record.workload.engine)
    if shares is not None and shares.mfu is not None:
        parts.append(f"{percent(shares.mfu)} of the measured roof")
    price = prices.price_of(cloud.instance, table) if cloud is not None else None
    if price is not None:
        parts.append(f"${prices.dollars_per_million(price.usd_per_hour, rate):.2f}/M")
    return " ".join([*parts, f"valid={str(record.validity.valid).lower()}", str(path)])


def headline(record: Record) -> tuple[str, Windows]:
    """The measurement that a record is told by: the whole, or the quickest of its sides."""
    for name in ("end_to_end", "compute_only", "inference"):
        if name in record.measurements:
            return name, record.measurements[name]
    return max(record.measurements.items(), key=lambda side: side[1].samples_per_s.median)


def probe_line(found: Probe) -> str:
    products = ", ".join(f"{name} {value:.3g}" for name, value in found.matmul_tflops.items())
    decodes = f", {found.jpeg_per_s_core:,.0f} JPEGs/s and core" if found.jpeg_per_s_core else ""
    read = f", disk {found.read_gb_s:.3g} GB/s" if found.read_gb_s else ""
    busy = f" (others used {found.busy_share:.0%} of the cores)" if found.busy_share > 0.1 else ""
    return (
        f"probe: products {products} TFLOPS, copies {found.copy_gb_s:.3g} GB/s, launches {found.launch_us:.3g} µs"
        f"{decodes} on {told_processor({'cores': found.cores})}{read}{busy}"
    )


def _with_batch_told(session: Session, item: Item, record: Record) -> Record:
    """A record beside a published row names the batch where that is another one."""
    like, row = record.evidence.like, session.plan.like
    if like is None or row is None or row[1].batch in (None, record.workload.batch // item.ranks):
        return record
    told = f"a batch of {record.workload.batch // item.ranks:,} instead of {row[1].batch:,}"
    differing = replace(like, differences=(*like.differences, told))
    return replace(record, evidence=replace(record.evidence, like=differing))


def _publish(session: Session, item: Item, record: Record) -> None:
    record = _with_batch_told(session, item, record)
    path = write(record, session.request.output or (_smoke_folder(record) if session.request.quick else None))
    console = session.console
    say(console, benchmark_line(item, record, path, session.table))
    for reason in record.validity.reasons:
        say(console, f"  {reason.code}: {reason.text}")
    if record.split is not None:
        overlap = record.split.overlap_efficiency
        low, high = overlap.interval
        say(console, f"  end-to-end is {overlap.median:.0%} of the slower part ({low:.0%} – {high:.0%})")
    if record.kind == "train" and record.name == "train":
        say(console, f"  {limit_of(record)}")
    if (like := record.evidence.like) is not None:
        told = "; ".join(like.differences)
        say(console, f"  beside {like.row}: {'not the same protocol: ' + told if told else 'same protocol'}")


def _smoke_folder(record: Record) -> Path:
    """Where a smoke run's records lie: beside no others, so that no table takes them in."""
    return Path("runs") / "benchmark" / record.device


def _ranks(session: Session, item: Item, seconds: float, alone: Record | None) -> Record:
    """A record that as many processes made, started by torchrun, each with as many samples as one alone had.

    Raises KitError with their last words where they fail.
    """
    asked, request = session.asked(item), session.request
    rate = headline(alone)[1].samples_per_s.median if alone else None
    options = {
        "--seconds": f"{6.0 if request.quick else max(55.0, seconds - 15):.0f}",
        "--device": request.device,
        "--recipe": asked.recipe,
        "--data": asked.data,
        "--batch": alone.workload.batch if alone else asked.batch and asked.batch // item.ranks,
        "--alone": f"{alone.id}:{rate:g}" if alone and rate else None,
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(item.ranks)]
    command += ["-m", "benchmarks.throughput", item.model]
    command += [str(part) for pair in options.items() if pair[1] is not None for part in pair]
    command += [f"--override={part}" for part in asked.overrides]
    command += ["--smoke"] * request.quick + ["--synthetic"] * asked.synthetic
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        limit = 4 * session.plan.seconds
        try:
            done = subprocess.run(
                [*command, "--output", folder], capture_output=True, text=True, cwd=ROOT, timeout=limit
            )
        except subprocess.TimeoutExpired:
            raise KitError(f"{item} did not end in {limit:.0f} s.", "Its processes were ended.") from None
        records = read_all([Path(folder)]) if any(Path(folder).glob("*.json")) else []
        if done.returncode or not records:
            lines = [line for line in done.stderr.splitlines() if line.strip() and "torch/distributed" not in line]
            raise KitError(f"{item} failed: {' | '.join(lines[:3]) or f'exit code {done.returncode}'}")
    evidence = replace(records[0].evidence, like=asked.like)
    return replace(records[0], evidence=evidence, command=without_paths(session.command))


def _doctor(console: Console) -> None:
    from common.stages.doctor import examine

    if not examine(console):
        say(console, "doctor: something must be mended, as the table says; what can be measured is measured.")


def _tell_failure(console: Console, item: Item, error: Exception) -> None:
    """An error of one measurement, which does not stop the others."""
    if isinstance(error, torch.OutOfMemoryError):
        say(console, f"BENCHMARK {item} out of memory: {str(error).splitlines()[0]}")
        return
    known = error if isinstance(error, KitError) else explain(error)
    told = str(known).replace("\n", " ") if known is not None else f"{type(error).__name__}: {error}"
    say(console, f"BENCHMARK {item} failed: {told}")
