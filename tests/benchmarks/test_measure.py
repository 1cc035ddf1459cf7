"""The protocol on a clock of our own: what is counted, when it waits, and what it refuses."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import measure as measuring
from benchmarks.measure import MachineLoad, MeasurementError, ProcessorClock, UnqueuedClock, Window, Windows, interleave
from common.run.bootstrap import bootstrap


class World:
    """Time that passes only while something runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.waits = 0.0, 0
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: self.now)

    def step(self, seconds, samples: int = 10):
        """A step that takes `seconds`: a number, or an iterator of numbers."""
        durations = itertools.repeat(seconds) if isinstance(seconds, float) else iter(seconds)

        def run() -> int:
            self.now += next(durations)
            return samples

        return run

    # the clock's side
    def moment(self) -> float:
        return self.now

    def mark(self) -> float:
        return self.now

    def wait(self) -> None:
        self.waits += 1

    def seconds(self, first: float, second: float) -> float:
        return second - first


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def measure(step, *, windows: int, window_seconds: float, **settings) -> Windows:
    """One work alone."""
    return interleave({"work": step}, rounds=windows, block_seconds=window_seconds, **settings).sides["work"]


def test_throughput_of_a_constant_step(world):
    found = measure(world.step(0.1), warmup_seconds=1.0, windows=4, window_seconds=1.05, clock=world)
    assert [window.steps for window in found.windows] == [11] * 4
    assert found.samples_per_s.median == pytest.approx(100)
    assert found.samples_per_s.interval == pytest.approx((100, 100))
    assert found.step_ms.p50 == pytest.approx(100)
    assert found.warmup.steady
    assert 1.0 <= found.warmup.seconds < 2.0


def test_the_device_is_waited_for_only_around_windows(world):
    measure(world.step(0.01), warmup_seconds=0.5, windows=3, window_seconds=1.0, clock=world)
    assert world.waits == 2 * (3 + 3)  # three warm-up blocks and three windows


def test_a_slow_start_is_warmed_up_away(world):
    start = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2]
    step = world.step(itertools.chain(start, itertools.repeat(0.1)))
    found = measure(step, warmup_seconds=1.0, windows=20, window_seconds=1.0, clock=world)
    assert found.warmup.steady
    assert found.warmup.steps > len(start)
    assert found.samples_per_s.minimum == pytest.approx(100)


def test_a_warm_up_that_never_steadies_ends_at_half_the_measured_time(world):
    step = world.step(itertools.cycle([0.1] * 5 + [0.3] * 5))
    found = measure(step, warmup_seconds=1.0, windows=4, window_seconds=2.0, clock=world)
    assert not found.warmup.steady
    assert 4.0 <= found.warmup.seconds < 5.0


def test_the_tail_is_kept(world):
    step = world.step(itertools.cycle([0.01] * 49 + [1.0]))
    found = measure(step, warmup_seconds=4.0, windows=4, window_seconds=10.0, clock=world)
    assert found.step_ms.p50 == pytest.approx(10)
    assert found.step_ms.p99 > 500


def test_a_warm_up_as_long_as_the_measurement_is_refused(world):
    with pytest.raises(MeasurementError, match="WARMUP_GE_STEPS"):
        measure(world.step(0.1), warmup_seconds=5.0, windows=5, window_seconds=1.0, clock=world)
    with pytest.raises(MeasurementError, match="WARMUP_GE_STEPS"):
        interleave({"a": world.step(0.1)}, warmup_seconds=5.0, rounds=5, block_seconds=1.0, clock=world)


def test_a_step_without_samples_is_refused(world):
    with pytest.raises(MeasurementError, match="no samples"):
        measure(world.step(0.1, samples=0), warmup_seconds=1.0, windows=5, window_seconds=1.0, clock=world)


def test_sides_run_in_turns(world):
    order = []

    def side(name: str):
        step = world.step(1.0)

        def run() -> int:
            order.append(name)
            return step()

        return run

    interleave({"a": side("a"), "b": side("b")}, warmup_seconds=1.0, rounds=3, block_seconds=1.0, clock=world)
    assert "".join(order[-6:]) == "abbaab"


def test_the_ratio_survives_a_machine_that_slows_down(world):
    """Both sides get several times slower during the run; side by side their ratio is still seen."""

    def side(seconds: float):
        def run() -> int:
            world.now += seconds * (1 + world.now / 2)
            return 10

        return run

    sides = {"fast": side(0.01), "slow": side(0.02)}
    found = interleave(sides, warmup_seconds=0.3, rounds=20, block_seconds=0.5, clock=world)
    rates = found.sides["fast"].samples_per_s
    assert rates.maximum > 3 * rates.minimum
    ratio = found.ratio("fast", "slow")
    assert ratio.median == pytest.approx(2.0, rel=0.05)
    assert ratio.pairs == 20


def test_the_ratio_to_several_is_to_the_slowest(world):
    steps = {"data": world.step(0.1), "compute": world.step(0.2), "both": world.step(0.25)}
    found = interleave(steps, warmup_seconds=1.0, rounds=4, block_seconds=1.0, clock=world)
    assert found.ratio("both", "data", "compute").median == pytest.approx(0.8)


def test_settling_takes_what_was_queued_meanwhile(world):
    """A queue that filled while the other side ran must not count."""
    queue = {"full": 0}

    def queued() -> int:
        if queue["full"]:
            queue["full"] -= 1
        else:
            world.now += 0.1
        world.now += 0.001
        return 1

    def other() -> int:
        queue["full"] = 5
        world.now += 0.1
        return 1

    sides = {"other": other, "queued": queued}
    arguments = {"warmup_seconds": 0.5, "rounds": 3, "block_seconds": 1.0, "clock": world}
    hasty = interleave(sides, **arguments).sides["queued"].samples_per_s.median
    settled = interleave(sides, **arguments, settle_seconds=0.1).sides["queued"].samples_per_s.median
    assert settled == pytest.approx(1 / 0.101, rel=0.01)
    assert hasty > 1.3 * settled


def test_the_interval_of_the_median_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = bootstrap(random.normal(10, 1, size=25), np.median)
        hits += low <= 10 <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_throughputs_are_per_window():
    timed = [Window(seconds=2.0, steps=1, samples=10), Window(seconds=1.0, steps=1, samples=10)]
    assert measuring.throughputs(timed).tolist() == [5.0, 10.0]


def test_work_of_this_process_is_not_others_work():
    load = MachineLoad()
    start = time.process_time()
    while time.process_time() - start < 0.2:
        sum(range(1000))
    assert load._own_seconds() - load.own >= 0.15
    assert 0 <= load.busy_share() <= 1


def test_a_childs_work_is_our_work():
    load = MachineLoad()
    child = multiprocessing.get_context("spawn").Process(target=_work, args=(0.3,))
    child.start()
    child.join()
    assert load._own_seconds() - load.own >= 0.29


def _work(seconds: float) -> None:
    start = time.process_time()
    while time.process_time() - start < seconds:
        sum(range(1000))


@pytest.mark.gpu
def test_events_time_what_runs_on_the_gpu():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    matrix = torch.ones(4096, 4096, device="cuda")

    def step() -> int:
        torch.mm(matrix, matrix)
        return 1

    found = measure(step, warmup_seconds=0.3, windows=3, window_seconds=0.5, clock=measuring.CudaClock())
    seconds = sum(window.seconds for window in found.windows)
    assert found.step_ms.p50 / 1000 * found.steps == pytest.approx(seconds, rel=0.2)


def test_the_processor_clock_stands_still_while_a_process_waits():
    clock = ProcessorClock()
    first = clock.mark()
    time.sleep(0.05)
    assert clock.seconds(first, clock.mark()) < 0.04


def test_queueing_for_a_core_is_no_time_and_sleeping_is():
    """Beside three that share its core, a process computes a quarter of the time and queues for the rest."""
    core, all_cores = {min(os.sched_getaffinity(0))}, os.sched_getaffinity(0)
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for process in (0, *(other.pid for other in others)):
            os.sched_setaffinity(process, core)
        clock = UnqueuedClock([os.getpid()])
        began, computed, wall = clock.moment(), time.thread_time(), time.perf_counter()
        while time.thread_time() - computed < 0.3:
            pass
        spent, wall = clock.moment() - began, time.perf_counter() - wall
        assert wall > 0.6
        assert spent == pytest.approx(0.3, rel=0.25)
        began = clock.moment()
        time.sleep(0.1)
        assert clock.moment() - began >= 0.09
    finally:
        os.sched_setaffinity(0, all_cores)
        for other in others:
            other.kill()
            other.wait()


def test_a_kernel_that_tells_no_queueing_leaves_plain_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "Path", lambda path: tmp_path / path[1:])
    clock = UnqueuedClock([os.getpid()])
    before = time.perf_counter()
    assert before <= clock.moment() <= time.perf_counter()
