"""Challenge 1's speed: a training step in its parts, and side by side with what one would write without the kit.

    python -m benchmarks.peers.classification train --data FOLDER   data, compute, end-to-end images per second
    python -m benchmarks.peers.classification loader --data FOLDER  DALI against DataLoader + Pillow, with equal workers
    python -m benchmarks.peers.classification step --data FOLDER    our step against a plain fp32 NCHW loop

Every command writes one record under benchmarks/results. Works that are compared run in turns within one process.
"""

import copy
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved
from benchmarks.peers.photographs import PillowLoader, plain_training_step
from benchmarks.record import Record, Workload, new_record
from benchmarks.training import (
    TrainingBench,
    TrainingSettings,
    TrainingWork,
    loading,
    measure_training,
    require_batch,
)
from benchmarks.validity import judge
from challenges.classification.challenge import ClassificationChallenge
from challenges.classification.data import PhotographData
from challenges.classification.recipes import RECIPES, ClassificationRecipe
from challenges.classification.task import ClassificationTask
from common.machine.device import select_device
from common.machine.precision import select_precision
from common.vision.resnet import Depth

MODEL_OF_DEPTH = "resnet{}"


@dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """What to measure, and for how long; the batch is by default 16 on a CPU (64 for loaders) and 256 on a GPU."""

    depth: Depth = 50
    size: int = 224
    """Side of the square that the network sees."""
    draft: bool = False
    """Let the peer decode large JPEG files at a fraction of their size: less work for nearly the same pixels."""


@dataclass(frozen=True)
class Bench(TrainingBench):
    """Everything that the three measurements share."""

    settings: Settings
    recipe: ClassificationRecipe
    data: PhotographData

    def task(self) -> ClassificationTask:
        torch.manual_seed(self.recipe.training.seed)
        return ClassificationTask(self.recipe, self.data.class_counts)

    def workload(self, engine: str, precision: str) -> Workload:
        training, size = self.recipe.training, self.settings.size
        return Workload(
            challenge="classification",
            model=MODEL_OF_DEPTH.format(self.settings.depth),
            engine=engine,
            batch=self.batch_size,
            input_shape=(3, size, size),
            precision=precision,  # type: ignore[arg-type]  # one of precision.py's names
            sample_unit=self.data.sample_unit,
            data=self.data_kind,
            dataset=self.dataset,
            memory_format="channels_last" if training.channels_last else "contiguous",
            compile=training.compile,
            cuda_graphs=training.cuda_graphs,
            workers=self.workers,
        )

    def details(self) -> dict[str, float]:
        """How large the files are: what a decoder's speed depends on."""
        train = self.data.train
        pixels = train.widths.astype(float) * train.heights
        return {
            "training_images": float(len(train.paths)),
            "mean_file_kilobytes": float(train.sizes.mean()) / 1000,
            "mean_megapixels": float(pixels.mean()) / 1e6,
        }


def compare_loaders(bench: Bench) -> Record:
    """Our DALI batches against DataLoader + Pillow on the same files, with as many workers as DALI has threads."""
    train = bench.data.train
    files = [Path(train.root) / path for path in train.paths]
    peer = PillowLoader(
        files,
        train.labels.tolist(),
        batch_size=bench.batch_size,
        workers=bench.workers,
        size=bench.settings.size,
        draft=bench.settings.draft,
        device=str(bench.device),
    )
    sides = {"dali": loading(bench.batches()), "pillow": loading(iter(peer))}
    found = bench.measure(sides, settle=True)
    return _comparison(bench, "loader", found, ("dali", "pillow"), bench.workload("dali", "fp32"))


def compare_steps(bench: Bench) -> Record:
    """Our training step against a plain fp32 NCHW loop: the same weights, the same batch."""
    task, fixed = bench.task(), bench.fixed_batch()
    plain = plain_training_step(copy.deepcopy(task.model).to(bench.device), fixed)
    work = TrainingWork(task, bench.recipe, bench.device, bench.precision)
    found = bench.measure({"ours": lambda: work(fixed), "plain": plain}, settle=False)
    workload = bench.workload("torch", bench.precision.name)
    return _comparison(bench, "step", found, ("ours", "plain"), workload, losses_finite=work.losses_were_finite)


def open_bench(what: str, settings: Settings, command: tuple[str, ...], console: Console) -> Bench:
    """Check the photographs and choose device, precision and batch size.

    Raises KitError where the data has fewer training images than a batch.
    """
    device = select_device(settings.device)
    workers = settings.threads()
    on_cpu = 64 if what == "loader" else 16
    batch_size = settings.batch or (256 if device.type == "cuda" else on_cpu)
    base = RECIPES["photos"]
    recipe = replace(
        base,
        model=replace(base.model, depth=settings.depth),
        data=replace(base.data, threads=workers),
        preprocessing=replace(base.preprocessing, crop=settings.size, resize=max(256, settings.size)),
        training=replace(
            base.training,
            batch_size=batch_size,
            micro_batch=batch_size,
            precision=settings.precision,
            compile=settings.compile,
            cuda_graphs=settings.cuda_graphs,
        ),
    )
    challenge = ClassificationChallenge()
    root = settings.data or challenge.demo_data(console)
    with tempfile.TemporaryDirectory() as folder:
        challenge.check(root, recipe, Path(folder), console)
        data = challenge.open_data(recipe, Path(folder), device)
    require_batch(data, batch_size, root)
    return Bench(
        settings=settings,
        recipe=recipe,
        data=data,
        dataset=root.resolve().name,
        data_kind="demo" if settings.data is None else "real",
        device=device,
        precision=select_precision(settings.precision, device),
        workers=workers,
        command=command,
    )


MEASUREMENTS: Mapping[str, Callable[[Bench], Record]] = {
    "train": measure_training,
    "loader": compare_loaders,
    "step": compare_steps,
}


def main(what: Annotated[Literal["train", "loader", "step"], tyro.conf.Positional], settings: Settings) -> int:
    """Measure challenge 1 and write a record.

    Args:
        what: train (data, compute and both), loader (DALI or Pillow), step (ours or plain fp32).
    """
    console = Console()
    bench = open_bench(what, settings, ("python", "-m", "benchmarks.peers.classification", *sys.argv[1:]), console)
    publish(MEASUREMENTS[what](bench), settings.output, console)
    return 0


def _comparison(
    bench: Bench,
    name: str,
    found: Interleaved,
    sides: tuple[str, str],
    workload: Workload,
    losses_finite: bool = True,
) -> Record:
    environment = bench.environment()
    ratios = {"/".join(sides): found.ratio(*sides)}
    return new_record(
        kind="comparison",
        name=name,
        workload=workload,
        protocol=bench.protocol(),
        measurements=found.sides,
        ratios=ratios,
        details=bench.details(),
        validity=judge(
            found.sides, environment=environment, data=bench.data_kind, ratios=ratios, losses_finite=losses_finite
        ),
        command=bench.command,
        environment=environment,
    )


if __name__ == "__main__":
    run_command(main)
