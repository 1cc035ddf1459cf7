"""One side of the comparison on data of one's own: run by its own Python, told a budget, metered in processor time.

Both ends are here, and need nothing but psutil: `run_side` asks, `serve` answers in the side's environment. What a side
takes is counted by the operating system over its whole process tree, from the moment its packages are imported to the
moment its weights are final; what it says about the validation pictures comes after that. A side that only knows epochs
learns from two short trainings, before the first of a set, how many it can afford.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import psutil

ANSWER_FILE, LOG_FILE = "answer.json", "side.log"
LOG_LINES = 15
PICTURES = {".jpg", ".jpeg", ".png"}
FETCHES_NOTHING = {"YOLO_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}  # for statistics of use nothing is sent either
Box = tuple[str, str, float, float, float, float, float]


class SideError(Exception):
    """A side ended without an answer; the message holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a side is to learn, and how long.

    task:   classify or detect. model: of the side's own, where it has several.
    data:   a folder {train,val}/<class>/<picture>, or one of images with boxes in YOLO's format.
    folder: the side's own and new; pace: a file that keeps what an epoch of this side on this data takes.
    budget: processor seconds from the imports to the final weights.
    size:   of a picture's sides as the network takes it, in pixels.
    weights: a file to start from; none where it is empty.
    """

    task: str
    model: str
    data: str
    folder: str
    pace: str
    budget: float
    size: int
    seed: int
    threads: int
    weights: str = ""

    def pictures(self, split: str) -> list[Path]:
        """Of a split, in the order of their names."""
        return sorted(file for file in self.root(split).rglob("*") if file.suffix.lower() in PICTURES)

    def root(self, split: str) -> Path:
        return Path(self.data) / ("" if self.task == "classify" else "images") / split


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a training did. steps: of the optimizer; samples: pictures it looked at, repetitions included."""

    steps: int
    samples: int
    epochs: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a side did and knows.

    seconds:     of the processor, over the process tree.
    predictions: of a classifier: a validation picture's path below val/ -> a class.
    boxes:       of a detector: path below images/val/, class, score, left, top, right and bottom in pixels.
    """

    package: str
    seconds: float
    learnt: Learnt
    predictions: dict[str, str]
    boxes: list[Box]


class Side(Protocol):
    """A way to learn from a folder.

    package: the distribution whose version is recorded. prepare: what comes before the clock starts.
    """

    package: str

    def prepare(self, job: Job) -> None: ...

    def train(self, job: Job) -> Learnt: ...


class Classifier(Side, Protocol):
    """One way of telling pictures apart."""

    def predictions(self, job: Job) -> dict[str, str]:
        """What each validation picture shows: path below val/ -> class."""


class Detector(Side, Protocol):
    """One way of finding things in pictures."""

    def boxes(self, job: Job) -> list[Box]:
        """Around what is in the validation pictures."""


class Meter:
    """Processor seconds of this process and of all that it started, ended ones included, from construction on."""

    def __init__(self) -> None:
        self._start = self._all()

    def __call__(self) -> float:
        return self._all() - self._start

    @staticmethod
    def _all() -> float:
        process = psutil.Process()
        total = sum(process.cpu_times()[:4])
        for child in process.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return float(total)


def affordable(job: Job, points: tuple[float, float], train: Callable[[float, Path], object]) -> float:
    """Epochs that the budget pays for, from what trainings of `points` epochs took: a part for each and a fixed one.

    train: trains so many epochs, with a new folder of its own. The two trainings are made once per `job.pace`.
    """
    kept = Path(job.pace)
    if not kept.is_file():
        taken = []
        for number, epochs in enumerate(points):
            meter = Meter()
            train(epochs, Path(job.folder) / f"pace-{number}")
            taken.append(meter())
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"epochs": points, "seconds": taken}))
    seconds = json.loads(kept.read_text())["seconds"]
    return length(job.budget, points, (seconds[0], seconds[1]))


def length(budget: float, points: tuple[float, float], seconds: tuple[float, float]) -> float:
    """Epochs for `budget` seconds on the line through two measurements, at least the fewest measured."""
    each = (seconds[1] - seconds[0]) / (points[1] - points[0])
    if each <= 0:
        raise SideError(f"{points} epochs took {seconds} seconds: an epoch's share cannot be told from noise.")
    return max(points[0], points[0] + (budget - seconds[0]) / each)


def serve(side: Classifier | Detector) -> None:
    """Do the job named by the only argument, in the side's environment."""
    job = Job(**json.loads(sys.argv[1]))
    sys.argv = sys.argv[:1]
    side.prepare(job)
    meter = Meter()
    learnt = side.train(job)
    seconds = meter()
    classifies = job.task == "classify"
    answer = Answer(
        package=f"{side.package} {version(side.package)}",
        seconds=seconds,
        learnt=learnt,
        predictions=cast(Classifier, side).predictions(job) if classifies else {},
        boxes=[] if classifies else cast(Detector, side).boxes(job),
    )
    (Path(job.folder) / ANSWER_FILE).write_text(json.dumps(dataclasses.asdict(answer)))


def run_side(python: Path, module: str, job: Job) -> Answer:
    """Run a side to its end. python: its environment's interpreter. module: its driver in this package.

    Raises SideError where it ends without an answer.
    """
    folder, threads = Path(job.folder), str(job.threads)
    folder.mkdir(parents=True)
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    root = Path(__file__).resolve().parents[2]
    with (folder / LOG_FILE).open("wb") as log:
        subprocess.run(
            [str(python), "-m", module, json.dumps(dataclasses.asdict(job))],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, check=False,
            env={**os.environ, **variables, **FETCHES_NOTHING, "YOLO_CONFIG_DIR": str(folder), "PYTHONPATH": str(root)},
        )  # fmt: skip
    if not (folder / ANSWER_FILE).is_file():
        end = "\n".join((folder / LOG_FILE).read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise SideError(f"{module} ended without an answer. The end of its output:\n{end}")
    return read_answer(folder / ANSWER_FILE)


def read_answer(file: Path) -> Answer:
    fields: dict[str, Any] = json.loads(file.read_text())
    return Answer(**{**fields, "learnt": Learnt(**fields["learnt"])})
