"""Load on a server, bounded in time and number: how fast it answers, what it refuses, and where the time goes.

Closed loop: a fixed number of clients, each sending its next request when the last is answered; shows the capacity.
Open loop: requests arrive at random at a given rate whether or not the server keeps up; shows the waiting, since the
latency counts from the moment a request was due.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import np_to_triton_dtype

from common.serving.client import Client, Protocol, address, key_header
from common.serving.problems import explain
from common.serving.statistics import counted_since, read_counts

LOAD_RECORD, SERVE_RECORD = "serving-load", "serve"
"""Kinds of what is written of a load: as it is, and as benchmarks compare it."""
UNSENT = "Unsent"
"""Kind of error of an open-loop request that was not sent because too many were unanswered."""


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """How long and how hard.

    concurrencies: closed-loop steps, one after the other.
    rates:         open-loop steps in requests per second, after the closed ones.
    seconds:       of each step, after `warmup_seconds` that are not counted.
    maximum_requests: of each step, so that a fast server does not fill the memory with latencies.
    outstanding:   open-loop requests that may be unanswered at a time.
    timeout:       seconds for one request.
    """

    concurrencies: tuple[int, ...] = (1, 2, 4, 8)
    rates: tuple[float, ...] = ()
    seconds: float = 10.0
    warmup_seconds: float = 1.0
    maximum_requests: int = 200_000
    outstanding: int = 256
    timeout: float = 30.0
    seed: int = 0


@dataclass
class _Tally:
    """Latencies in seconds of the requests answered well and when they were, and the others by kind.

    started: the moment from which on requests count, on the clock of perf_counter.
    """

    started: float = 0.0
    latencies: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    error_latencies: list[float] = field(default_factory=list)

    def requests(self) -> int:
        return len(self.latencies) + self.errors.total()

    def summary(self, seconds: float) -> dict[str, Any]:
        return {
            "seconds": round(seconds, 3),
            "requests": self.requests(),
            "throughput": round(len(self.latencies) / seconds, 2),
            "latency_ms": _percentiles(self.latencies),
            "answered_by_tenth": self._by_tenth(seconds),
            "errors": dict(self.errors),
            "error_latency_ms": _percentiles(self.error_latencies),
        }

    def _by_tenth(self, seconds: float) -> list[int]:
        """Requests answered well in each tenth of the step: whether a rate was steady."""
        moments = np.asarray(self.answered) - self.started
        return [int(count) for count in np.histogram(moments, bins=10, range=(0.0, seconds))[0]]


@dataclass
class LoadGenerator:
    """Sends the same few batches over and over.

    batches:       inputs by name, each array (batch, ...); taken in turn.
    statistics_of: models whose queue, compute and batches are recorded: for an ensemble its parts.
    memory_bytes:  the server's resident memory, where it can be known.
    """

    url: str
    protocol: Protocol
    model: str
    batches: Sequence[Mapping[str, np.ndarray]]
    statistics_of: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=key_header)
    memory_bytes: Callable[[], int] | None = None

    def run(self, plan: LoadPlan, report: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
        """The record of all steps; `report` gets each as it ends."""
        steps = []
        for settings in [{"concurrency": number} for number in plan.concurrencies] + [
            {"rate": rate} for rate in plan.rates
        ]:
            steps.append(self._step(plan, settings))
            report(steps[-1])
        sizes = sorted({len(next(iter(batch.values()))) for batch in self.batches})
        return {
            "kind": LOAD_RECORD,
            "tool": "challenge-kit",
            "model": self.model,
            "protocol": self.protocol,
            "request_batch": sizes,
            "warmup_seconds": plan.warmup_seconds,
            "steps": steps,
        }

    def _step(self, plan: LoadPlan, settings: Mapping[str, float]) -> dict[str, Any]:
        with Client(self.url, self.protocol, plan.timeout, headers=self.headers) as client:
            before, memory_before = read_counts(client, self.statistics_of), self._memory_mb()
            tally, seconds = asyncio.run(self._drive(plan, settings))
            memory_after = self._memory_mb()
            models = counted_since(client, before, len(tally.latencies))
        step = {"mode": "closed" if "concurrency" in settings else "open", **settings, **tally.summary(seconds)}
        step["models"] = models
        step["server_memory_mb"] = {"before": memory_before, "after": memory_after}
        return step

    async def _drive(self, plan: LoadPlan, settings: Mapping[str, float]) -> tuple[_Tally, float]:
        connection = self._connection(plan)
        try:
            send = self._sender(connection, plan)
            if "rate" in settings:
                return await _open_loop(send, plan, settings["rate"])
            return await _closed_loop(send, plan, int(settings["concurrency"]))
        finally:
            await connection.close()

    def _connection(self, plan: LoadPlan) -> Any:
        if self.protocol == "grpc":
            return tritonclient.grpc.aio.InferenceServerClient(address(self.url))
        return tritonclient.http.aio.InferenceServerClient(
            address(self.url),
            conn_limit=plan.outstanding + max(plan.concurrencies, default=0),
            conn_timeout=plan.timeout,
        )

    def _sender(self, connection: Any, plan: LoadPlan) -> Callable[[], Any]:
        """A function that sends the next batch and gives the kind of error, or None."""
        prepared = itertools.cycle([self._tensors(batch) for batch in self.batches])
        limits = {"client_timeout": plan.timeout} if self.protocol == "grpc" else {}

        async def send() -> str | None:
            try:
                await connection.infer(self.model, next(prepared), headers=dict(self.headers), **limits)
            except Exception as error:
                return type(explain(error, self.model, self.url, plan.timeout)).__name__.removesuffix("Error")
            return None

        return send

    def _tensors(self, batch: Mapping[str, np.ndarray]) -> list[Any]:
        api: Any = tritonclient.http if self.protocol == "http" else tritonclient.grpc
        tensors = []
        for name, array in batch.items():
            tensor = api.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        return tensors

    def _memory_mb(self) -> float | None:
        return round(self.memory_bytes() / 1e6, 1) if self.memory_bytes else None


async def _closed_loop(send: Callable[[], Any], plan: LoadPlan, concurrency: int) -> tuple[_Tally, float]:
    started = time.perf_counter() + plan.warmup_seconds
    tally = _Tally(started)
    deadline = started + plan.seconds

    async def client() -> None:
        while (now := time.perf_counter()) < deadline and tally.requests() < plan.maximum_requests:
            error = await send()
            finished = time.perf_counter()
            if now >= started:
                _note(tally, error, finished - now)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return tally, time.perf_counter() - started


async def _open_loop(send: Callable[[], Any], plan: LoadPlan, rate: float) -> tuple[_Tally, float]:
    started = time.perf_counter() + plan.warmup_seconds
    tally = _Tally(started)
    waiting: set[asyncio.Task[None]] = set()

    async def request(due: float) -> None:
        error = await send()
        if due >= started:
            _note(tally, error, time.perf_counter() - due)

    for due in itertools.islice(_arrivals(plan, rate), plan.maximum_requests):
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if len(waiting) >= plan.outstanding:
            tally.errors[UNSENT] += due >= started
            continue
        task = asyncio.create_task(request(due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)
    return tally, time.perf_counter() - started


def _arrivals(plan: LoadPlan, rate: float) -> Iterator[float]:
    """Moments of a Poisson process, on the clock of perf_counter, until the step ends."""
    generator = random.Random(plan.seed)
    now = time.perf_counter()
    deadline = now + plan.warmup_seconds + plan.seconds
    while (now := now + generator.expovariate(rate)) < deadline:
        yield now


def _note(tally: _Tally, error: str | None, seconds: float) -> None:
    if error is None:
        tally.latencies.append(seconds)
        tally.answered.append(time.perf_counter())
    else:
        tally.errors[error] += 1
        tally.error_latencies.append(seconds)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Nearest-rank percentiles in ms; empty for no values."""
    if not seconds:
        return {}
    ranks = np.percentile(np.asarray(seconds) * 1e3, [50, 90, 99, 100], method="inverted_cdf")
    names = ("p50", "p90", "p99", "maximum")
    return {name: round(float(value), 3) for name, value in zip(names, ranks, strict=True)}
