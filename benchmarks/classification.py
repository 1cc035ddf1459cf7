"""Challenge 1's speed: a training step in its parts, and side by side with what one would write without the kit.

    python -m benchmarks.classification train  --data FOLDER    data-only, compute-only and end-to-end images per second
    python -m benchmarks.classification loader --data FOLDER    DALI against DataLoader + Pillow, with equal workers
    python -m benchmarks.classification step   --data FOLDER    our step against a plain fp32 NCHW loop

Every command writes one record under benchmarks/results. Works that are compared run in turns within one process.
"""

import copy
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from benchmarks.compare import group, show
from benchmarks.measure import Clock, CudaClock, HostClock, Interleaved, Step, interleave
from benchmarks.peers import PillowLoader, plain_training_step
from benchmarks.record import (
    DataKind,
    Kind,
    ProtocolUsed,
    Record,
    Workload,
    environment_of,
    new_record,
    split_of,
    write,
)
from benchmarks.validity import judge
from challenges.classification.challenge import ClassificationChallenge
from challenges.classification.data import PhotographData
from challenges.classification.recipes import RECIPES, ClassificationRecipe
from challenges.classification.task import ClassificationTask
from common.device import DeviceChoice, select_device
from common.errors import KitError
from common.precision import Precision, select_precision
from common.resnet import Depth
from common.step import TrainStep
from common.task import Batch

PROTOCOL_NAME, PROTOCOL_VERSION = "interleaved", 1
SCHEDULED_STEPS = 1_000_000  # the learning rate hardly moves during a benchmark
MODEL_OF_DEPTH = "resnet{}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    data: Path | None = None
    """A folder of photographs; generated ones where none is given."""
    depth: Depth = 50
    size: int = 224
    """Side of the square that the network sees."""
    batch: int | None = None
    """Images per step; by default 16 on a CPU (64 for loaders) and 256 on a GPU."""
    workers: int | None = None
    """DALI's threads, and the peer's processes; by default one per core."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    draft: bool = False
    """Let the peer decode large JPEG files at a fraction of their size: less work for nearly the same pixels."""
    device: DeviceChoice = "auto"
    rounds: int = 10
    block_seconds: float = 5.0
    """Time of one work in one round; at least one step."""
    warmup_seconds: float = 5.0
    settle_seconds: float = 1.0
    """Untimed time at the start of a block, in which queues that filled meanwhile are emptied."""
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


class TrainingWork:
    """The kit's training step on one device, as the trainer runs it."""

    def __init__(
        self, task: ClassificationTask, recipe: ClassificationRecipe, device: torch.device, precision: Precision
    ) -> None:
        task.place(device, channels_last=recipe.training.channels_last).train()
        optimizers = task.optimizers(SCHEDULED_STEPS, SCHEDULED_STEPS / 100)
        task.set_trainable(0)
        if recipe.training.compile:
            task.compile()
        self._step = TrainStep(task, optimizers, precision, device, use_cuda_graphs=recipe.training.cuda_graphs)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._done = 0

    def __call__(self, batch: Batch) -> int:
        losses = self._step([batch], self._done)
        self._done += 1
        self._finite &= losses["loss"].isfinite()
        return len(batch["images"])

    @property
    def losses_were_finite(self) -> bool:
        return bool(self._finite)


@dataclass(frozen=True)
class Bench:
    """Everything that the three measurements share."""

    settings: Settings
    recipe: ClassificationRecipe
    data: PhotographData
    dataset: str
    data_kind: DataKind
    device: torch.device
    precision: Precision
    workers: int
    command: tuple[str, ...]

    @property
    def batch_size(self) -> int:
        return self.recipe.training.batch_size

    @property
    def clock(self) -> Clock:
        return CudaClock() if self.device.type == "cuda" else HostClock()

    def batches(self) -> Iterator[Batch]:
        return self.data.train_batches(0, self.batch_size, 1)

    def fixed_batch(self) -> Batch:
        """One batch that stays in the device's memory."""
        return {name: value.clone() for name, value in next(self.batches()).items()}

    def task(self) -> ClassificationTask:
        torch.manual_seed(self.recipe.training.seed)
        return ClassificationTask(self.recipe, self.data.num_classes)

    def measure(self, steps: Mapping[str, Step], *, settle: bool) -> Interleaved:
        chosen = self.settings
        return interleave(
            steps,
            warmup_seconds=chosen.warmup_seconds,
            rounds=chosen.rounds,
            block_seconds=chosen.block_seconds,
            settle_seconds=chosen.settle_seconds if settle else 0.0,
            clock=self.clock,
        )


def loading(batches: Iterator[Batch]) -> Step:
    """A step that takes the next batch and does nothing with it."""
    return lambda: len(next(batches)["label"])


def measure_training(bench: Bench) -> Record:
    """Data-only, compute-only and end-to-end, in turns."""
    work, fixed = TrainingWork(bench.task(), bench.recipe, bench.device, bench.precision), bench.fixed_batch()
    batches = bench.batches()
    found = bench.measure(
        {
            "data_only": loading(bench.batches()),
            "compute_only": lambda: work(fixed),
            "end_to_end": lambda: work(next(batches)),
        },
        settle=True,
    )
    overlap = found.ratio("end_to_end", "data_only", "compute_only")
    sides = found.sides
    split = split_of(sides["data_only"], sides["compute_only"], sides["end_to_end"], overlap)
    environment = _environment(bench)
    return new_record(
        kind="train",
        name="train",
        workload=_workload(bench, "torch", bench.precision.name),
        protocol=_protocol(bench),
        measurements=found.sides,
        split=split,
        details=_details(bench),
        validity=judge(
            found.sides,
            environment=environment,
            data=bench.data_kind,
            losses_finite=work.losses_were_finite,
        ),
        command=bench.command,
        environment=environment,
    )


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
    return _comparison(bench, "loader", found, ("dali", "pillow"), _workload(bench, "dali", "fp32"))


def compare_steps(bench: Bench) -> Record:
    """Our training step against a plain fp32 NCHW loop: the same weights, the same batch."""
    task, fixed = bench.task(), bench.fixed_batch()
    plain = plain_training_step(copy.deepcopy(task.model).to(bench.device), fixed)
    work = TrainingWork(task, bench.recipe, bench.device, bench.precision)
    found = bench.measure({"ours": lambda: work(fixed), "plain": plain}, settle=False)
    workload = _workload(bench, "torch", bench.precision.name)
    return _comparison(bench, "step", found, ("ours", "plain"), workload, losses_finite=work.losses_were_finite)


def open_bench(what: str, settings: Settings, command: tuple[str, ...], console: Console) -> Bench:
    """Check the photographs and choose device, precision and batch size.

    Raises KitError where the data has fewer training images than a batch.
    """
    device = select_device(settings.device)
    workers = settings.workers or len(os.sched_getaffinity(0))
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
    if data.num_train < batch_size:
        raise KitError(
            f"A batch of {batch_size} was asked for, and {root} has {data.num_train} training images.",
            remedy="Give a smaller --batch or more images.",
        )
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
    bench = open_bench(what, settings, ("python", "-m", "benchmarks.classification", *sys.argv[1:]), console)
    record = MEASUREMENTS[what](bench)
    path = write(record, settings.output)
    show(group([record]))
    for finding in (*record.validity.reasons, *record.validity.warnings):
        console.print(f"{finding.code}: {finding.text}", soft_wrap=True)
    if record.split:
        overlap = record.split.overlap_efficiency.median
        console.print(f"bottleneck: {record.split.bottleneck}; end-to-end is {overlap:.0%} of the slower part")
    console.print(f"RECORD valid={str(record.validity.valid).lower()} {path}", soft_wrap=True)
    return 0


def _comparison(
    bench: Bench,
    name: str,
    found: Interleaved,
    sides: tuple[str, str],
    workload: Workload,
    losses_finite: bool = True,
) -> Record:
    environment = _environment(bench)
    ratios = {"/".join(sides): found.ratio(*sides)}
    kind: Kind = "comparison"
    return new_record(
        kind=kind,
        name=name,
        workload=workload,
        protocol=_protocol(bench),
        measurements=found.sides,
        ratios=ratios,
        details=_details(bench),
        validity=judge(
            found.sides, environment=environment, data=bench.data_kind, ratios=ratios, losses_finite=losses_finite
        ),
        command=bench.command,
        environment=environment,
    )


def _environment(bench: Bench) -> dict[str, object]:
    return environment_of(device=str(bench.device), precision=bench.precision.name)


def _protocol(bench: Bench) -> ProtocolUsed:
    chosen = bench.settings
    return ProtocolUsed(
        name=PROTOCOL_NAME,
        version=PROTOCOL_VERSION,
        warmup_seconds=chosen.warmup_seconds,
        windows=chosen.rounds,
        window_seconds=chosen.block_seconds,
    )


def _workload(bench: Bench, engine: str, precision: str) -> Workload:
    training, size = bench.recipe.training, bench.settings.size
    return Workload(
        challenge="classification",
        model=MODEL_OF_DEPTH.format(bench.settings.depth),
        engine=engine,
        batch=bench.batch_size,
        input_shape=(3, size, size),
        precision=precision,  # type: ignore[arg-type]  # one of precision.py's names
        sample_unit=bench.data.sample_unit,
        data=bench.data_kind,
        dataset=bench.dataset,
        memory_format="channels_last" if training.channels_last else "contiguous",
        compile=training.compile,
        cuda_graphs=training.cuda_graphs,
        workers=bench.workers,
    )


def _details(bench: Bench) -> dict[str, float]:
    """How large the files are: what a decoder's speed depends on."""
    train = bench.data.train
    pixels = train.widths.astype(float) * train.heights
    return {
        "training_images": float(len(train.paths)),
        "mean_file_kilobytes": float(train.sizes.mean()) / 1000,
        "mean_megapixels": float(pixels.mean()) / 1e6,
    }


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,)))
    except KitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
