"""The best result on anyone's own interactions in equal processor time: the kit's recipes beside libraries and EASE.

    python -m benchmarks.peers.own_interactions --data FOLDER --rectools PYTHON --recbole PYTHON --seconds 60

FOLDER holds ml-100k/ml-100k.inter.gz, ml-1m/ml-1m.txt.gz and whatever else of histories --datasets names by its path
there; PYTHON are the interpreters of the peers' environments, see rectools_peer.py, recbole_peer.py and
implicit_peer.py (that of RecTools runs implicit, too). Every side is told the same histories, all but the last item of
every user, and keeps the last but one of some to choose by; one evaluator ranks all items that a user has not seen.
Processor time is the operating system's count of the side's processes from their start to the last thing learnt;
ranking comes after. A cell that has a record among the finished ones is skipped; where all sides of a data set are
there, they are joined into one record (own_table.py).
"""

import gzip
import math
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import MachineLoad, Warmup, Window, summarise
from benchmarks.peers.own_sides import COMMON
from benchmarks.peers.own_table import NAME, PROTOCOL, comparison
from benchmarks.peers.peer_process import CHOOSING, TOP_ITEMS_FILE, Job, PeerError, PeerHistories, PeerProcess
from benchmarks.peers.recommendation_sides import METRICS, PEER_LEARNING_RATE, TOP_K, metrics_of
from benchmarks.record import (
    RESULTS,
    ProtocolUsed,
    Record,
    Workload,
    environment_of,
    new_record,
    read_all,
    slug,
    write,
)
from benchmarks.validity import judge
from challenges.recommendation.histories import check
from challenges.recommendation.histories.histories import HistorySplit
from common.errors import KitError
from common.files import cache_folder

CUTS = (200, 1000, 6040)  # users of MovieLens 1M, drawn by CUT_SEED
CUT_SEED = 0
DATASETS = ("ml-100k", *(f"ml-1m-{users}" for users in CUTS))
HR, NDCG = METRICS


@dataclass(frozen=True)
class Side:
    """Who learns: a model of a driver in this package, run by one of the interpreters.

    sizes: the library's defaults where they are empty.
    """

    module: str
    model: str
    python: str
    batch: int = 0
    sizes: Mapping[str, Any] | None = None


_SMALL = {"n_factors": 64, "n_heads": 2, "session_max_len": 50}  # as wide and long as our recipe: the defaults of
# 256 and 100 take 20 times as long, and learn nothing in a minute of one core
SIDES: Mapping[str, Side] = {
    "kit-ncf": Side("own_sides", "ncf", "kit"),
    "kit-vae-cf": Side("own_sides", "vae_cf", "kit"),
    "kit-bert4rec": Side("own_sides", "bert4rec", "kit"),
    "kit-sequential-rules": Side("own_sides", "sequential_rules", "kit"),
    "kit-ease": Side("own_sides", "ease", "kit"),
    "kit-item-knn": Side("own_sides", "item_knn", "kit"),
    "kit-popularity": Side("own_sides", "popularity", "kit"),
    "implicit-als": Side("implicit_peer", "als", "rectools"),
    "rectools-sasrec": Side("rectools_peer", "sasrec", "rectools", 128, _SMALL),
    "rectools-bert4rec": Side("rectools_peer", "bert4rec", "rectools", 128, _SMALL),
    "recbole-multivae": Side("recbole_peer", "vae_cf", "recbole", 128),
    "recbole-neumf": Side("recbole_peer", "ncf", "recbole", 1024, {"negatives": 1}),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure."""

    data: Path
    """Folder with ml-100k, ml-1m and other interactions."""
    rectools: Path | None = None
    """Python of an environment with RecTools and implicit; without it these are left out."""
    recbole: Path | None = None
    datasets: tuple[str, ...] = DATASETS
    sides: tuple[str, ...] = tuple(SIDES)
    seconds: tuple[float, ...] = (60.0,)
    """Processor time of a side."""
    seeds: tuple[int, ...] = (0,)
    threads: int = 1
    cells: Path = field(default_factory=lambda: cache_folder() / "own-interactions")
    """Where the records of finished cells are kept."""
    output: Path | None = None
    """Folder of the joined records; by default benchmarks/results/<device>."""
    join: bool = False
    """Measure nothing; join the finished cells that there are."""

    def __post_init__(self) -> None:
        for name in self.datasets:
            if name not in DATASETS and not (self.data / name).exists():
                raise KitError(
                    f"There is no dataset {name!r}.", f"There are: {', '.join(DATASETS)}, and paths in {self.data}."
                )
        for name in self.sides:
            if name not in SIDES:
                raise KitError(f"There is no side {name!r}.", f"There are: {', '.join(SIDES)}.")
        if min(self.seconds) <= 0 or self.threads < 1:
            raise KitError("--seconds and --threads start above 0.")

    def python(self, side: Side) -> Path | None:
        return {"kit": Path(sys.executable), "rectools": self.rectools, "recbole": self.recbole}[side.python]


@dataclass(frozen=True)
class Cell:
    """One side's learning of one data set."""

    dataset: str
    side: str
    seconds: float
    seed: int

    @property
    def name(self) -> str:
        return slug(f"own-{self.dataset}-{self.side}-{self.seconds:g}s-seed{self.seed}")


def cells(settings: Settings) -> Iterator[Cell]:
    """Seeds outermost, so that a first answer is whole early."""
    for seed in settings.seeds:
        for seconds in settings.seconds:
            for dataset in settings.datasets:
                for side in settings.sides:
                    if settings.join or settings.python(SIDES[side]) is not None:
                        yield Cell(dataset, side, seconds, seed)


def write_interactions(folder: Path, dataset: str, output: Path) -> Path:
    """A data set's interactions as the kit reads them; of MovieLens 1M the users that were drawn."""
    if dataset == "ml-100k":
        return folder / "ml-100k" / "ml-100k.inter.gz"
    name, _, users = dataset.rpartition("-")
    if name != "ml-1m" or not users.isdecimal():
        return folder / dataset
    with gzip.open(folder / "ml-1m" / "ml-1m.txt.gz", "rt") as stream:
        lines = stream.readlines()
    owners = [line.split()[0] for line in lines]
    drawn = np.random.default_rng(CUT_SEED).permutation(sorted(set(owners)))[: int(users)]
    kept = set(drawn.tolist())
    path = output / f"{dataset}.txt"
    path.write_text("".join(line for line, owner in zip(lines, owners, strict=True) if owner in kept))
    return path


def write_histories(split: HistorySplit, folder: Path) -> None:
    """What peers are told: everything but the last items, and beside it the part without what they choose by."""
    tuning = split.tuning
    assert tuning is not None
    (folder / CHOOSING).mkdir()
    count, judged = split.num_items, np.arange(split.num_judged)
    # every judged user is a training user, in the same order: the protocol leaves the last item out of each
    PeerHistories(split.seen.offsets, split.seen.items, judged, split.targets.items, count).write(folder)
    PeerHistories(split.train.offsets, split.train.items, tuning.users, tuning.targets.items, count).write(
        folder / CHOOSING
    )


def measure(cell: Cell, data: Path, settings: Settings, command: Sequence[str]) -> Record:
    """Raises KitError where the side fails."""
    side = SIDES[cell.side]
    python = settings.python(side)
    assert python is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = check.check(data, folder / "check", COMMON).split
        write_histories(split, folder)
        sizes = {"data": str(data.resolve())} if side.python == "kit" else dict(side.sizes or {})
        job = Job(
            model=side.model, work="learn", folder=str(folder), batch=side.batch, learning_rate=PEER_LEARNING_RATE,
            epochs=0, top_k=TOP_K, threads=settings.threads, precision="fp32", sizes=sizes, seconds=cell.seconds,
            seed=cell.seed,
        )  # fmt: skip
        before, load = _children_seconds(), MachineLoad()
        try:
            with PeerProcess(python, f"benchmarks.peers.{side.module}", job) as peer:
                busy = load.busy_share()
            answer = peer.answer
        except (OSError, PeerError) as error:
            raise KitError(f"{cell.side} does not run with {python}: {error}") from None
        answer["all_seconds"] = _children_seconds() - before
        metrics = metrics_of(split, np.load(folder / TOP_ITEMS_FILE))
    return _record(cell, split, metrics, answer, busy, settings, command)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _record(
    cell: Cell,
    split: HistorySplit,
    metrics: Mapping[str, float],
    answer: Mapping[str, Any],
    busy: float,
    settings: Settings,
    command: Sequence[str],
) -> Record:
    environment = environment_of(device="cpu", precision="fp32")
    steps = max(1, math.ceil(answer.get("epochs", 1)))
    window = Window(seconds=answer["seconds"], steps=steps, samples=steps * len(split.train.items))
    measured = {
        cell.side: summarise(Warmup(seconds=0.0, steps=0, steady=True), [window], [window.seconds / steps], busy)
    }
    told = {key: float(value) for key, value in answer.items() if isinstance(value, int | float)}
    settings_told = {f"setting {key}": float(value) for key, value in answer.get("settings", {}).items()}
    counts = {"users": split.num_judged, "items": split.num_items, "interactions": len(split.seen.items)}
    details = {**metrics, **told, **settings_told, **counts, "seed": cell.seed, "threads": settings.threads}
    return new_record(
        kind="train",
        name=cell.name,
        workload=Workload(
            challenge="recommendation", model=cell.side, engine=answer["version"],
            batch=max(1, SIDES[cell.side].batch), input_shape=(split.num_items,), precision="fp32",
            sample_unit="interaction", data="real", dataset=cell.dataset,
        ),
        protocol=ProtocolUsed(
            name=PROTOCOL, version=1, warmup_seconds=0.0, windows=1, window_seconds=cell.seconds
        ),
        measurements=measured,
        details={key: float(value) for key, value in details.items()},
        validity=judge({}, environment=environment, data="real"),
        command=command,
        environment=environment,
    )  # fmt: skip


def standings(records: Sequence[Record]) -> dict[tuple[str, float], list[tuple[str, float, float, float, int]]]:
    """(data set, seconds) -> side, mean NDCG@10, mean HR@10, mean seconds and seeds, the best first."""
    grouped: dict[tuple[str, float], dict[str, list[Record]]] = {}
    for record in records:
        key = (record.workload.dataset, record.protocol.window_seconds)
        grouped.setdefault(key, {}).setdefault(record.workload.model, []).append(record)

    def row(side: str, found: list[Record]) -> tuple[str, float, float, float, int]:
        means = [float(np.mean([record.details[name] for record in found])) for name in (NDCG, HR, "seconds")]
        return side, means[0], means[1], means[2], len(found)

    return {
        key: sorted((row(side, found) for side, found in sides.items()), key=lambda row: -row[1])
        for key, sides in grouped.items()
    }


def show(records: Sequence[Record], console: Console) -> None:
    """A table per data set and time, who is first in its title."""
    for (dataset, seconds), rows in standings(records).items():
        users = next(record.details["users"] for record in records if record.workload.dataset == dataset)
        error = 0.5 / math.sqrt(users)  # of HR at its widest; told so that nobody reads too much into the order
        table = Table(
            "side", NDCG, HR, "seconds used", "seeds",
            title=f"{dataset}, {seconds:g} s of processor time: {rows[0][0]} is first ({users:,.0f} users, "
            f"a standard error of HR is {error:.3f} at most)",
            title_justify="left",
        )  # fmt: skip
        for side, ndcg, hr, used, seeds in rows:
            table.add_row(side, f"{ndcg:.4f}", f"{hr:.4f}", f"{used:.0f}", str(seeds))
        console.print(table)


def main(settings: Settings) -> int:
    """Let every side learn every data set in the same processor time, and say who is first."""
    console = Console(width=140)
    command = ("python", "-m", "benchmarks.peers.own_interactions", *sys.argv[1:])
    known = _known(settings.cells)
    with tempfile.TemporaryDirectory() as name:
        data: dict[str, Path] = {}
        for cell in cells(settings):
            if cell.name in known or settings.join:
                continue
            if cell.dataset not in data:
                data[cell.dataset] = write_interactions(settings.data, cell.dataset, Path(name))
            record = measure(cell, data[cell.dataset], settings, command)
            path = write(record, settings.cells)
            figures = f"{NDCG} {record.details[NDCG]:.4f}, {HR} {record.details[HR]:.4f}"
            console.print(f"{cell.name}: {figures}\nRECORD {path}", soft_wrap=True)
            known[cell.name] = record
    wanted = [known[cell.name] for cell in cells(settings) if cell.name in known]
    show(wanted, console)
    _publish(wanted, settings, command, console)
    return 0


def _publish(found: Sequence[Record], settings: Settings, command: Sequence[str], console: Console) -> None:
    """Join each data set's cells into a record, unless there is one."""
    folder = settings.output or RESULTS
    there = {
        (record.workload.dataset, record.protocol.window_seconds)
        for record in (read_all([folder]) if folder.exists() else [])
        if record.name == NAME
    }
    joined: dict[tuple[str, float], list[Record]] = {}
    for record in found:
        joined.setdefault((record.workload.dataset, record.protocol.window_seconds), []).append(record)
    for key, mine in joined.items():
        if key not in there and len({record.workload.model for record in mine}) > 1:
            publish(comparison(mine, command), settings.output, console)


def _known(folder: Path) -> dict[str, Record]:
    """The cells that have a record, by name."""
    records = read_all([folder]) if folder.is_dir() else []
    return {record.name: record for record in records if record.protocol.name == PROTOCOL}


if __name__ == "__main__":
    run_command(main)
