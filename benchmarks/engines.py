"""A trained run's speed when it answers: the same samples through every engine of its export, in turns.

    python -m benchmarks.engines RUN

Writes one record for each engine under benchmarks/results, filed under what the engine ran on. An engine whose answers
are not the trained model's is invalid. A server's speed under load is measured by `kit load`.
"""

import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Step
from benchmarks.probe import Probe
from benchmarks.record import Evidence, Record, Workload, environment_of, new_record
from benchmarks.telemetry import Telemeter
from benchmarks.throughput import Timing, in_turns, protocol_of
from benchmarks.validity import Seen, judge
from benchmarks.worker import uuid_of, worker_of
from challenges.registry import find_model
from common.challenge import Trained
from common.export.parity import compare
from common.export.runner import Arrays, Runner
from common.machine.processes import usable_cores
from common.run.run_directory import RunDirectory
from common.stages.deployment import engines

RUNS = Path("runs")
ON_GPU = ("tensorrt",)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long, and of how many samples a call."""

    batch: int = 1
    seconds: float = 60.0
    output: Path | None = None


def measure_engines(
    trained: Trained[Any, Any, Any], timing: Timing, command: tuple[str, ...], *, batch: int = 1,
    roofs: Probe | None = None,
) -> list[Record]:  # fmt: skip
    """A record for each engine, of calls with `batch` samples."""
    arrays: Arrays = {name: array[:batch] for name, array in next(iter(trained.inputs("val", batch)))[0].items()}
    with contextlib.ExitStack() as stack:
        runners = {runner.label: stack.enter_context(runner) for runner in engines(trained.run)}
        uuid = uuid_of(torch.device("cuda", 0)) if any(name.startswith(ON_GPU) for name in runners) else None
        uuids = [uuid] if uuid else []
        differ, absent = mismatches(trained, list(runners.values()), arrays)
        telemeter = stack.enter_context(Telemeter(uuids))
        steps = {label: _step(runner, arrays) for label, runner in runners.items() if label not in absent}
        found = in_turns(steps, timing, telemeter.watch)
        telemetry = {
            label: {"inference": told}
            for label in steps
            if label.startswith(ON_GPU) and (told := telemeter.of(label)) is not None
        }
    records = []
    for label, side in found.sides.items():
        sides, on_gpu, workload = {"inference": side}, label.startswith(ON_GPU), _workload(trained, label, arrays)
        worker = worker_of(uuids if on_gpu else [])
        evidence = Evidence(worker=worker, probe=roofs, telemetry=telemetry.get(label, {}))
        environment = environment_of(device="cuda:0" if on_gpu else "cpu", precision=workload.precision)
        seen = Seen(evidence=evidence, mismatch=differ.get(label, ""), smoke=timing.smoke, cpu_asked=not on_gpu)
        record = new_record(
            kind="inference", name="inference", workload=workload, protocol=protocol_of(timing, found),
            measurements=sides, validity=judge(sides, environment=environment, data="real", seen=seen),
            command=command, environment=environment, evidence=evidence,
        )  # fmt: skip
        records.append(record)
    return records


def mismatches(
    trained: Trained[Any, Any, Any], runners: list[Runner], arrays: Arrays
) -> tuple[dict[str, str], dict[str, str]]:
    """By label: how an engine's answers differ from the trained model's by its parity, and why one cannot answer."""
    size = _size(arrays)
    table = compare(trained.reference(), runners, {size: arrays}, comparison=trained.challenge.served.comparison())
    differ = {
        row.label: f"{row.label}: its answers to {size} samples are not the trained model's: {'; '.join(row.failures)}."
        for row in table.rows
        if row.failures
    }
    return differ, dict(table.left_out)


def exported_run(model: str, runs: Path = RUNS) -> RunDirectory | None:
    """The newest run of a model that was exported; None where there is none."""
    found = []
    for path in sorted(runs.glob("*/run.json")) if runs.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_text()).get("model") == model and any(path.parent.rglob("*.onnx")):
                found.append((path.stat().st_mtime, path.parent))
    return RunDirectory.open(max(found)[1]) if found else None


def _size(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _step(runner: Runner, arrays: Arrays) -> Step:
    def answer() -> int:
        runner(arrays)
        return _size(arrays)

    return answer


def _workload(trained: Trained[Any, Any, Any], label: str, arrays: Arrays) -> Workload:
    description, (engine, precision) = trained.run.description(), label.split()
    return Workload(
        challenge=find_model(trained.challenge.model).folder,
        model=f"{trained.challenge.model}/{description['recipe']}",
        engine=engine,
        batch=_size(arrays),
        input_shape=tuple(next(iter(arrays.values())).shape[1:]),
        precision=precision,  # type: ignore[arg-type]  # one of the artefacts' names
        sample_unit=trained.data.sample_unit,
        data="real",
        dataset=Path(description["data"]["root"]).name,
        workers=0 if engine in ON_GPU else usable_cores(),
    )


def main(run: Annotated[Path, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a trained and exported run.

    Args:
        run: the run directory.
    """
    directory = RunDirectory.open(run)
    trained = Trained.load(find_model(directory.description()["model"]).load(), directory)
    command = ("python", "-m", "benchmarks.engines", *sys.argv[1:])
    count = sum(1 for _ in engines(directory))
    timing = Timing.within(settings.seconds, count)
    for record in measure_engines(trained, timing, command, batch=settings.batch):
        publish(record, settings.output, Console())
    return 0


if __name__ == "__main__":
    run_command(main)
