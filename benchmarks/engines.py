"""A trained run's speed when it answers: one sample at a time through every engine of its export, side by side.

    python -m benchmarks.engines RUN

Writes one record under benchmarks/results; the engines run in turns within one process. A server's speed under load is
measured by `kit load`.
"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from challenges.registry import find_model
from common.challenge import Trained
from common.export.artefact import read_sidecar
from common.export.exported import artefact
from common.export.runner import Runner
from common.machine.processes import usable_cores
from common.run.run_directory import RunDirectory
from common.stages.deployment import engines

BASE = "onnxruntime fp32"  # what every engine is compared with


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long, and how hard."""

    rounds: int = 10
    block_seconds: float = 3.0
    warmup_seconds: float = 2.0
    settle_seconds: float = 0.3
    output: Path | None = None


def compare_engines(trained: Trained[Any, Any, Any], settings: Settings) -> Interleaved:
    """One sample at a time through every engine."""
    arrays, _ = next(trained.inputs("val", 1))

    def step(runner: Runner) -> Step:
        def answer() -> int:
            runner(arrays)
            return 1

        return answer

    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in engines(trained.run)]
        return interleave(
            {runner.label: step(runner) for runner in runners},
            warmup_seconds=settings.warmup_seconds,
            rounds=settings.rounds,
            block_seconds=settings.block_seconds,
            settle_seconds=settings.settle_seconds,
        )


def record_of(trained: Trained[Any, Any, Any], settings: Settings, found: Interleaved) -> Record:
    """The record of every engine's comparison with ONNX Runtime in fp32."""
    environment = environment_of(device="cpu", precision="fp32")
    ratios = {f"{side}/{BASE}": found.ratio(side, BASE) for side in found.sides if side != BASE}
    signature = read_sidecar(artefact(trained.run, "fp32")).signature
    description = trained.run.description()
    return new_record(
        kind="comparison",
        name="engines",
        workload=Workload(
            challenge="classification",
            model=f"{trained.challenge.model}/{description['recipe']}",
            engine=BASE.split()[0],
            batch=1,
            input_shape=tuple(int(size) for size in signature.inputs[0].shape),
            precision="fp32",
            sample_unit=trained.data.sample_unit,
            data="real",
            dataset=Path(description["data"]["root"]).name,
            workers=usable_cores(),
        ),
        protocol=ProtocolUsed(
            name="interleaved",
            version=1,
            warmup_seconds=settings.warmup_seconds,
            windows=settings.rounds,
            window_seconds=settings.block_seconds,
        ),
        measurements=found.sides,
        ratios=ratios,
        validity=judge(found.sides, environment=environment, data="real", ratios=ratios),
        command=("python", "-m", "benchmarks.engines", *sys.argv[1:]),
        environment=environment,
    )


def main(run: Annotated[Path, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a trained and exported run.

    Args:
        run: the run directory.
    """
    directory = RunDirectory.open(run)
    trained = Trained.load(find_model(directory.description()["model"]).load(), directory)
    record = record_of(trained, settings, compare_engines(trained, settings))
    publish(record, settings.output, Console())
    return 0


if __name__ == "__main__":
    run_command(main)
