"""Where a detector's time goes: every boundary from the file to the boxes, side by side in one process.

    python -m benchmarks.detection RUN [--images FOLDER] [--batch 1 8] [--device cpu]

The figure that NVIDIA publishes for SSD300 is the forward pass alone. The record holds it beside what a user waits for,
in two chains of one engine each: with suppression, preprocessing and decoding in torch (in the details as
`headline_...`), and from the exported graph, which holds suppression, to a real Triton over the network. Writes one
record per batch size under benchmarks/results; percentiles of a step are in its measurements. Every step ends with the
device idle, as an answer does that someone waits for.
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
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.detection_stages import Stages
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.record import DataKind, ProtocolUsed, Record, Validity, Workload, environment_of, new_record
from benchmarks.served import no_server, serving
from benchmarks.validity import judge
from challenges.detection.challenge import CHALLENGE
from challenges.detection.demo import is_demo
from challenges.detection.task import DetectionTask
from common.challenge import Trained
from common.errors import KitError
from common.machine.device import DeviceChoice, select_device
from common.machine.precision import Precision, select_precision
from common.machine.processes import usable_cores
from common.run.run_directory import RunDirectory
from common.serving.encoded import padded
from common.serving.server import LocalServer
from common.stages.deployment import Choice, chosen, engines
from common.vision.image_folders import list_images

WHOLE = "file to boxes"
CHAIN = {  # what the published figure shrinks to, in torch, from one boundary to the next: detail -> measurement
    "headline_1_forward_only_as_published": "forward",
    "headline_2_and_suppression": "forward and suppression",
    "headline_3_and_preprocessing": "pixels to boxes (torch)",
    "headline_4_and_decoding": "file to boxes (torch)",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    images: Path | None = None
    """A folder of images; by default the run's validation images."""
    batch: tuple[int, ...] = (1, 8)
    """Images per step; one record each."""
    device: DeviceChoice = "auto"
    rounds: int = 10
    block_seconds: float = 2.0
    warmup_seconds: float = 2.0
    settle_seconds: float = 0.3
    server: bool = True
    """Also through Triton, where this machine has its files."""
    output: Path | None = None


@dataclass(frozen=True)
class Bench:
    """A trained detector, the engine it is served with, and a batch of encoded images."""

    trained: Trained[Any, Any, Any]
    choice: Choice
    encoded: list[np.ndarray]
    dataset: str
    data_kind: DataKind
    device: torch.device
    precision: Precision

    @property
    def count(self) -> int:
        return len(self.encoded)

    def stages(self) -> Stages:
        task = self.trained.task
        assert isinstance(task, DetectionTask)
        return Stages(task, self.trained.recipe, self.encoded, self.device, self.precision)


def open_bench(run: Path, batch: int, images: Path | None, device: torch.device) -> Bench:
    """Raises KitError where the run is no exported detector, or the batch is larger than what it takes or there is."""
    directory = RunDirectory.open(run)
    if directory.description()["model"] != CHALLENGE.model:
        raise KitError(f"{run} is a run of {directory.description()['model']}.", "Detectors are measured here.")
    trained = Trained.load(CHALLENGE, directory)
    scenes = trained.data.validation
    root = scenes.root if images is None else images
    paths = (
        scenes.paths.tolist()
        if images is None
        else [file.path for file in list_images(root, "A folder of images.").files]
    )
    largest = trained.task.signature().batch.maximum
    most = min(len(paths), largest)
    if not 1 <= batch <= most:
        raise KitError(
            f"A batch of {batch} was asked for.",
            f"The exported graph takes up to {largest}, and {root} has {len(paths)} images.",
            f"Give --batch of at most {most}.",
        )
    return Bench(
        trained=trained,
        choice=chosen(directory, "auto"),
        encoded=[np.frombuffer((root / path).read_bytes(), np.uint8) for path in paths[:batch]],
        dataset=root.resolve().name,
        data_kind="demo" if is_demo(root) else "real",
        device=device,
        precision=select_precision("auto", device),
    )


def boundaries(
    bench: Bench, stages: Stages, server: LocalServer | None, stack: contextlib.ExitStack
) -> dict[str, Step]:
    """Every stage alone, and the chains; each step answers for the whole batch."""
    works = stages.works()
    images = stages.images.cpu().contiguous().numpy()
    wanted = ("onnxruntime fp32", "openvino fp32", "tensorrt fp32", "tensorrt fp16", bench.choice.label)
    for runner in engines(bench.trained.run):
        stack.enter_context(runner)
        if runner.label in wanted:
            works[f"forward to boxes ({runner.label})"] = _answering(runner, lambda: images)
        if runner.label == bench.choice.label:
            works[WHOLE] = _answering(runner, lambda: stages.prepare().cpu().numpy())
    if server is not None:
        request = {"encoded": padded([file.tobytes() for file in bench.encoded])}
        for protocol in ("http", "grpc"):
            client = stack.enter_context(server.client(protocol))
            works[f"Triton over {protocol}"] = _asking(client, request)
    return {name: _counted(work, bench.count, bench.device) for name, work in works.items()}


def _answering(runner: Any, images: Callable[[], np.ndarray]) -> Callable[[], object]:
    return lambda: runner({"images": images()})


def _asking(client: Any, request: dict[str, np.ndarray]) -> Callable[[], object]:
    return lambda: client.infer(CHALLENGE.model, request)


def _counted(work: Callable[[], object], count: int, device: torch.device) -> Step:
    def step() -> int:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return count

    return step


def record_of(bench: Bench, settings: Settings, found: Interleaved, megapixels: float) -> Record:
    """The record: every boundary beside the forward pass alone, and the network beside the same engine without it."""
    environment = environment_of(device=str(bench.device), precision=bench.precision.name)
    ratios = {f"{side}/forward": found.ratio(side, "forward") for side in found.sides if side != "forward"}
    ratios |= {f"{side}/{WHOLE}": found.ratio(side, WHOLE) for side in found.sides if side.startswith("Triton")}
    speed = {name: found.sides[side].samples_per_s.median for name, side in CHAIN.items()}
    crop = bench.trained.recipe.preprocessing.crop
    return new_record(
        kind="comparison",
        name="end-to-end",
        workload=Workload(
            challenge="detection",
            model=f"{CHALLENGE.model}/{bench.trained.run.description()['recipe']}",
            engine=bench.choice.engine,
            batch=bench.count,
            input_shape=(3, crop, crop),
            precision=bench.choice.precision,
            sample_unit="image",
            data=bench.data_kind,
            dataset=bench.dataset,
            memory_format="channels_last",
            workers=usable_cores(),
        ),
        protocol=ProtocolUsed.interleaved(settings),
        measurements=found.sides,
        ratios=ratios,
        details={
            "mean_megapixels": megapixels,
            "backbone_layers": float(bench.trained.recipe.model.depth),
            **{f"{name}_images_per_s": value for name, value in speed.items()},
        },
        validity=strict(judge(found.sides, environment=environment, data=bench.data_kind, ratios=ratios)),
        command=("python", "-m", "benchmarks.detection", *sys.argv[1:]),
        environment=environment,
    )


def strict(validity: Validity) -> Validity:
    """The verdict with a busy machine as a reason.

    Stages use threads differently, and what else runs slows them unequally: on two cores busy by two thirds, a network
    alone measured 23.7 images/s, and 30.9 with preprocessing before it.
    """
    busy = tuple(finding for finding in validity.warnings if finding.code == "BUSY_MACHINE")
    warnings = tuple(finding for finding in validity.warnings if finding.code != "BUSY_MACHINE")
    return Validity(valid=validity.valid and not busy, reasons=validity.reasons + busy, warnings=warnings)


def measure(bench: Bench, settings: Settings, server: LocalServer | None) -> Record:
    stages = bench.stages()
    with contextlib.ExitStack() as stack:
        found = interleave(
            boundaries(bench, stages, server, stack),
            warmup_seconds=settings.warmup_seconds,
            rounds=settings.rounds,
            block_seconds=settings.block_seconds,
            settle_seconds=settings.settle_seconds,
        )
    megapixels = float(np.mean([image.shape[0] * image.shape[1] for image in stages.pixels])) / 1e6
    return record_of(bench, settings, found, megapixels)


def main(run: Annotated[Path, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a trained and exported detector.

    Args:
        run: the run directory.
    """
    console, device = Console(), select_device(settings.device)
    benches = [open_bench(run, batch, settings.images, device) for batch in settings.batch]
    with contextlib.ExitStack() as stack:
        why = no_server(benches[0].choice) if settings.server else "it was not asked for"
        if why:
            console.print(f"Triton is left out: {why}.", soft_wrap=True)
        server = None if why else stack.enter_context(serving(benches[0].trained.run, benches[0].choice))
        for bench in benches:
            record = measure(bench, settings, server)
            publish(record, settings.output, console)
            chain = ", ".join(f"{side} {record.details[f'{name}_images_per_s']:.4g}" for name, side in CHAIN.items())
            console.print(f"images/s by boundary, the first of which is what is published: {chain}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_command(main)
