"""Both sides of the click benchmark: the kit's step and loader, and those of others, over the very same rows."""

import itertools
import multiprocessing
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from benchmarks.measure import MeasurementError, Step
from benchmarks.peers.click_peers import PeerBatch, PeerStep, PerTableDlrm, dataset_batches
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.prepare.command import progress
from challenges.recommendation.clicks.prepare.engine import Local
from challenges.recommendation.clicks.prepare.job import Job, Options
from challenges.recommendation.clicks.prepare.walk import prepare
from challenges.recommendation.clicks.prepared import Prepared
from challenges.recommendation.clicks.recipes import TablesConfig
from challenges.recommendation.clicks.spec import Categorical, Dense, FeatureSpec
from challenges.recommendation.clicks.synthetic import SyntheticRows, synthetic_spec
from challenges.recommendation.dlrm.recipes import DlrmConfig, DlrmRecipe
from challenges.recommendation.dlrm.task import DlrmTask
from common.machine.precision import select_precision
from common.run.recipe import OptimizerConfig, TrainingConfig
from common.training.step import TrainStep
from common.training.task import Batch, StepSettings

NUMBERS, COLUMNS = 13, 26
BOTTOM, TOP = (512, 256, 64), (512, 256)
BATCHES = 4
"""In memory, which a step without a loader takes in turns."""
MEMORY_STEPS = 3
CPU = torch.device("cpu")
Peer = Literal["dlrm-sparse-adagrad", "dense-adam"]
What = Literal["step", "loader", "together"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The work. rows: of all tables together. clicks: rows of the log that a loader reads."""

    batch: int = 16_384
    rows: int = 10_000_000
    width: int = 16
    peer: Peer = "dlrm-sparse-adagrad"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    clicks: int = 500_000


class OurStep:
    """The kit's training step over batches that come one after the other."""

    def __init__(self, shape: Shape, batches: Iterator[Batch]) -> None:
        rows = shape.rows // COLUMNS
        spec = FeatureSpec(
            dense=tuple(Dense(name=f"number {i}") for i in range(NUMBERS)),
            categorical=tuple(Categorical(name=f"column {i}", cardinality=rows) for i in range(COLUMNS)),
        )
        recipe = DlrmRecipe(
            summary="a benchmark",
            tables=TablesConfig(width=shape.width),
            model=DlrmConfig(bottom=BOTTOM, top=TOP),
            optimizer=OptimizerConfig(name="adamw", peak_lr=1e-3, schedule="constant"),
            training=TrainingConfig(batch_size=shape.batch, precision=shape.precision),
        )
        self.task = DlrmTask(recipe, spec)
        settings = StepSettings(select_precision(shape.precision, CPU), CPU)
        self._step = TrainStep(self.task, self.task.optimizers(1000, 100.0), settings)
        self._batches, self._done = batches, 0
        self.loss = torch.zeros(())

    def __call__(self) -> int:
        batch = next(self._batches)
        self.loss = self._step([batch], self._done)["loss"]
        self._done += 1
        return len(batch["label"])


def made_up_batch(shape: Shape, seed: int) -> Batch:
    """Ids by a power law, in memory."""
    random = torch.Generator().manual_seed(seed)
    rows = shape.rows // COLUMNS
    ranks = rows ** torch.rand(shape.batch, COLUMNS, generator=random, dtype=torch.float64)
    return {
        "dense": torch.randn(shape.batch, NUMBERS, generator=random),
        "categorical": ranks.int().clamp_(max=rows) - 1,
        "label": (torch.rand(shape.batch, generator=random) < 0.25).float(),
    }


def peer_step(shape: Shape, batches: Iterator[PeerBatch]) -> PeerStep:
    is_sparse = shape.peer == "dlrm-sparse-adagrad"
    model = PerTableDlrm(shape.rows // COLUMNS, COLUMNS, NUMBERS, shape.width, BOTTOM, TOP, is_sparse=is_sparse)
    return PeerStep(model, batches, is_sparse=is_sparse)


def prepared_clicks(shape: Shape, folder: Path) -> Prepared:
    """Made-up rows as `kit prepare` writes them; MeasurementError where a column has more ids than a table rows."""
    job = Job(
        reader=SyntheticRows(shape.clicks),
        spec=synthetic_spec(),
        options=Options(threshold=2),
        output=folder / "clicks",
    )
    prepared = prepare(job, "synthetic", Local(), lambda step, count: progress(Console(), step, count))
    most, rows = max(column.cardinality for column in prepared.spec.categorical), shape.rows // COLUMNS
    if most > rows:
        raise MeasurementError(
            f"A column of the log has {most:,} ids, and the tables have {rows:,} rows each.",
            "Every id needs a row.",
            "Ask for more rows or fewer clicks.",
        )
    return prepared


def sides(shape: Shape, what: What, folder: Path) -> tuple[dict[str, Step], Callable[[], bool]]:
    """Ours and the peer's by name, and whether our last loss was finite."""
    if what == "step":
        batches = [made_up_batch(shape, seed) for seed in range(BATCHES)]
        theirs = itertools.cycle([PeerBatch.of(batch) for batch in batches])
        step = OurStep(shape, itertools.cycle(batches))
        return {"ours": step, shape.peer: peer_step(shape, theirs)}, lambda: bool(step.loss.isfinite())
    log = prepared_clicks(shape, folder)
    ours = ClickData(log, device=CPU).train_batches(0, shape.batch, 1)
    others = dataset_batches(log.split("train"), shape.batch)
    if what == "loader":
        loaded: dict[str, Step] = {
            "ours": lambda: len(next(ours)["label"]),
            "dataset-dataloader": lambda: len(next(others).label),
        }
        return loaded, lambda: True
    step = OurStep(shape, ours)
    return {"ours": step, shape.peer: peer_step(shape, others)}, lambda: bool(step.loss.isfinite())


def peak_gib(shape: Shape, side: Literal["ours", "peer"]) -> float:
    """The largest memory of a process of its own that takes a few steps in, Python and torch included."""
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_few_steps, args=(shape, side, there))
    process.start()
    there.close()
    try:
        kibibytes: int = here.recv()
    except EOFError:
        raise MeasurementError(
            f"The process of {side} ended before it was done.", "Its memory was to be told."
        ) from None
    process.join()
    return kibibytes / 2**20


def _few_steps(shape: Shape, side: Literal["ours", "peer"], answer: "multiprocessing.connection.Connection") -> None:
    batch = made_up_batch(shape, 0)
    step: Step
    if side == "ours":
        step = OurStep(shape, itertools.repeat(batch))
    else:
        step = peer_step(shape, itertools.repeat(PeerBatch.of(batch)))
    for _ in range(MEMORY_STEPS):
        step()
    answer.send(_peak_kibibytes())


def _peak_kibibytes() -> int:
    """This process's largest memory: getrusage would tell its parent's, where that had more when it started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])  # type: ignore[index]  # Linux always has it
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
