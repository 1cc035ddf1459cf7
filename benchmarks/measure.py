"""The measuring protocol: warm up until steady, then windows with one synchronisation each, and nothing thrown away."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil

from common.errors import KitError
from common.run.bootstrap import bootstrap

Step = Callable[[], int]
"""One step of the work; returns how many samples it handled."""

STEADY_BLOCKS, STEADY_SPREAD = 3, 1.05  # the last blocks of a warm-up, and how far apart their throughput may be
WARMUP_CAP = 0.5  # of the measured time: a warm-up that never steadies ends there


class MeasurementError(KitError):
    """A measurement that could not say anything."""


class Clock(Protocol):
    """Marks moments of the work without waiting for it; `wait` makes earlier marks readable.

    moment: the seconds that windows are as long as.
    """

    def moment(self) -> float: ...

    def mark(self) -> Any: ...

    def wait(self) -> None: ...

    def seconds(self, first: Any, second: Any) -> float: ...


class HostClock:
    """For work that is done when its call returns."""

    def moment(self) -> float:
        return time.perf_counter()

    def mark(self) -> float:
        return self.moment()

    def wait(self) -> None: ...

    def seconds(self, first: float, second: float) -> float:
        return second - first


class ProcessorClock(HostClock):
    """Seconds that this process's threads computed: what a machine that others use, too, can be measured by."""

    def moment(self) -> float:
        return time.process_time()


class UnqueuedClock(HostClock):
    """Seconds less those in which a process that works could have gone on, and queued for a core that others had.

    Computing, sleeping and reading count. The queueing is that of each process's first thread, by Linux's schedstat; a
    kernel that does not tell it leaves plain seconds.
    """

    def __init__(self, processes: Sequence[int]) -> None:
        self._files = [Path(f"/proc/{process}/schedstat") for process in processes]

    def moment(self) -> float:
        return time.perf_counter() - sum(map(_queued, self._files))


def _queued(schedstat: Path) -> float:
    try:
        return int(schedstat.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class CudaClock(HostClock):
    """For work queued on the current CUDA stream: events, read after one synchronisation per window."""

    def mark(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        import torch

        torch.cuda.synchronize()

    def seconds(self, first: Any, second: Any) -> float:
        return float(first.elapsed_time(second)) / 1000


def clock_of(device: Any) -> Clock:
    """device: torch's."""
    return CudaClock() if device.type == "cuda" else HostClock()


class RankClock:
    """For work that several processes do together: the first one's clock decides for all when a block is over.

    group: a process group on the hosts, so that agreeing never waits for a GPU.
    """

    def __init__(self, clock: Clock, group: Any) -> None:
        self._clock, self._group = clock, group
        self.moment, self.mark, self.wait, self.seconds = clock.moment, clock.mark, clock.wait, clock.seconds

    def agree(self, value: int) -> int:
        """The first process's value, on all; all call it."""
        import torch
        import torch.distributed as dist

        shared = torch.tensor(value)
        dist.broadcast(shared, src=0, group=self._group)
        return int(shared)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Steps between two synchronisations."""

    seconds: float
    steps: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """What ran before the first window; steady: its last blocks agreed within 5 %."""

    seconds: float
    steps: int
    steady: bool


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Over windows: the median, its 95 % bootstrap interval, and the extremes."""

    median: float
    minimum: float
    maximum: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Over every step, tails included."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class Windows:
    """One measurement of one piece of work; busy_share: the part of all cores that other processes used, 0..1."""

    warmup: Warmup
    windows: tuple[Window, ...]
    samples_per_s: Estimate
    step_ms: Percentiles
    busy_share: float

    @property
    def seconds(self) -> float:
        return sum(window.seconds for window in self.windows)

    @property
    def steps(self) -> int:
        return sum(window.steps for window in self.windows)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Throughput over throughput, pair by pair of neighbouring blocks: the median and its 95 % bootstrap interval."""

    median: float
    interval: tuple[float, float]
    pairs: int


@dataclass(frozen=True)
class Interleaved:
    """Measurements of several works made in turns, block by block."""

    sides: dict[str, Windows]

    def ratio(self, numerator: str, *denominators: str) -> Ratio:
        """Numerator over the slowest denominator of each round."""
        rates = {name: throughputs(self.sides[name].windows) for name in (numerator, *denominators)}
        slowest = np.min([rates[name] for name in denominators], axis=0)
        ratios = rates[numerator] / slowest
        return Ratio(median=float(np.median(ratios)), interval=bootstrap(ratios, np.median), pairs=len(ratios))


Watch = Callable[[str], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, kw_only=True)
class More:
    """Rounds beyond those that were asked for.

    wanted: asked after each of them, with all that was measured so far. most_rounds: of all together.
    """

    most_rounds: int
    wanted: Callable[[Interleaved], bool]


def interleave(
    steps: Mapping[str, Step],
    *,
    warmup_seconds: float,
    rounds: int,
    block_seconds: float,
    settle_seconds: float = 0.0,
    clock: Clock | None = None,
    more: More | None = None,
    watch: Watch = contextlib.nullcontext,
) -> Interleaved:
    """Measure several works side by side, A B B A A B …, so that drift and what else runs hit all of them alike.

    warmup_seconds: for each work, before the first round.
    settle_seconds: untimed work at the start of every block; empties queues that filled while the others ran.
    more:           whether further rounds are worth their time.
    watch:          around every timed block, with the work's name.
    """
    _refuse_long_warmup(warmup_seconds, rounds * block_seconds)
    clock = clock or HostClock()
    cap = WARMUP_CAP * rounds * block_seconds
    warmups = {name: warm_up(step, warmup_seconds, cap_seconds=cap, clock=clock) for name, step in steps.items()}
    timed: dict[str, list[tuple[Window, list[float]]]] = {name: [] for name in steps}
    busy: dict[str, list[float]] = {name: [] for name in steps}

    def summary() -> Interleaved:
        return Interleaved({name: _summary(warmups[name], timed[name], float(np.mean(busy[name]))) for name in steps})

    for turn in range(rounds if more is None else max(rounds, more.most_rounds)):
        if more is not None and turn >= rounds and not _agreed(clock, more.wanted(summary())):
            break
        for name, step in list(steps.items())[:: 1 if turn % 2 == 0 else -1]:
            if settle_seconds:
                _window(step, settle_seconds, clock)
            machine = MachineLoad()
            with watch(name):
                timed[name].append(_window(step, block_seconds, clock))
            busy[name].append(machine.busy_share())
    return summary()


def warm_up(step: Step, seconds: float, *, cap_seconds: float, clock: Clock) -> Warmup:
    """Run blocks of `step` for `seconds`, and on until the last three agree within 5 % or the cap is reached."""
    spent, steps, rates = 0.0, 0, []
    while True:
        block, _ = _window(step, seconds / STEADY_BLOCKS, clock)
        spent, steps = spent + block.seconds, steps + block.steps
        rates.append(block.samples / block.seconds)
        last = rates[-STEADY_BLOCKS:]
        steady = len(last) == STEADY_BLOCKS and max(last) <= STEADY_SPREAD * min(last)
        if _agreed(clock, (spent >= seconds and steady) or spent >= cap_seconds):
            return Warmup(seconds=spent, steps=steps, steady=steady)


def throughputs(windows: Sequence[Window]) -> np.ndarray:
    """Samples per second, one figure per window."""
    return np.array([window.samples / window.seconds for window in windows])


class MachineLoad:
    """How much of the machine other processes use from construction on."""

    def __init__(self) -> None:
        self.start, self.own = time.perf_counter(), self._own_seconds()
        self.busy = self._busy_seconds()

    def busy_share(self) -> float:
        """Processor time of other processes over all cores' time, 0..1."""
        elapsed = max(time.perf_counter() - self.start, 1e-9)
        others = (self._busy_seconds() - self.busy) - (self._own_seconds() - self.own)
        return float(min(1.0, max(0.0, others / (elapsed * (psutil.cpu_count() or 1)))))

    @staticmethod
    def _busy_seconds() -> float:
        times = psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))

    @staticmethod
    def _own_seconds() -> float:
        """This process and its children, ended ones included; with them all ranks, where torchrun started several."""
        process = psutil.Process()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            process = process.parent() or process
        total = float(sum(process.cpu_times()[:4]))
        for child in process.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return total


def estimate(rates: np.ndarray) -> Estimate:
    """Of (window,) throughputs."""
    return Estimate(
        median=float(np.median(rates)),
        minimum=float(rates.min()),
        maximum=float(rates.max()),
        interval=bootstrap(rates, np.median),
    )


def summarise(warmup: Warmup, windows: Sequence[Window], step_seconds: Sequence[float], busy_share: float) -> Windows:
    """Figures of windows timed here or elsewhere (a load generator); step_seconds: a duration per step or request."""
    percentiles = np.percentile(np.asarray(step_seconds) * 1000, (50, 90, 99))
    return Windows(
        warmup=warmup,
        windows=tuple(windows),
        samples_per_s=estimate(throughputs(windows)),
        step_ms=Percentiles(p50=float(percentiles[0]), p90=float(percentiles[1]), p99=float(percentiles[2])),
        busy_share=busy_share,
    )


def _summary(warmup: Warmup, timed: Sequence[tuple[Window, list[float]]], busy_share: float) -> Windows:
    return summarise(warmup, [window for window, _ in timed], [s for _, steps in timed for s in steps], busy_share)


def _window(step: Step, seconds: float, clock: Clock) -> tuple[Window, list[float]]:
    """Run whole steps for at least `seconds`; the window ends with the only synchronisation."""
    clock.wait()
    start = clock.moment()
    marks, samples, further = [clock.mark()], 0, 1
    while further:
        for _ in range(further):
            samples += step()
            marks.append(clock.mark())
        further = _further(clock, clock.moment() - start, len(marks) - 1, seconds)
    clock.wait()
    spent = clock.moment() - start
    durations = [clock.seconds(first, second) for first, second in itertools.pairwise(marks)]
    if samples == 0:
        raise MeasurementError("The measured step handled no samples.", "It must return how many it handled.")
    return Window(seconds=spent, steps=len(durations), samples=samples), durations


def _further(clock: Clock, spent: float, done: int, wanted: float) -> int:
    """Steps to do before the time is looked at again; one where nobody has to be asked."""
    if not isinstance(clock, RankClock):
        return int(spent < wanted)
    left = wanted - spent
    return clock.agree(max(1, int(left / spent * done)) if left > 0 else 0)


def _agreed(clock: Clock, wanted: bool) -> bool:
    return bool(clock.agree(int(wanted))) if isinstance(clock, RankClock) else wanted


def _refuse_long_warmup(warmup_seconds: float, measured_seconds: float) -> None:
    if warmup_seconds >= measured_seconds:
        raise MeasurementError(
            f"WARMUP_GE_STEPS: {warmup_seconds:g} s of warm-up for {measured_seconds:g} s of measurement.",
            "The warm-up must be shorter than what is measured.",
            "Ask for more or longer windows.",
        )
