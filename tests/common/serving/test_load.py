"""The load generator counts what it sends."""

import asyncio
from typing import Any

import numpy as np
import pytest

from common.serving import load
from common.serving.client import Client
from common.serving.load import UNSENT, LoadPlan
from common.serving.statistics import ModelCounts, counted_since


class FakeServer:
    """Answers after `seconds`, at most `capacity` at a time; the rest is refused at once."""

    def __init__(self, seconds: float, capacity: int = 1000) -> None:
        self.seconds, self.capacity, self.busy, self.most, self.answered = seconds, capacity, 0, 0, 0

    async def send(self) -> str | None:
        if self.busy >= self.capacity:
            return "Overloaded"
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(self.seconds)
        self.busy -= 1
        self.answered += 1
        return None


def test_closed_loop_keeps_its_concurrency() -> None:
    server = FakeServer(0.01)
    plan = LoadPlan(seconds=0.3, warmup_seconds=0.1)
    tally, seconds = asyncio.run(load._closed_loop(server.send, plan, 3))
    summary = tally.summary(seconds)
    assert server.most == 3
    assert 0 < summary["requests"] < server.answered  # the warm-up is not counted
    assert summary["errors"] == {}
    assert 10 <= summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] <= summary["latency_ms"]["maximum"]
    assert summary["throughput"] == pytest.approx(summary["requests"] / seconds, rel=0.01)


def test_closed_loop_is_bounded_in_number() -> None:
    plan = LoadPlan(seconds=30, warmup_seconds=0, maximum_requests=50)
    tally, seconds = asyncio.run(load._closed_loop(FakeServer(0.001).send, plan, 4))
    assert 50 <= tally.requests() <= 54
    assert seconds < 5


def test_open_loop_arrives_at_its_rate_and_counts_refusals() -> None:
    plan = LoadPlan(seconds=0.8, warmup_seconds=0)
    tally, seconds = asyncio.run(load._open_loop(FakeServer(0.05, capacity=2).send, plan, 100))
    expected = sum(1 for _ in load._arrivals(plan, 100))
    assert tally.requests() == expected
    assert 50 <= expected <= 110
    assert tally.errors["Overloaded"] > 0
    assert len(tally.error_latencies) == tally.errors["Overloaded"]
    assert 0.7 < seconds < 2


def test_open_loop_does_not_wait_for_a_stuck_server() -> None:
    plan = LoadPlan(seconds=0.3, warmup_seconds=0, outstanding=3)
    tally, _ = asyncio.run(load._open_loop(FakeServer(0.5).send, plan, 200))
    assert len(tally.latencies) == 3
    assert tally.errors[UNSENT] > 10


def test_arrivals_are_poisson() -> None:
    plan = LoadPlan(seconds=1000, warmup_seconds=0)
    gaps = np.diff(list(load._arrivals(plan, 20)))
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.05)  # an exponential law has a spread like its mean


def test_percentiles_are_values_that_occurred() -> None:
    assert load._percentiles([number / 1000 for number in range(1, 101)]) == {
        "p50": 50,
        "p90": 90,
        "p99": 99,
        "maximum": 100,
    }
    assert load._percentiles([]) == {}


def counts(inferences: int, executions: int, queue_ms: int, batches: dict[int, int], text: bool) -> dict[str, Any]:
    """An answer of the statistics call; `text`: as gRPC gives it, with integers as text."""
    value = str if text else int
    return {
        "name": "model",
        "inference_count": value(inferences),
        "execution_count": value(executions),
        "inference_stats": {
            "success": {"count": value(inferences), "ns": value(10**9)},
            "fail": {},
            "queue": {"count": value(inferences), "ns": value(queue_ms * 10**6)},
            **{f"compute_{part}": {"ns": value(inferences * 10**6)} for part in ("input", "infer", "output")},
        },
        "batch_stats": [
            {"batch_size": value(size), "compute_infer": {"count": value(count)}} for size, count in batches.items()
        ],
    }


@pytest.mark.parametrize("text", [False, True])
def test_statistics_between_two_moments(text: bool) -> None:
    before = ModelCounts.from_answer(counts(10, 10, 20, {1: 10}, text))
    after = ModelCounts.from_answer(counts(40, 20, 80, {1: 10, 2: 5, 4: 5}, text))
    assert after.since(before) == {
        "requests": 30,
        "failed": 0,
        "executions": 10,
        "mean_batch": 3.0,
        "queue_ms": 2.0,
        "compute_ms": 3.0,
        "batches": {"2": 5, "4": 5},
    }


def test_statistics_of_a_model_that_never_ran() -> None:
    empty = ModelCounts.from_answer({"name": "model"})
    assert empty.since(empty)["requests"] == 0


class LateCounts(Client):
    """Statistics whose reads show one number of requests after the other, then the last for ever."""

    def __init__(self, *requests: int) -> None:
        self.requests = list(requests)

    def statistics(self, model: str) -> dict[str, Any]:
        number = self.requests.pop(0) if len(self.requests) > 1 else self.requests[0]
        return counts(number, number, number, {1: number}, False)


def test_a_batch_that_is_answered_before_it_is_counted_is_waited_for() -> None:
    client, before = (
        LateCounts(18, 18, 18, 26, 34),
        {"model": ModelCounts.from_answer(counts(10, 10, 10, {1: 10}, False))},
    )
    assert counted_since(client, before, 20)["model"]["requests"] == 24
    short = counted_since(LateCounts(18), before, 20, patience=0.2)
    assert short["model"]["batches"] == {"1": 8}  # what never comes is not waited for beyond patience
    assert counted_since(client, {}, 20) == {}
