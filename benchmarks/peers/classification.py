"""Challenge 1's speed side by side with what one would write without the kit.

    python -m benchmarks.peers.classification loader --data FOLDER    DALI against DataLoader + Pillow, equal workers
    python -m benchmarks.peers.classification step   --data FOLDER    our step against a plain fp32 NCHW loop

Every command writes one record under benchmarks/results. Works that are compared run in turns within one process.
"""

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from benchmarks.bench import Asked, Bench, opened
from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.peers.photographs import PillowLoader, plain_training_step
from benchmarks.record import ProtocolUsed, Record, Workload, new_record
from benchmarks.throughput import TrainingWork
from benchmarks.validity import judge
from challenges.classification.data import PhotographData
from common.machine.device import DeviceChoice, select_device
from common.machine.processes import usable_cores
from common.vision.resnet import Depth


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long; the batch is by default 16 on a CPU (64 for loaders) and 256 on a GPU."""

    data: Path | None = None
    """The folder of photographs; generated ones where none is given."""
    batch: int | None = None
    workers: int | None = None
    """DALI's threads, and the peer's processes; by default one per core."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool = False
    cuda_graphs: bool = False
    device: DeviceChoice = "auto"
    rounds: int = 10
    block_seconds: float = 5.0
    """Time of one work in one round; at least one step."""
    warmup_seconds: float = 5.0
    settle_seconds: float = 1.0
    """Untimed time at the start of a block, in which queues that filled meanwhile are emptied."""
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""
    depth: Depth = 50
    size: int = 224
    """Side of the square that the network sees."""
    draft: bool = False
    """Let the peer decode large JPEG files at a fraction of their size: less work for nearly the same pixels."""

    def asked(self, what: str) -> Asked:
        """The recipe `photos`, not fitted to the data, at this size."""
        on_gpu = select_device(self.device).type == "cuda"
        fields = {
            "fit": "none",
            "model.depth": self.depth,
            "data.threads": self.workers or usable_cores(),
            "preprocessing.crop": self.size,
            "preprocessing.resize": max(256, self.size),
            "training.precision": self.precision,
        }
        switches = [
            f"--training.{name if wanted else 'no-' + name}"
            for name, wanted in (("compile", self.compile), ("cuda-graphs", self.cuda_graphs))
        ]
        return Asked(
            model="resnet50",
            recipe="photos",
            data=self.data,
            batch=self.batch or (256 if on_gpu else 64 if what == "loader" else 16),
            overrides=(*(part for name, value in fields.items() for part in (f"--{name}", str(value))), *switches),
            device=self.device,
        )


def measure(bench: Bench, settings: Settings, steps: Mapping[str, Step], *, settle: bool) -> Interleaved:
    return interleave(
        steps,
        warmup_seconds=settings.warmup_seconds,
        rounds=settings.rounds,
        block_seconds=settings.block_seconds,
        settle_seconds=settings.settle_seconds if settle else 0.0,
        clock=bench.clock(),
    )


def compare_loaders(bench: Bench, settings: Settings) -> Record:
    """Our DALI batches against DataLoader + Pillow on the same files, with as many workers as DALI has threads."""
    assert isinstance(bench.data, PhotographData)
    train, batches = bench.data.train, bench.batches()
    peer = PillowLoader(
        [Path(train.root) / path for path in train.paths],
        train.labels.tolist(),
        batch_size=bench.batch_size,
        workers=settings.workers or usable_cores(),
        size=settings.size,
        draft=settings.draft,
        device=str(bench.device),
    )
    pillow = iter(peer)

    def load_ours() -> int:
        return len(next(batches)["images"])

    def load_theirs() -> int:
        return len(next(pillow)["images"])

    found = measure(bench, settings, {"dali": load_ours, "pillow": load_theirs}, settle=True)
    return _comparison(bench, settings, "loader", found, bench.workload("dali", "fp32"))


def compare_steps(bench: Bench, settings: Settings) -> Record:
    """Our training step against a plain fp32 NCHW loop: the same weights, the same batch."""
    fixed, work = bench.fixed_batch(), TrainingWork(bench)
    plain = plain_training_step(copy.deepcopy(bench.task().model).to(bench.device), fixed)  # type: ignore[arg-type]
    found = measure(bench, settings, {"ours": lambda: work(fixed), "plain": plain}, settle=False)
    return _comparison(bench, settings, "step", found, bench.workload(), losses_finite=work.losses_were_finite)


MEASUREMENTS: Mapping[str, Callable[[Bench, Settings], Record]] = {"loader": compare_loaders, "step": compare_steps}


def main(what: Annotated[Literal["loader", "step"], tyro.conf.Positional], settings: Settings) -> int:
    """Hold challenge 1 against a plain loader or loop and write a record.

    Args:
        what: loader (DALI or Pillow), step (ours or plain fp32).
    """
    console = Console()
    command = ("python", "-m", "benchmarks.peers.classification", *sys.argv[1:])
    with opened(settings.asked(what), console, command) as bench:
        publish(MEASUREMENTS[what](bench, settings), settings.output, console)
    return 0


def _comparison(
    bench: Bench, settings: Settings, name: str, found: Interleaved, workload: Workload, losses_finite: bool = True
) -> Record:
    environment = bench.environment()
    ratios = {"/".join(found.sides): found.ratio(*found.sides)}
    validity = judge(
        found.sides, environment=environment, data=bench.data_kind, ratios=ratios, losses_finite=losses_finite
    )
    return new_record(
        kind="comparison",
        name=name,
        workload=replace(workload, model=f"resnet{settings.depth}"),
        protocol=ProtocolUsed.interleaved(settings),
        measurements=found.sides,
        ratios=ratios,
        details=bench.details(),
        validity=validity,
        command=bench.command,
        environment=environment,
    )


if __name__ == "__main__":
    run_command(main)
