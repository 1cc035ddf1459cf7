"""Challenge 2's training speed: a step in its parts.

    python -m benchmarks.detection_training --data FOLDER    data-only, compute-only and end-to-end images per second

Compute holds what the trainer does with a batch: matching boxes to default boxes, forward, loss, backward, clipping and
update, without the moving average of the weights. Writes one record under benchmarks/results.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.record import Workload
from benchmarks.training import TrainingBench, TrainingSettings, measure_training, require_batch
from challenges.detection.challenge import DetectionChallenge
from challenges.detection.data import SceneData
from challenges.detection.demo import is_demo
from challenges.detection.recipes import RECIPES, DetectionRecipe
from challenges.detection.task import DetectionTask
from common.machine.device import select_device
from common.machine.precision import select_precision


@dataclass(frozen=True, kw_only=True)
class Settings(TrainingSettings):
    """What to measure, and for how long; the batch is by default 8 on a CPU and 64 on a GPU."""

    recipe: Literal["demo", "small", "finetune", "coco"] = "small"
    depth: Literal[18, 34, 50, 101, 152] | None = None
    """By default the recipe's."""


@dataclass(frozen=True)
class Bench(TrainingBench):
    """An untrained detector and the scenes that it would train on."""

    settings: Settings
    recipe: DetectionRecipe
    data: SceneData

    def task(self) -> DetectionTask:
        torch.manual_seed(self.recipe.training.seed)
        return DetectionTask(self.recipe, self.data.num_classes, self.data.validation)

    def workload(self, engine: str, precision: str) -> Workload:
        training, crop = self.recipe.training, self.recipe.preprocessing.crop
        return Workload(
            challenge="detection",
            model=f"ssd{crop}-resnet{self.recipe.model.depth}",
            engine=engine,
            batch=self.batch_size,
            input_shape=(3, crop, crop),
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
        """How large the images are, and how full."""
        train = self.data.train
        pixels = train.widths.astype(float) * train.heights
        return {
            "training_images": float(len(train)),
            "mean_megapixels": float(pixels.mean()) / 1e6,
            "mean_boxes": float(len(train.boxes) / len(train)),
            "classes": float(self.data.num_classes),
        }


def open_bench(settings: Settings, command: tuple[str, ...], console: Console) -> Bench:
    """Check the scenes and choose device, precision and batch size.

    Raises KitError where the data has fewer training images than a batch.
    """
    device = select_device(settings.device)
    batch_size = settings.batch or (64 if device.type == "cuda" else 8)
    base = RECIPES[settings.recipe]
    recipe = replace(
        base,
        model=replace(base.model, depth=settings.depth or base.model.depth),
        data=replace(base.data, threads=settings.threads()),
        training=replace(
            base.training,
            batch_size=batch_size,
            micro_batch=batch_size,
            precision=settings.precision,
            compile=settings.compile,
            cuda_graphs=settings.cuda_graphs,
        ),
    )
    challenge = DetectionChallenge()
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
        data_kind="demo" if is_demo(root) else "real",
        device=device,
        precision=select_precision(settings.precision, device),
        workers=settings.threads(),
        command=command,
    )


def main(settings: Settings) -> int:
    """Measure a detector's training and write a record."""
    console = Console()
    bench = open_bench(settings, ("python", "-m", "benchmarks.detection_training", *sys.argv[1:]), console)
    publish(measure_training(bench), settings.output, console)
    return 0


if __name__ == "__main__":
    run_command(main)
