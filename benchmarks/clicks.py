"""DLRM's training step, ours beside loops as others write them, in turns in one process.

    python -m benchmarks.clicks --batch 16384

26 tables with 10 million rows together, 16 wide, ids by a power law, and the layers of facebookresearch/dlrm's Kaggle
script. Ours is the trainer's step with row-wise Adagrad and AdamW, in the precision that it chooses by itself; the
peers train in float32: a table for every column with sparse Adagrad as facebookresearch/dlrm has it, and the
same with dense-gradient Adam as FuxiCTR, DeepCTR-Torch and torch-rechub have it.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved, Step, interleave
from benchmarks.peers.click_peers import PeerStep, PerTableDlrm
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from challenges.recommendation.clicks.recipes import TablesConfig
from challenges.recommendation.clicks.spec import Categorical, Dense, FeatureSpec
from challenges.recommendation.dlrm.recipes import DlrmConfig, DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from common.machine.precision import select_precision
from common.machine.processes import usable_cores
from common.run.recipe import OptimizerConfig, TrainingConfig
from common.training.step import TrainStep
from common.training.task import StepSettings

NUMBERS, COLUMNS = 13, 26
BOTTOM, TOP = (512, 256, 64), (512, 256)
BATCHES = 4
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    batch: int = 16_384
    rows: int = 10_000_000
    """Of all tables together."""
    width: int = 16
    peer: Literal["dlrm-sparse-adagrad", "dense-adam"] = "dlrm-sparse-adagrad"
    threads: int | None = None
    """By default one per core."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of our side."""
    rounds: int = 10
    block_seconds: float = 3.0
    warmup_seconds: float = 3.0
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


def main(settings: Settings) -> int:
    """Measure a training step of DLRM beside a peer's and write the record."""
    torch.set_num_threads(settings.threads or usable_cores())
    record = measured(settings)
    publish(record, settings.output, Console())
    return 0


def measured(settings: Settings) -> Record:
    """Both sides' samples per second, and the ratio."""
    batches = [_batch(settings, seed) for seed in range(BATCHES)]
    ours = OurStep(settings, batches)
    is_sparse = settings.peer == "dlrm-sparse-adagrad"
    model = PerTableDlrm(settings.rows // COLUMNS, COLUMNS, NUMBERS, settings.width, BOTTOM, TOP, is_sparse=is_sparse)
    sides: dict[str, Step] = {"ours": ours, settings.peer: PeerStep(model, batches, is_sparse=is_sparse)}
    found = interleave(
        sides, warmup_seconds=settings.warmup_seconds, rounds=settings.rounds, block_seconds=settings.block_seconds
    )
    return _record(settings, found, ours)


class OurStep:
    """The kit's training step over a few batches, again and again."""

    def __init__(self, settings: Settings, batches: list[dict[str, Tensor]]) -> None:
        spec = FeatureSpec(
            dense=tuple(Dense(name=f"number {i}") for i in range(NUMBERS)),
            categorical=tuple(
                Categorical(name=f"column {i}", cardinality=settings.rows // COLUMNS) for i in range(COLUMNS)
            ),
        )
        recipe = DlrmRecipe(
            summary="a benchmark",
            tables=TablesConfig(width=settings.width),
            model=DlrmConfig(bottom=BOTTOM, top=TOP),
            optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, schedule="constant"),
            training=TrainingConfig(batch_size=settings.batch, precision=settings.precision),
        )
        self.precision = select_precision(settings.precision, CPU)
        task = DlrmTask(recipe, spec)
        self._step = TrainStep(task, task.optimizers(1000, 100.0), StepSettings(self.precision, CPU))
        self._batches, self._done = batches, 0
        self.loss = torch.zeros(())

    def __call__(self) -> int:
        batch = self._batches[self._done % len(self._batches)]
        self.loss = self._step([batch], self._done)["loss"]
        self._done += 1
        return len(batch["label"])


def _batch(settings: Settings, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    rows = settings.rows // COLUMNS
    ids = (rows ** torch.rand(settings.batch, COLUMNS, generator=random, dtype=torch.float64)).int().clamp_(
        max=rows
    ) - 1
    return {
        "dense": torch.randn(settings.batch, NUMBERS, generator=random),
        "categorical": ids,
        "label": (torch.rand(settings.batch, generator=random) < 0.25).float(),
    }


def _record(settings: Settings, found: Interleaved, ours: OurStep) -> Record:
    precision = cast(Literal["fp32", "bf16"], ours.precision.name)
    environment = environment_of(device="cpu", precision=precision)
    ratios = {f"ours/{settings.peer}": found.ratio("ours", settings.peer)}
    return new_record(
        kind="comparison",
        name="dlrm-step",
        workload=Workload(
            challenge="recommendation", model="dlrm", engine="torch", batch=settings.batch,
            input_shape=(NUMBERS + COLUMNS,), precision=precision, sample_unit="row", data="synthetic",
            dataset="power law",
        ),
        protocol=ProtocolUsed(
            name="interleaved", version=1, warmup_seconds=settings.warmup_seconds, windows=settings.rounds,
            window_seconds=settings.block_seconds,
        ),
        measurements=found.sides,
        ratios=ratios,
        details={
            "rows": float(settings.rows), "width": float(settings.width), "threads": float(torch.get_num_threads()),
        },
        validity=judge(
            found.sides, environment=environment, data="synthetic", ratios=ratios,
            losses_finite=bool(ours.loss.isfinite()),
        ),
        command=("python", "-m", "benchmarks.clicks", *sys.argv[1:]),
        environment=environment,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
