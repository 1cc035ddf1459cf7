"""Where a detector's time goes: every boundary from the file to the boxes, side by side in one process.

    python -m benchmarks.detection RUN

The figure that NVIDIA publishes for SSD300 is the forward pass alone; the record holds it beside what a user waits for:
with suppression, with preprocessing, with decoding, and over the network through a real Triton. Writes one record under
benchmarks/results; percentiles of a step are in its measurements.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.pipeline import Pipeline
from rich.console import Console

from benchmarks.compare import group, show
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record, write
from benchmarks.validity import judge
from challenges.detection.challenge import CHALLENGE
from challenges.detection.nms import detect
from challenges.detection.task import DetectionTask
from common.dali.images import ENCODED_INPUT, serving_pipeline
from common.deployment import Choice, Trained, chosen, engines, write_repository
from common.errors import KitError
from common.precision import select_precision
from common.processes import usable_cores
from common.run_directory import RunDirectory
from common.serving.client import padded
from common.serving.payload import Payload
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer
from common.serving_stage import payload_folder

WHOLE = "file to boxes"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    batch: int = 8
    rounds: int = 10
    block_seconds: float = 2.0
    warmup_seconds: float = 2.0
    settle_seconds: float = 0.3
    server: bool = True
    """Also through Triton, where this machine has its files."""
    output: Path | None = None


@dataclass(frozen=True)
class Bench:
    """A trained detector, the engine it is served with, and a batch of encoded validation images."""

    trained: Trained
    choice: Choice
    encoded: list[np.ndarray]

    @property
    def count(self) -> int:
        return len(self.encoded)

    @property
    def pixels(self) -> float:
        """Mean megapixels of an image."""
        scenes = self.trained.data.validation
        return float((scenes.widths[: self.count].astype(float) * scenes.heights[: self.count]).mean()) / 1e6


def open_bench(run: Path, batch: int) -> Bench:
    """Raises KitError where the run is no exported detector, or has fewer validation images than a batch."""
    directory = RunDirectory.open(run)
    if directory.description()["model"] != CHALLENGE.model:
        raise KitError(f"{run} is a run of {directory.description()['model']}.", "Detectors are measured here.")
    trained = Trained.load(CHALLENGE, directory)
    scenes = trained.data.validation
    if len(scenes) < batch:
        raise KitError(f"A batch of {batch} was asked for, and there are {len(scenes)} validation images.")
    files = [scenes.root / path for path in scenes.paths[:batch]]
    return Bench(trained, chosen(directory, "auto"), [np.frombuffer(file.read_bytes(), np.uint8) for file in files])


def boundaries(bench: Bench, server: LocalServer | None, stack: contextlib.ExitStack) -> dict[str, Step]:
    """Every stage alone, and the whole; each step answers for the whole batch."""
    task, count = bench.trained.task, bench.count
    assert isinstance(task, DetectionTask)
    recipe = bench.trained.recipe
    cpu = torch.device("cpu")
    precision = select_precision("auto", cpu)
    decode = _fed(_decoding(count), bench.encoded)
    prepare = _fed(serving_pipeline(recipe.preprocessing, batch_size=count, num_threads=usable_cores()), bench.encoded)
    images = prepare()
    pixels = torch.from_numpy(images)

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode(), precision.context(cpu):
            offsets, logits = task.model(pixels)
            return offsets.float(), logits.float()

    heads = forward()
    runner = next(runner for runner in engines(bench.trained.run) if runner.label == bench.choice.label)
    stack.enter_context(runner)
    steps: dict[str, Callable[[], object]] = {
        "decode": decode,
        "decode and preprocess": prepare,
        "forward": forward,
        "box decode and suppression": lambda: detect(*heads, task.anchors, recipe.nms),
        f"forward to boxes ({bench.choice.label})": lambda: runner({"images": images}),
        WHOLE: lambda: runner({"images": prepare()}),
    }
    if server is not None:
        request = {"encoded": padded([file.tobytes() for file in bench.encoded])}
        for protocol in ("http", "grpc"):
            client = stack.enter_context(server.client(protocol))  # type: ignore[arg-type]  # one of the two
            steps[f"Triton over {protocol}"] = _asking(client, request)
    return {name: _counted(work, count) for name, work in steps.items()}


def _asking(client: Any, request: dict[str, np.ndarray]) -> Callable[[], object]:
    return lambda: client.infer(CHALLENGE.model, request)


def _counted(work: Callable[[], object], count: int) -> Step:
    def step() -> int:
        work()
        return count

    return step


def _fed(pipeline: Pipeline, encoded: list[np.ndarray]) -> Callable[[], np.ndarray]:
    """One run of a pipeline on the same files; a copy of its first output where that is an array."""
    pipeline.build()

    def run() -> np.ndarray:
        pipeline.feed_input(ENCODED_INPUT, encoded)
        (output,) = pipeline.run()
        return np.array(output.as_array()) if output.is_dense_tensor() else np.array(output.at(0))

    return run


def _decoding(batch: int) -> Pipeline:
    @pipeline_def(batch_size=batch, num_threads=usable_cores(), device_id=None, prefetch_queue_depth=1)
    def graph() -> Any:
        encoded = fn.external_source(name=ENCODED_INPUT, device="cpu", dtype=types.UINT8, ndim=1)
        return fn.decoders.image(encoded, device="cpu", output_type=types.RGB)

    return graph()


def record_of(bench: Bench, settings: Settings, found: Interleaved) -> Record:
    """The record: the forward pass alone is what every wider boundary is compared with."""
    run = bench.trained.run
    environment = environment_of(device="cpu", precision=select_precision("auto", torch.device("cpu")).name)
    ratios = {f"{side}/forward": found.ratio(side, "forward") for side in found.sides if side != "forward"}
    description, crop = run.description(), bench.trained.recipe.preprocessing.crop
    return new_record(
        kind="comparison",
        name="end-to-end",
        workload=Workload(
            challenge="detection",
            model=f"{CHALLENGE.model}/{description['recipe']}",
            engine=bench.choice.engine,
            batch=bench.count,
            input_shape=(3, crop, crop),
            precision=bench.choice.precision,
            sample_unit="image",
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
        details={"mean_megapixels": bench.pixels, "backbone_layers": float(bench.trained.recipe.model.depth)},
        validity=judge(found.sides, environment=environment, data="real", ratios=ratios),
        command=("python", "-m", "benchmarks.detection", *sys.argv[1:]),
        environment=environment,
    )


def measure(bench: Bench, settings: Settings, server: LocalServer | None) -> Interleaved:
    with contextlib.ExitStack() as stack:
        return interleave(
            boundaries(bench, server, stack),
            warmup_seconds=settings.warmup_seconds,
            rounds=settings.rounds,
            block_seconds=settings.block_seconds,
            settle_seconds=settings.settle_seconds,
        )


def main(run: Annotated[Path, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a trained and exported detector.

    Args:
        run: the run directory.
    """
    console = Console()
    bench = open_bench(run, settings.batch)
    with contextlib.ExitStack() as stack:
        server = None
        if settings.server and payload_folder().is_dir():
            repository = ModelRepository(bench.trained.run.serving)
            write_repository(CHALLENGE, bench.trained.run, bench.choice, repository, CHALLENGE.model)
            log = bench.trained.run.logs / "triton.log"
            server = stack.enter_context(LocalServer(repository.path, Payload(payload_folder()), log))
            server.wait_ready()
        else:
            console.print("Triton is left out: make triton")
        record = record_of(bench, settings, measure(bench, settings, server))
    path = write(record, settings.output)
    show(group([record]))
    for finding in (*record.validity.reasons, *record.validity.warnings):
        console.print(f"{finding.code}: {finding.text}", soft_wrap=True)
    console.print(f"RECORD valid={str(record.validity.valid).lower()} {path}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,)))
    except KitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
