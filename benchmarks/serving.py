"""A trained run's speed when it answers: its engines side by side, and Triton against the same engine in-process.

    python -m benchmarks.serving engines RUN     one sample at a time through every engine of the run's export
    python -m benchmarks.serving triton RUN      files in, classes out: Triton saturated, and the same work without it

Every command writes one record under benchmarks/results. What is compared runs in turns within one process.
"""

import asyncio
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tyro
from rich.console import Console

from benchmarks.compare import group, show
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record, write
from benchmarks.validity import judge
from challenges.registry import find_model
from common.dali.images import serving_pipeline
from common.deployment import Choice, Trained, artefact, engines, write_repository
from common.errors import KitError
from common.export.artefact import read_sidecar
from common.export.runner import OnnxRunner, OpenVinoRunner, Runner
from common.processes import usable_cores
from common.run_directory import RunDirectory
from common.serving.payload import Payload
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer
from common.serving_stage import payload_folder

BASE = "onnxruntime fp32"  # what every engine is compared with
FILES = 64  # images sent over and over
WAVE = 64  # images per timed step


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long, and how hard."""

    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """Engine of `triton`, on both sides."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Precision of `triton`, on both sides."""
    concurrency: int = 16
    batch: int = 8
    """Samples per call without Triton."""
    rounds: int = 10
    block_seconds: float = 3.0
    warmup_seconds: float = 2.0
    settle_seconds: float = 0.3
    output: Path | None = None


def compare_engines(trained: Trained, settings: Settings, stack: contextlib.ExitStack) -> tuple[Interleaved, str]:
    """One sample at a time through every engine."""
    arrays, _ = next(trained.inputs("val", 1))
    runners = [stack.enter_context(runner) for runner in engines(trained.run)]

    def step(runner: Runner) -> Step:
        def answer() -> int:
            runner(arrays)
            return 1

        return answer

    return _in_turns({runner.label: step(runner) for runner in runners}, settings), BASE


def compare_triton(trained: Trained, settings: Settings, stack: contextlib.ExitStack) -> tuple[Interleaved, str]:
    """Encoded files to class scores, with Triton and without it, by the same engine with the same threads."""
    files = _files(trained)
    choice = Choice(settings.engine, settings.precision, "benchmark")
    with_triton = _served(trained, choice, files, settings, stack)
    without = _in_process(trained, choice, files, settings, stack)
    return _in_turns({"triton": with_triton, "in-process": without}, settings), "in-process"


def _served(
    trained: Trained, choice: Choice, files: Sequence[np.ndarray], settings: Settings, stack: contextlib.ExitStack
) -> Step:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    repository = ModelRepository(folder / "models")
    name = trained.challenge.model
    write_repository(trained.challenge, trained.run, choice, repository, name)
    server = stack.enter_context(LocalServer(repository.path, Payload(payload_folder()), folder / "triton.log"))
    server.wait_ready()
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)
    client = loop.run_until_complete(_connect(server.url("grpc")))
    stack.callback(lambda: loop.run_until_complete(client.close()))
    requests = itertools.cycle([_request(file) for file in files])

    async def wave() -> None:
        remaining = iter(range(WAVE))

        async def sender() -> None:
            for _ in remaining:
                await client.infer(name, next(requests))

        await asyncio.gather(*(sender() for _ in range(settings.concurrency)))

    def step() -> int:
        loop.run_until_complete(wave())
        return WAVE

    return step


async def _connect(url: str) -> Any:
    return tritonclient.grpc.aio.InferenceServerClient(url)


def _request(file: np.ndarray) -> list[Any]:
    tensor = tritonclient.grpc.InferInput("encoded", [1, len(file)], "UINT8")
    tensor.set_data_from_numpy(file[None])
    return [tensor]


def _in_process(
    trained: Trained, choice: Choice, files: Sequence[np.ndarray], settings: Settings, stack: contextlib.ExitStack
) -> Step:
    path = artefact(trained.run, choice.precision)
    runner: Runner
    if choice.engine == "onnxruntime":
        runner = stack.enter_context(OnnxRunner(path, precision=choice.precision))
    else:
        runner = stack.enter_context(OpenVinoRunner(path, precision=choice.precision))
    pipeline = serving_pipeline(
        trained.recipe.preprocessing,
        batch_size=settings.batch,
        num_threads=usable_cores(),
    )
    pipeline.build()
    cycle = itertools.cycle(files)

    def step() -> int:
        for _ in range(WAVE // settings.batch):
            pipeline.feed_input("encoded", [next(cycle) for _ in range(settings.batch)])
            runner({"images": np.asarray(pipeline.run()[0].as_tensor())})
        return WAVE // settings.batch * settings.batch

    return step


def _files(trained: Trained) -> list[np.ndarray]:
    validation = trained.data.validation
    return [np.fromfile(validation.root / path, dtype=np.uint8) for path in validation.paths[:FILES]]


def _in_turns(steps: dict[str, Step], settings: Settings) -> Interleaved:
    return interleave(
        steps,
        warmup_seconds=settings.warmup_seconds,
        rounds=settings.rounds,
        block_seconds=settings.block_seconds,
        settle_seconds=settings.settle_seconds,
    )


MEASUREMENTS: dict[str, Callable[[Trained, Settings, contextlib.ExitStack], tuple[Interleaved, str]]] = {
    "engines": compare_engines,
    "triton": compare_triton,
}


def record_of(what: str, trained: Trained, settings: Settings, found: Interleaved, base: str) -> Record:
    """The record of a comparison of every side with `base`."""
    is_triton = what == "triton"
    precision = settings.precision if is_triton else "fp32"
    environment = environment_of(device="cpu", precision=precision)
    ratios = {f"{side}/{base}": found.ratio(side, base) for side in found.sides if side != base}
    signature = read_sidecar(artefact(trained.run, "fp32")).signature
    description = trained.run.description()
    return new_record(
        kind="comparison",
        name=what,
        workload=Workload(
            challenge="classification",
            model=f"{trained.challenge.model}/{description['recipe']}",
            engine=settings.engine if is_triton else base.split()[0],
            batch=settings.batch if is_triton else 1,
            input_shape=tuple(int(size) for size in signature.inputs[0].shape),
            precision=precision,  # type: ignore[arg-type]  # one of the settings' names
            sample_unit=trained.data.sample_unit,
            data="real",
            dataset=Path(description["data"]["root"]).name,
            workers=usable_cores(),
            concurrency=settings.concurrency if is_triton else None,
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
        command=("python", "-m", "benchmarks.serving", *sys.argv[1:]),
        environment=environment,
    )


def main(
    what: Annotated[Literal["engines", "triton"], tyro.conf.Positional],
    run: Annotated[Path, tyro.conf.Positional],
    settings: Settings,
) -> int:
    """Measure a trained and exported run.

    Args:
        what: engines (one sample through each) or triton (against the same engine in-process).
        run: the run directory.
    """
    directory = RunDirectory.open(run)
    trained = Trained.load(find_model(directory.description()["model"]).load(), directory)
    with contextlib.ExitStack() as stack:
        found, base = MEASUREMENTS[what](trained, settings, stack)
    record = record_of(what, trained, settings, found, base)
    path = write(record, settings.output)
    show(group([record]))
    Console().print(f"RECORD valid={str(record.validity.valid).lower()} {path}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,)))
    except KitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
