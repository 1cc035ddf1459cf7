"""A recommender's training and evaluation speed, side by side with the peer that is alive for it.

    python -m benchmarks.peers.recommendation bert4rec --data FILE --peer PYTHON      RecTools; sasrec likewise
    python -m benchmarks.peers.recommendation ncf      --data FILE --peer PYTHON      RecBole; vae_cf likewise

PYTHON is the interpreter of the peer's own environment, see rectools_peer.py and recbole_peer.py. Both sides get the
same training histories (the last item of every user held out), network sizes, batch and threads, compute on the CPU in
the same precision unless told otherwise, and take turns. Writes two records under benchmarks/results: training in
samples per second, every part of a step included, and full-ranking evaluation in users per second. With --epochs both
also learn so long and are ranked by our evaluator.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved, interleave
from benchmarks.peers.peer_process import TOP_ITEMS_FILE, Job, PeerError, PeerHistories, PeerProcess, Work
from benchmarks.peers.recommendation_sides import (
    CPU,
    FULL_RANKING,
    METRICS,
    PEER_LEARNING_RATE,
    TOP_K,
    Model,
    OurSide,
    Pair,
    metrics_of,
    pair_of,
)
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record, slug
from benchmarks.validity import judge
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import KitError
from common.machine.processes import usable_cores


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    data: Path
    """User-item histories, in any format that the kit reads."""
    peer: Path
    """Python of the peer's environment."""
    batch: int | None = None
    """Samples per training step; by default those of our recipe for MovieLens 1M."""
    threads: int | None = None
    """Threads of each side; by default one per core."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of both sides' training; rankings are always made in float32."""
    peer_precision: Literal["fp32", "bf16"] | None = None
    """Of the peer's training, where it is not to be the same."""
    rounds: int = 20
    block_seconds: float = 3.0
    """Time of one side in one round of training; at least one step. An evaluation of all users is one step."""
    warmup_seconds: float = 5.0
    epochs: int = 0
    """Epochs that both sides learn before they are ranked; 0 leaves the comparison of metrics out."""
    output: Path | None = None
    """Folder of the records; by default benchmarks/results/<device>."""


@dataclass(frozen=True)
class Bench:
    """What the measurements of one model share."""

    model: Model
    settings: Settings
    pair: Pair
    data: HistoryData
    threads: int
    folder: Path
    command: tuple[str, ...]

    def ours(self, epochs: float | None = None) -> OurSide:
        return OurSide(self.pair, self.data, epochs)

    def theirs(self, work: Work, epochs: int = 1) -> PeerProcess:
        """Raises KitError where the peer cannot be run."""
        job = Job(
            model=self.model, work=work, folder=str(self.folder), batch=self.pair.recipe.training.batch_size,
            learning_rate=PEER_LEARNING_RATE, epochs=epochs, top_k=TOP_K, threads=self.threads, sizes=self.pair.sizes,
            precision=self.settings.peer_precision or self.settings.precision,
        )  # fmt: skip
        try:
            return PeerProcess(self.settings.peer, self.pair.module, job)
        except (OSError, PeerError) as error:
            raise KitError(
                f"{self.pair.peer} does not run with {self.settings.peer}: {error}",
                "It needs an environment of its own.",
                f"{self.pair.module.replace('.', '/')}.py says which.",
            ) from None


def open_bench(model: Model, settings: Settings, folder: Path, command: tuple[str, ...], console: Console) -> Bench:
    """Split the histories and write the peer's copy of them into `folder`."""
    pair = pair_of(model)
    threads = settings.threads or usable_cores()
    torch.set_num_threads(threads)
    training = replace(
        pair.recipe.training,
        batch_size=settings.batch or pair.recipe.training.batch_size,
        precision=settings.precision,
    )
    history = HistoryConfig(protocol="leave-one-out")
    pair = replace(pair, recipe=replace(pair.recipe, history=history, training=training, evaluation=FULL_RANKING))
    pair.challenge.check(settings.data, pair.recipe, folder, console)
    data = pair.challenge.open_data(pair.recipe, folder, CPU)
    if data.num_train < training.batch_size:
        raise KitError(
            f"A batch of {training.batch_size} was asked for, and {settings.data} has {data.num_train} samples.",
            remedy="Give a smaller --batch or more data.",
        )
    split = data.split
    PeerHistories(split.train.offsets, split.train.items, split.users, split.targets.items, split.num_items).write(
        folder
    )
    return Bench(model, settings, pair, data, threads, folder, command)


def compare_training(bench: Bench, details: Mapping[str, float]) -> Record:
    """Whole training steps, from drawing the batch to the updated weights."""
    ours = bench.ours()
    with bench.theirs("train") as theirs:
        chosen = bench.settings
        name = f"{bench.pair.peer}-{theirs.version}"
        if chosen.peer_precision not in (None, chosen.precision):
            name += f"-{chosen.peer_precision}"
        found = _interleave(bench, {"ours": ours.train, name: theirs})
    return _record(bench, "train", found, name, bench.data.sample_unit, details, ours.losses_were_finite)


def compare_evaluation(bench: Bench) -> Record:
    """All items scored for all judged users, seen ones masked, the best ten found; ours with metrics and intervals."""
    ours = bench.ours()
    with bench.theirs("evaluate") as theirs:
        name = f"{bench.pair.peer}-{theirs.version}"
        found = _interleave(bench, {"ours": ours.evaluate, name: theirs})
    return _record(bench, "evaluation", found, name, "user", {})


def compare_metrics(bench: Bench) -> dict[str, float]:
    """Both sides' metrics after as many epochs, each as it optimizes (see `pair_of`), by our evaluator."""
    epochs = bench.settings.epochs
    ours = bench.ours(epochs)
    for _ in range(ours.steps):
        ours.train()
    with bench.theirs("rank", epochs):
        theirs = metrics_of(bench.data.split, np.load(bench.folder / TOP_ITEMS_FILE))
    sides = {"ours": ours.metrics(), bench.pair.peer: theirs}
    return {"epochs": float(epochs)} | {
        f"{side} {name}": found[name] for side, found in sides.items() for name in METRICS
    }


def _interleave(bench: Bench, steps: Mapping[str, Any]) -> Interleaved:
    chosen = bench.settings
    try:
        return interleave(
            steps, warmup_seconds=chosen.warmup_seconds, rounds=chosen.rounds, block_seconds=chosen.block_seconds
        )
    except PeerError as error:
        raise KitError(str(error)) from None


def _record(
    bench: Bench,
    what: str,
    found: Interleaved,
    peer: str,
    unit: str,
    details: Mapping[str, float],
    losses_finite: bool = True,
) -> Record:
    settings, split = bench.settings, bench.data.split
    precision = settings.precision if what == "train" else "fp32"
    environment = environment_of(device="cpu", precision=precision)
    ratios = {f"ours/{peer}": found.ratio("ours", peer)}
    counts = {"threads": bench.threads, "users": split.num_users, "interactions": len(split.train.items)}
    return new_record(
        kind="comparison",
        name=slug(f"{bench.model}-{what}"),
        workload=Workload(
            challenge="recommendation", model=bench.model, engine="torch", batch=bench.pair.recipe.training.batch_size,
            input_shape=(split.num_items,), precision=precision, sample_unit=unit, data="real",
            dataset=settings.data.resolve().name,
        ),
        protocol=ProtocolUsed.interleaved(settings),
        measurements=found.sides,
        ratios=ratios,
        details={name: float(value) for name, value in {**counts, **details}.items()},
        validity=judge(
            found.sides, environment=environment, data="real", ratios=ratios, losses_finite=losses_finite
        ),
        command=bench.command,
        environment=environment,
    )  # fmt: skip


def main(model: Annotated[Model, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a recommender of challenge 3 against its peer and write two records.

    Args:
        model: bert4rec and sasrec (against RecTools), ncf and vae_cf (against RecBole).
    """
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        command = ("python", "-m", "benchmarks.peers.recommendation", *sys.argv[1:])
        bench = open_bench(model, settings, Path(folder), command, console)
        details = compare_metrics(bench) if settings.epochs else {}
        records = [compare_training(bench, details), compare_evaluation(bench)]
    for name, value in details.items():
        console.print(f"{name}: {value:.4f}", soft_wrap=True)
    for record in records:
        publish(record, settings.output, console)
    return 0


if __name__ == "__main__":
    run_command(main)
