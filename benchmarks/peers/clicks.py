"""DLRM's training step, a click log's loader, or both together, beside those of others, in turns in one process.

    python -m benchmarks.peers.clicks --what step --batch 16384

26 tables with 10 million rows together, 16 wide, ids by a power law, and the layers of facebookresearch/dlrm's Kaggle
script. Ours is the trainer's step with row-wise Adagrad and AdamW, in the precision that it chooses by itself; the
peers train in float32: a table for every column with sparse Adagrad as facebookresearch/dlrm has it, and the
same with dense-gradient Adam as FuxiCTR, DeepCTR-Torch and torch-rechub have it. Their loader is a Dataset over arrays
in memory with a DataLoader, ours reads and shuffles the Parquet files that `kit prepare` wrote.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import HostClock, Interleaved, ProcessorClock, interleave
from benchmarks.peers.click_sides import COLUMNS, CPU, NUMBERS, Shape, What, peak_gib, sides
from benchmarks.record import INTERLEAVED, ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from common.machine.precision import select_precision
from common.machine.processes import usable_cores

CLOCKS = {"wall": HostClock, "processor": ProcessorClock}


@dataclass(frozen=True, kw_only=True)
class Settings(Shape):
    """What to measure, and for how long."""

    what: What = "step"
    memory: bool = False
    """Also the largest memory of either side's step, each in a process of its own."""
    clock: Literal["wall", "processor"] = "wall"
    """processor: seconds of this process's threads, where others use the machine, too."""
    threads: int | None = None
    """By default one per core."""
    rounds: int = 10
    block_seconds: float = 3.0
    warmup_seconds: float = 3.0
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


def main(settings: Settings) -> int:
    """Measure both sides and write the record."""
    torch.set_num_threads(settings.threads or usable_cores())
    record = measured(settings)
    publish(record, settings.output, Console())
    return 0


def measured(settings: Settings) -> Record:
    """Both sides' samples per second, and the ratio."""
    memory = {f"{side}_peak_gib": peak_gib(settings, side) for side in ("ours", "peer")} if settings.memory else {}
    with tempfile.TemporaryDirectory() as folder:
        steps, is_finite = sides(settings, settings.what, Path(folder))
        found = interleave(
            steps, warmup_seconds=settings.warmup_seconds, rounds=settings.rounds, block_seconds=settings.block_seconds,
            clock=CLOCKS[settings.clock](),
        )  # fmt: skip
    return _record(settings, found, memory, is_finite())


def _record(settings: Settings, found: Interleaved, memory: dict[str, float], is_finite: bool) -> Record:
    chosen = "fp32" if settings.what == "loader" else select_precision(settings.precision, CPU).name
    precision = cast(Literal["fp32", "bf16"], chosen)
    environment = environment_of(device="cpu", precision=precision)
    peer = next(name for name in found.sides if name != "ours")
    ratios = {f"ours/{peer}": found.ratio("ours", peer)}
    is_read = settings.what != "step"
    data: Literal["demo", "synthetic"] = "demo" if is_read else "synthetic"
    return new_record(
        kind="comparison",
        name={"step": "dlrm-step", "loader": "click-loader", "together": "dlrm-loader-step"}[settings.what],
        workload=Workload(
            challenge="recommendation", model="dlrm", engine="torch", batch=settings.batch,
            input_shape=(NUMBERS + COLUMNS,), precision=precision, sample_unit="row", data=data,
            dataset=f"{settings.clicks} made-up clicks" if is_read else "power law",
        ),
        protocol=ProtocolUsed.interleaved(
            settings, INTERLEAVED if settings.clock == "wall" else f"{INTERLEAVED}-processor"
        ),
        measurements=found.sides,
        ratios=ratios,
        details={
            "rows": float(settings.rows), "width": float(settings.width), "threads": float(torch.get_num_threads()),
            **memory,
        },
        validity=judge(found.sides, environment=environment, data=data, ratios=ratios, losses_finite=is_finite),
        command=("python", "-m", "benchmarks.peers.clicks", *sys.argv[1:]),
        environment=environment,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
