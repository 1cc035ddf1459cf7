"""A served model under MLPerf's own load generator, whose verdict is kept with the figures.

    python -m benchmarks.loadgen resnet50 --inputs cat.jpg dog.jpg --scenario SingleStream
    python -m benchmarks.loadgen bert4rec --history 12 7 --scenario Server --rate 50 --latency-ms 100

SingleStream sends the next request when the last is answered, Offline all at once, Server at random at a rate. Its log
files are kept beside the record. Needs the package mlcommons-loadgen, which is no part of the kit: pip install it.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.imports import loadgen_lines
from benchmarks.measure import Estimate, Percentiles, Warmup, Window, Windows
from benchmarks.record import Finding, ProtocolUsed, Record, Validity, new_record
from benchmarks.serving import LoadedModel
from benchmarks.validity import judge
from challenges.asking import batches
from common.errors import KitError, ServingError
from common.question import Question
from common.serving.client import Client, Protocol, key_header

Scenario = Literal["SingleStream", "Offline", "Server"]
SUMMARY = "mlperf_log_summary.txt"
CAPACITY_SECONDS = 2.0
AMPLE, TRIES = 1.5, 3  # of the rate seen is expected of an offline query, and how often it is sent at most
LARGEST_OFFLINE = 100_000  # samples that one query may hold: their identifiers are kept in memory


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to ask, how, and for how long."""

    inputs: tuple[Path, ...] = ()
    """Files, for a model of images."""
    history: tuple[str, ...] = ()
    """Identifiers or titles, oldest first."""
    user: str | None = None
    scenario: Scenario = "SingleStream"
    seconds: float = 60.0
    """At least; MLPerf's own rule is 600."""
    rate: float | None = None
    """Requests per second of Server; by default half of what the clients reach together."""
    latency_ms: float = 100.0
    """That 99 of 100 requests of Server have to keep."""
    clients: int = 8
    """Requests of Offline and Server that may be unanswered at a time."""
    url: str = "127.0.0.1:8000"
    protocol: Protocol = "http"
    timeout: float = 30.0
    logs: Path = Path("runs/loadgen")
    """Folder of MLPerf's log files."""
    output: Path | None = None


Ask = Callable[[int], None]
"""Sends the request of this number among those there are, and returns once it is answered."""


def drive(ask: Ask, count: int, settings: Settings) -> dict[str, str]:
    """Let the generator send its requests, and return what its summary says.

    Offline's one query, which is as long as its rate was expected to be, is sent again where it ended too soon.
    Raises KitError where the generator is not installed, ServingError where a request failed.
    """
    offline = settings.scenario == "Offline"
    rate = settings.rate or capacity(ask, count, settings.clients) * (AMPLE if offline else 0.5)
    for _ in range(TRIES):
        summary = _sent(ask, count, settings, rate)
        if not offline or summary.get("Min duration satisfied", "Yes").upper() != "NO":
            break
        rate = AMPLE * _number(summary, "Samples per second")
    return summary


def _sent(ask: Ask, count: int, settings: Settings, rate: float) -> dict[str, str]:
    """One run of the generator at this rate."""
    generator = _generator()
    failures: list[Exception] = []
    settings.logs.mkdir(parents=True, exist_ok=True)

    def answer(sample: Any) -> None:
        try:
            ask(sample.index)
        except Exception as error:  # in a thread of the pool: the generator has to be told that it is over
            failures.append(error)
        generator.QuerySamplesComplete([generator.QuerySampleResponse(sample.id, 0, 0)])

    with ThreadPoolExecutor(1 if settings.scenario == "SingleStream" else settings.clients) as pool:

        def issue(samples: Sequence[Any]) -> None:
            for sample in samples:
                pool.submit(answer, sample)

        system = generator.ConstructSUT(issue, lambda: None)
        library = generator.ConstructQSL(count, count, lambda _: None, lambda _: None)
        try:
            logs = generator.LogSettings()
            logs.log_output = generator.LogOutputSettings()
            logs.log_output.outdir = str(settings.logs)
            logs.log_output.copy_summary_to_stdout = False
            generator.StartTestWithLogSettings(system, library, _test_settings(generator, settings, rate), logs)
        finally:
            generator.DestroyQSL(library)
            generator.DestroySUT(system)
    if failures:
        raise ServingError(f"{len(failures)} requests failed, the first: {failures[0]}", "All have to be answered.")
    return read_summary(settings.logs / SUMMARY)


def capacity(ask: Ask, count: int, clients: int) -> float:
    """Requests per second that so many clients reach in a closed loop, in about two seconds."""
    end, done = time.perf_counter() + CAPACITY_SECONDS, [0] * clients

    def client(number: int) -> None:
        while time.perf_counter() < end:
            ask((number + done[number]) % count)
            done[number] += 1

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for future in [pool.submit(client, number) for number in range(clients)]:
            future.result()
    return sum(done) / (time.perf_counter() - started)


def read_summary(path: Path) -> dict[str, str]:
    """The `name : value` lines of a generator's summary. Raises KitError where it holds no result."""
    found = loadgen_lines(path.read_text() if path.is_file() else "")
    if "Result is" not in found:
        raise KitError(f"{path} is no summary of MLPerf's load generator.", "It has a line 'Result is : VALID'.")
    return found


def record_of(model: str, settings: Settings, summary: Mapping[str, str], shape: tuple[int, ...]) -> Record:
    """A `serve` record of one window; what the generator found invalid is a reason against it."""
    served = LoadedModel(model, settings.url, settings.protocol, settings.seconds, 0.0, {})
    environment = served.environment()
    rate = _number(summary, "Samples per second", "QPS w/o loadgen overhead", "Completed samples per second")
    latencies = [_number(summary, f"{share} percentile latency (ns)") / 1e6 for share in ("50.00", "90.00", "99.00")]
    samples = max(1, round(rate * settings.seconds))
    windows = Windows(
        warmup=Warmup(seconds=0.0, steps=0, steady=False),
        windows=(Window(seconds=samples / rate, steps=samples, samples=samples),),
        samples_per_s=Estimate(median=rate, minimum=rate, maximum=rate, interval=(rate, rate)),
        step_ms=Percentiles(p50=latencies[0], p90=latencies[1], p99=latencies[2]),
        busy_share=0.0,
    )
    name = settings.scenario.lower()
    judged = judge({name: windows}, environment=environment, data="real")
    unmet = [f"{key}: {value}" for key, value in summary.items() if "satisfied" in key and value.upper() == "NO"]
    reasons = judged.reasons
    if summary["Result is"] != "VALID":
        text = f"MLPerf's load generator says {summary['Result is']}: {'; '.join(unmet) or 'see its log'}."
        reasons += (Finding(code="TOO_SHORT", text=text),)
    return new_record(
        kind="serve",
        name=f"mlperf-{name}",
        workload=served.workload(shape, 1 if settings.scenario == "SingleStream" else settings.clients),
        protocol=ProtocolUsed(
            name=f"mlperf-{name}", version=1, warmup_seconds=0.0, windows=1, window_seconds=settings.seconds
        ),
        measurements={name: windows},
        validity=Validity(valid=not reasons, reasons=reasons, warnings=judged.warnings),
        command=("python", "-m", "benchmarks.loadgen", *sys.argv[1:]),
        environment=environment,
    )  # fmt: skip


@contextlib.contextmanager
def asking(model: str, requests: Sequence[Mapping[str, np.ndarray]], settings: Settings) -> Iterator[Ask]:
    """What sends a request to the server, with a connection for each thread; all are closed with the block."""
    local, opened = threading.local(), list[Client]()

    def ask(index: int) -> None:
        if not hasattr(local, "client"):
            local.client = Client(settings.url, settings.protocol, settings.timeout, headers=key_header())
            opened.append(local.client)
        local.client.infer(model, requests[index])

    try:
        yield ask
    finally:
        for client in opened:
            with contextlib.suppress(Exception):  # of another thread: its sockets end with it
                client.close()


def main(model: Annotated[str, tyro.conf.Positional], settings: Settings) -> int:
    """Measure a served model by MLPerf's load generator and write a record.

    Args:
        model: the name that the server has it under.
    """
    _generator()
    question = Question(inputs=settings.inputs, history=settings.history, user=settings.user)
    with Client(settings.url, settings.protocol, settings.timeout) as connection:
        requests = batches(connection, model, question)
        for request in requests:
            connection.infer(model, request)  # warm, and a question that the server refuses is told before the load
    with asking(model, requests, settings) as ask:
        summary = drive(ask, len(requests), settings)
    print(f"Result is: {summary['Result is']}")
    shape = next(iter(requests[0].values())).shape[1:]
    publish(record_of(model, settings, summary, shape), settings.output, Console())
    return 0


def _generator() -> Any:
    try:
        import mlperf_loadgen
    except ImportError:
        raise KitError(
            "mlcommons-loadgen is not installed.", "MLPerf's load generator is its own package.",
            "pip install mlcommons-loadgen",
        ) from None  # fmt: skip
    return mlperf_loadgen


def _test_settings(generator: Any, settings: Settings, rate: float) -> Any:
    made = generator.TestSettings()
    made.scenario = getattr(generator.TestScenario, settings.scenario)
    made.mode = generator.TestMode.PerformanceOnly
    made.min_duration_ms = int(1000 * settings.seconds)
    made.min_query_count = 1 if settings.scenario == "Offline" else 64
    made.offline_expected_qps = min(rate, LARGEST_OFFLINE / settings.seconds)
    made.server_target_qps = rate
    made.server_target_latency_ns = int(1e6 * settings.latency_ms)
    return made


def _number(summary: Mapping[str, str], *names: str) -> float:
    """The first of these lines that is there."""
    for name in names:
        if name in summary:
            return float(summary[name].split()[0])
    raise KitError(f"The load generator's summary has no line {names[0]!r}.", "Another version of it was installed.")


if __name__ == "__main__":
    run_command(main)
