"""How long a training will take and how much memory, told from its first steps and held against what it took."""

import contextlib
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from common.errors import DamagedFileError
from common.files import read_json, write_json
from common.machine.environment import GIGABYTE, ROOT, processor, told_processor
from common.run.recipe import Recipe
from common.run.run_directory import Entry, RunDirectory
from common.terminal.duration import duration
from common.training.advice import ten_minutes
from common.training.cadence import Cadence
from common.training.observers import Observer, RunFacts

WARM_STEPS = 2  # first steps that are not counted: loaders fill up, kernels are chosen
FEWEST_STEPS = 5  # counted before a forecast
ENOUGH_SECONDS, ENOUGH_SHARE = 3.0, 0.05  # counted before it, or this share of the run
EVALUATION_WORK = 1 / 3
"""Of a training step's work for one sample: the pass forward is one of three that are about as long."""
LONG_SECONDS = 3600.0  # a run that takes more is told with what would take ten minutes
NOTABLE_SHARE = 0.1  # of a forecast, from which on it is corrected
RECORDED = 3  # other machines that are named


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is expected of a training in this process; seconds are those on the wall, from its first step on.

    first_step:    the step after which this process began.
    measured:      steps that were timed.
    evaluations:   still to come, each of about `evaluation_seconds`.
    memory_bytes:  of this process when it was told; expected_bytes: the most that it will hold.
    device_bytes:  the most that the GPU's allocator held so far; None on a CPU.
    """

    first_step: int
    step: int
    measured: int
    step_seconds: float
    evaluations: int
    evaluation_seconds: float
    seconds: float
    memory_bytes: int
    expected_bytes: int
    device_bytes: int | None

    def describe(self, total_steps: int) -> str:
        plural = "s" * (self.evaluations > 1)
        evaluations = f"{self.evaluations} evaluation{plural} of about {duration(self.evaluation_seconds)}"
        memory = (
            f"memory {_gigabytes(self.memory_bytes)} now, about {_gigabytes(self.expected_bytes)} at most, "
            f"of {_gigabytes(psutil.virtual_memory().total)}"
        )
        if self.device_bytes is not None:
            memory += f"; the GPU's {_gigabytes(self.device_bytes)}"
        return (
            f"{duration(self.seconds)} of training ({total_steps - self.first_step:,} steps of "
            f"{_step(self.step_seconds)} and {evaluations}), {memory}"
        )


@dataclass
class StepTimes:
    """Steps that were timed from their ends, without those that an evaluation came between."""

    steps: int = 0
    seconds: float = 0.0
    _since: tuple[int, float] | None = field(default=None, repr=False)

    def end(self, step: int, now: float, *, counts: bool) -> None:
        """A step ended; counts: whether the time since the last end was spent on steps alone."""
        if counts and self._since is not None:
            self.steps += step - self._since[0]
            self.seconds += now - self._since[1]
        self._since = (step, now)

    def forget_end(self) -> None:
        """What comes next is no step."""
        self._since = None

    @property
    def each(self) -> float:
        return self.seconds / max(1, self.steps)


class Forecaster(Observer):
    """Tells the forecast, corrects it once where the first evaluation shows it to be off, and keeps both in the run.

    samples:   training and validation samples of the run, which tell how often and how much is evaluated.
    runs_late: the device answers before its work is done (a GPU); only steps that were logged have surely ended.
    """

    def __init__(
        self,
        recipe: Recipe,
        samples: tuple[int, int],
        tell: Callable[[str], None],
        *,
        runs_late: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        records: Path = ROOT / "benchmarks" / "outcomes",
    ) -> None:
        self._recipe, self._tell, self._clock, self._records = recipe, tell, clock, records
        num_train, self._num_validation = samples
        self._cadence = Cadence.of(recipe.training, num_train)
        self._runs_late = runs_late
        self._times = StepTimes()
        self._told: list[Forecast] = []
        self._evaluation_seconds: float | None = None
        self._is_settled = False

    def on_start(self, facts: RunFacts) -> None:
        self._run, self._first, self._total = facts.run, facts.first_step, facts.total_steps
        self._last_step = facts.first_step
        self._started = self._ended = self._clock()

    def on_entry(self, entry: Entry) -> None:
        if entry["kind"] == "train":
            self._is_settled = True
        elif self._evaluation_seconds is None:
            self._evaluation_seconds = self._clock() - self._ended
            if self._told and self._last_step < self._total:
                self._correct(self._expect(left_out=self._last_step))

    def on_step(self, step: int) -> None:
        self._last_step = step
        if self._told and self._evaluation_seconds is not None:
            return
        self._ended = self._clock()
        if self._is_settled or not self._runs_late:
            self._times.end(step, self._ended, counts=step > self._first + WARM_STEPS)
            self._is_settled = False
        if self._cadence.evaluates_after(step):
            self._times.forget_end()
        if not self._told and self._is_measured():
            self._say(self._expect())

    def on_end(self) -> None:
        if self._told and self._last_step == self._total:
            self._keep({"seconds": self._clock() - self._started, "memory_bytes": _largest_memory()})

    def _is_measured(self) -> bool:
        times = self._times
        enough = times.seconds >= ENOUGH_SECONDS or times.steps >= ENOUGH_SHARE * (self._total - self._first)
        return times.steps >= FEWEST_STEPS and enough

    def _say(self, forecast: Forecast) -> None:
        was_long = bool(self._told) and self._told[-1].seconds > LONG_SECONDS
        self._told.append(forecast)
        self._keep(None)
        self._tell(f"forecast: {forecast.describe(self._total)}")
        if forecast.seconds > LONG_SECONDS and not was_long:
            per_epoch, seconds = self._cadence.per_epoch, (forecast.step_seconds, forecast.evaluation_seconds)
            self._tell(f"forecast: {ten_minutes(self._recipe, per_epoch, *seconds)}")
        if len(self._told) == 1:
            for line in recorded(self._run, self._total, self._records):
                self._tell(f"forecast: {line}")

    def _correct(self, forecast: Forecast) -> None:
        if abs(forecast.seconds - self._told[-1].seconds) > NOTABLE_SHARE * self._told[-1].seconds:
            self._tell("forecast: corrected after the first evaluation")
            self._say(forecast)

    def _expect(self, *, left_out: int | None = None) -> Forecast:
        """left_out: a step whose evaluation is done already."""
        step, each = self._last_step, self._times.each
        evaluation = self._evaluation_seconds
        if evaluation is None:
            evaluation = EVALUATION_WORK * each * self._num_validation / self._recipe.training.batch_size
        later = range(step if left_out is None else step + 1, self._total + 1)
        evaluations = sum(map(self._cadence.evaluates_after, later))
        left = (self._total - step) * each + evaluations * evaluation
        return Forecast(
            first_step=self._first,
            step=step,
            measured=self._times.steps,
            step_seconds=each,
            evaluations=evaluations,
            evaluation_seconds=evaluation,
            seconds=self._clock() - self._started + left,
            memory_bytes=_memory(),
            expected_bytes=_largest_memory(),
            device_bytes=_device_memory() if self._runs_late else None,
        )

    def _keep(self, took: dict[str, float] | None) -> None:
        first, *corrected = map(asdict, self._told)
        record = {**first, "corrected": corrected[0] if corrected else None, "took": took}
        write_json(self._run.forecast_file, record)


def recorded(run: RunDirectory, total_steps: int, folder: Path) -> list[str]:
    """What the same training took on other machines, newest first, from the records that the kit keeps.

    The same: model, recipe and number of steps; the data then has as many samples.
    """
    if not run.run_file.is_file() or not folder.is_dir():
        return []
    asked, here = run.description(), processor()
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(folder.rglob("*.json")):
        with contextlib.suppress(DamagedFileError, KeyError, TypeError):  # of another version: nothing is told of it
            record = read_json(file)
            if (record["model"], record["recipe"], record["steps"]) != (asked["model"], asked["recipe"], total_steps):
                continue
            name, is_here = _machine(record["system"], here)
            if not is_here:
                found[name] = (record["created"], f"on {name} it took {duration(record['seconds'])}")
    newest = sorted(found.values(), reverse=True)[:RECORDED]
    return [f"{line} ({created[:10]})" for created, line in newest]


def _machine(system: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, bool]:
    """What a record's machine is called, and whether this one is of its kind."""
    cpu = system["cpu"]
    if system["gpus"] and str(system["device"]).startswith("cuda"):
        return system["gpus"][0]["name"], False
    return told_processor(cpu), (cpu["model"], cpu["cores"]) == (here["model"], here["cores"])


def _largest_memory() -> int:
    """Bytes: the most that this process held so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the system counts it now and then
    return max(kilobytes * 1024, _memory())


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def _device_memory() -> int:
    import torch

    return torch.cuda.max_memory_reserved()


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB"


def _step(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.1f} s"
