"""This kit's recipes for pictures, beside a plain loop, timm and ultralytics, on data that nobody tuned for.

    python -m benchmarks.peers.own_data --real FOLDER --peer PYTHON --timm-script train.py
    python -m benchmarks.peers.own_data --sets balanced-100 gray-500 --budgets 60 --sides plain kit --peer PYTHON
    python -m benchmarks.peers.own_data --sets balanced-25 balanced-100 --budgets 30 --weights FILE --peer PYTHON
    python -m benchmarks.peers.own_data --table

Every side learns each set, from scratch or from one file of a ResNet-18's weights, on as many threads, for as many
seconds of the processor, the sides in turns (picture_side.py says what is counted), and what it answers about the same
validation pictures is judged here. A cell is one side, set, budget and seed; it is kept as soon as it is there, so that
a command that was cut off goes on. Where all sides and seeds of a set and budget are there, the kit's among them, they
become one record under benchmarks/results.

--peer is the Python of an environment with torch, torchvision, timm, ultralytics and psutil; --timm-script is train.py
of a checkout of that timm.
"""

import itertools
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Interleaved, Warmup, Window, Windows, summarise
from benchmarks.peers import picture_sets
from benchmarks.peers.own_table import PROTOCOL
from benchmarks.peers.picture_sets import OwnSet, scenes_of
from benchmarks.peers.picture_side import Answer, Box, Job, Learnt, SideError, run_side
from benchmarks.peers.picture_table import METRIC, NAME, table
from benchmarks.record import (
    RESULTS,
    DataKind,
    Finding,
    ProtocolUsed,
    Record,
    Validity,
    Workload,
    environment_of,
    new_record,
    read_all,
    short_commit,
)
from benchmarks.validity import judge
from challenges.detection.detections import DetectionTable
from challenges.detection.evaluation import evaluate
from challenges.detection.scenes import Scenes
from common.errors import DataError, KitError
from common.files import cache_folder, read_json, write_json
from common.machine.environment import kit_version

SideName = Literal["kit", "plain", "timm", "ultralytics"]
MODULES: dict[SideName, str] = {
    "kit": "benchmarks.peers.picture_kit",
    "plain": "benchmarks.peers.plain_peer",
    "timm": "benchmarks.peers.timm_peer",
    "ultralytics": "benchmarks.peers.ultralytics_peer",
}
KNOWS: dict[picture_sets.Task, tuple[SideName, ...]] = {
    "classify": ("kit", "plain", "timm", "ultralytics"),
    "detect": ("kit", "ultralytics"),
}
GOES_ON: tuple[SideName, ...] = ("kit", "plain")  # the sides that start from weights
SIZES = {"classify": 96, "detect": 300}
UNEQUAL = 0.15  # of the budget that a side may miss it by: whole epochs do not meet it exactly


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compare.

    seeds: of initial weights and of the order of pictures; sets and splits are the same for all.
    """

    sets: tuple[str, ...] = (
        "dogs_cats", "balanced-100", "balanced-500", "balanced-2000", "skewed-500", "gray-500", "large-500", "bccd",
        "scenes-100", "scenes-500",
    )  # fmt: skip
    budgets: tuple[float, ...] = (60.0, 180.0, 600.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    sides: tuple[SideName, ...] = ("kit", "plain", "timm", "ultralytics")
    threads: int = 1
    peer: Path | None = None
    """Python of the others' environment."""
    timm_script: Path | None = None
    real: Path | None = None
    """The folder that holds real sets by name: dogs_cats, bccd, and any other of pictures or of boxes."""
    weights: Path | None = None
    """Safetensors of a ResNet-18 of torchvision's names, and 96 pixels, that pictures are learnt from."""
    set_seed: int = 0
    """Another number draws other pictures and another split; what recipes were chosen on is not reported on."""
    cells: Path = field(default_factory=lambda: cache_folder() / "own-data")
    """Where sets and finished cells are kept."""
    output: Path | None = None
    """Folder of the records; by default under benchmarks/results."""
    table: bool = False
    """Measure nothing; print the table of the records."""


@dataclass(frozen=True)
class Cell:
    """One training that was judged."""

    side: SideName
    dataset: str
    budget: float
    seed: int
    value: float
    package: str
    seconds: float
    learnt: Learnt
    commit: str | None = None
    """Of the kit, when it was measured."""


def run(settings: Settings, command: Sequence[str], console: Console) -> None:
    """Measure every cell that is not there, and publish what is complete."""
    sets = {name: picture_sets.prepare(name, settings.cells / "sets", settings.real, seed=settings.set_seed)
            for name in settings.sets}  # fmt: skip
    if settings.weights is not None:
        sets = {name: replace(one, weights=settings.weights) for name, one in sets.items()}
    for budget, one in itertools.product(settings.budgets, sets.values()):
        sides = [side for side in settings.sides if side in _able(one)]
        found = []
        for side, seed in _turns(sides, settings.seeds):
            file = _cell_file(settings, side, one, budget, seed)
            if not file.is_file():
                write_json(file, asdict(measure(settings, side, one, budget, seed)))
            cell = read_cell(file)
            found.append(cell)
            console.print(
                f"{one.told} {budget:g} s seed {seed}: {side} {METRIC[one.task]} {cell.value:.4f} after "
                f"{cell.learnt.epochs:.1f} epochs, {cell.seconds:.1f} s", markup=False, highlight=False,
            )  # fmt: skip
        if len(sides) > 1 and "kit" in sides and not _is_published(settings, one, budget, sides):
            publish(record_of(one, budget, found, settings, command), settings.output, console)


def _able(one: OwnSet) -> tuple[SideName, ...]:
    return KNOWS[one.task] if one.weights is None else GOES_ON


def _turns(sides: Sequence[SideName], seeds: Sequence[int]) -> Iterator[tuple[SideName, int]]:
    """All sides of a seed before the next seed, in rising and falling turns."""
    for turn, seed in enumerate(seeds):
        for side in sides[:: 1 if turn % 2 == 0 else -1]:
            yield side, seed


def measure(settings: Settings, side: SideName, one: OwnSet, budget: float, seed: int) -> Cell:
    """Train one side and judge it. Raises KitError where it cannot be run."""
    job = Job(
        task=one.task,
        model=str(settings.timm_script.resolve()) if side == "timm" and settings.timm_script else "",
        data=str(one.folder.resolve()),
        folder=str((settings.cells / "work" / f"{side}-{one.name}-{secrets.token_hex(4)}").resolve()),
        pace=str(_pace_file(settings, side, one).resolve()),
        budget=budget,
        size=SIZES[one.task],
        seed=seed,
        threads=settings.threads,
        weights="" if one.weights is None else str(one.weights.resolve()),
    )
    python = Path(sys.executable) if side == "kit" else settings.peer
    if python is None or (side == "timm" and settings.timm_script is None):
        raise KitError(f"{side} is asked for.", "It needs --peer PYTHON, and timm --timm-script train.py, too.")
    try:
        answer = run_side(python, MODULES[side], job)
    except SideError as error:
        raise KitError(f"{side} on {one.name}: {error}") from None
    return Cell(
        side, one.told, budget, seed, value_of(one, answer), answer.package, answer.seconds, answer.learnt,
        kit_version()["commit"],
    )  # fmt: skip


def value_of(one: OwnSet, answer: Answer) -> float:
    """top1 over all validation pictures, or a detector's ap.

    Raises DataError where a picture was not answered.
    """
    if one.task == "detect":
        return average_precision(scenes_of(one.folder).subset("val"), answer.boxes)
    root = one.folder / "val"
    truth = {str(file.relative_to(root)): file.parent.name for file in root.rglob("*.*")}
    if set(truth) != set(answer.predictions):
        raise DataError(f"{len(answer.predictions)} answers for {len(truth)} pictures of {one.name}.")
    return sum(answer.predictions[name] == label for name, label in truth.items()) / len(truth)


def average_precision(scenes: Scenes, boxes: Sequence[Box]) -> float:
    """COCO's, of boxes whose images are named by their file's name."""
    images = {Path(path).name: row for row, path in enumerate(scenes.paths)}
    labels = {name: number + 1 for number, name in enumerate(scenes.classes)}
    rows = sorted(((images[Path(file).name], -score, labels[name], corners) for file, name, score, *corners in boxes))
    table = DetectionTable(
        np.array([row[0] for row in rows], np.int64), np.array([row[2] for row in rows], np.int64),
        np.array([-row[1] for row in rows], np.float32), np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
    )  # fmt: skip
    return evaluate(scenes, table, resamples=0).metrics["ap"]


def record_of(one: OwnSet, budget: float, cells: Sequence[Cell], settings: Settings, command: Sequence[str]) -> Record:
    """A comparison of the sides: throughputs in processor time as its measurements, the figures among the details."""
    sides = {side: [cell for cell in cells if cell.side == side] for side in dict.fromkeys(c.side for c in cells)}
    measured = Interleaved({side: _windows(mine) for side, mine in sides.items()})
    ratios = {f"kit/{side}": measured.ratio("kit", side) for side in sides if side != "kit" and "kit" in sides}
    details = {
        f"{side} {METRIC[one.task]}": float(np.mean([cell.value for cell in mine])) for side, mine in sides.items()
    }
    for side, mine in sides.items():
        details |= {f"{side} seed {cell.seed}": cell.value for cell in mine}
        details[f"{side} epochs"] = float(np.mean([cell.learnt.epochs for cell in mine]))
    environment = environment_of(device="cpu", precision="fp32")
    kind: DataKind = "real" if one.is_real else "demo"
    return new_record(
        kind="comparison", name=NAME,
        workload=Workload(
            challenge="classification" if one.task == "classify" else "detection",
            model="resnet18" if one.task == "classify" else "ssd300-resnet18",
            engine="torch", batch=32, input_shape=(3, SIZES[one.task], SIZES[one.task]), precision="fp32",
            sample_unit="image", data=kind, dataset=one.told,
        ),
        protocol=ProtocolUsed(
            name=PROTOCOL, version=1, warmup_seconds=0, windows=len(settings.seeds), window_seconds=budget
        ),
        measurements=measured.sides, ratios=ratios, details=details, command=command, environment=environment,
        validity=with_cells(judge(measured.sides, environment=environment, data=kind, ratios={}), budget, cells),
    )  # fmt: skip


def with_cells(validity: Validity, budget: float, cells: Sequence[Cell]) -> Validity:
    """What is claimed is a figure at equal time; that throughputs vary between seeds does not speak against it.

    A cell that was kept may be an older kit's, which is told.
    """
    unequal = [
        Finding(code="UNEQUAL_TIME", text=f"{cell.side} seed {cell.seed} took {cell.seconds:.0f} s of {budget:g}.")
        for cell in cells
        if abs(cell.seconds / budget - 1) > UNEQUAL
    ]
    older = [
        Finding(code="OTHER_COMMIT", text=f"seed {cell.seed} of the kit was measured at {short_commit(cell.commit)}.")
        for cell in cells
        if cell.side == "kit" and cell.commit != kit_version()["commit"]
    ]
    reasons = (*validity.reasons, *unequal)
    return Validity(valid=not reasons, reasons=reasons, warnings=(*validity.warnings, *older))


def _windows(cells: Sequence[Cell]) -> Windows:
    """A side's trainings as windows of processor time, one per seed."""
    windows = [Window(seconds=cell.seconds, steps=cell.learnt.steps, samples=cell.learnt.samples) for cell in cells]
    steps = [window.seconds / window.steps for window in windows]
    return summarise(Warmup(seconds=0, steps=0, steady=True), windows, steps, 0.0)


def read_cell(file: Path) -> Cell:
    fields = read_json(file)
    return Cell(**{**fields, "learnt": Learnt(**fields["learnt"])})


def _cell_file(settings: Settings, side: SideName, one: OwnSet, budget: float, seed: int) -> Path:
    return settings.cells / "cells" / f"{_named(one)}-{budget:g}s-t{settings.threads}-{side}-seed{seed}.json"


def _pace_file(settings: Settings, side: SideName, one: OwnSet) -> Path:
    return settings.cells / "pace" / f"{_named(one)}-t{settings.threads}-{side}.json"


def _named(one: OwnSet) -> str:
    """For files: a set of one seed, and the weights that it is learnt from."""
    return one.folder.name if one.weights is None else f"{one.folder.name}-from-{one.weights.stem}"


def _is_published(settings: Settings, one: OwnSet, budget: float, sides: Sequence[SideName]) -> bool:
    """Whether a record tells of all these sides and seeds; one of fewer is told again."""
    folder, seeds = settings.output or RESULTS, len(settings.seeds)
    return folder.exists() and any(
        (found.name, found.workload.dataset, found.protocol.window_seconds, found.protocol.windows)
        == (NAME, one.told, budget, seeds)
        and set(sides) <= set(found.measurements)
        for found in read_all([folder])
    )


def main(settings: Settings) -> int:
    """Compare the kit's recipes for pictures with others on data of one's own, at equal processor time."""
    console = Console()
    if not settings.table:
        run(settings, ("python", "-m", "benchmarks.peers.own_data", *sys.argv[1:]), console)
    folder = settings.output or RESULTS
    console.print(table(read_all([folder]) if folder.exists() else []), markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_command(main)
