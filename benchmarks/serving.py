"""What a load on a server measured, as a record that is compared like every other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import Percentiles, Warmup, Window, Windows, estimate, throughputs
from benchmarks.record import ELSEWHERE, ProtocolUsed, Record, Workload, as_json, environment_of, new_record
from benchmarks.validity import judge
from challenges.registry import MODELS
from common.errors import ServingError

HERE = ("127.0.0.1", "localhost", "::1")
PROTOCOL_NAME, PROTOCOL_VERSION = "load", 1


@dataclass(frozen=True)
class LoadedModel:
    """Which server's model was loaded, for how long; shapes: of one sample, by input."""

    name: str
    url: str
    protocol: str
    seconds: float
    warmup_seconds: float
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def is_here(self) -> bool:
        return urlsplit(self.url if "//" in self.url else f"//{self.url}").hostname in HERE

    def environment(self) -> dict[str, Any]:
        """This machine's, whose GPU answers where it has one; of a server elsewhere nothing is known."""
        found = environment_of(device="cpu", precision="unknown")
        if not self.is_here:
            found["device"] = ELSEWHERE
        elif found["gpus"]:
            found["device"] = "cuda"
        return found

    def workload(self, shape: Sequence[int], concurrency: int | None, batch: int = 1) -> Workload:
        """shape: of one sample; sizes below 1, which vary, are left out."""
        entry = MODELS.get(self.name)
        return Workload(
            challenge=entry.folder if entry else "serving",
            model=self.name,
            engine="triton",
            batch=batch,
            input_shape=tuple(size for size in shape if size > 0),
            precision="unknown",
            sample_unit="request",
            data="real",
            dataset=", ".join(sorted(self.shapes)) or "inputs",
            concurrency=concurrency,
        )


def serve_record(served: LoadedModel, load: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON values of `record_of_load`."""
    return as_json(record_of_load(served, load))


def record_of_load(served: LoadedModel, load: Mapping[str, Any]) -> Record:
    """A `serve` record; load: what a LoadGenerator's run returned.

    Every step is a measurement of ten windows, named by its concurrency or its rate; errors, and what the server's own
    statistics say, are among the details.
    """
    environment = served.environment()
    steps = {_name(step): step for step in load["steps"]}
    answered = {name: step for name, step in steps.items() if sum(step["answered_by_tenth"])}
    measurements = {name: _windows(step, served.warmup_seconds) for name, step in answered.items()}
    if not measurements:
        raise ServingError(
            "No request was answered, and there is nothing to record.",
            f"Errors: {', '.join(sorted({kind for step in steps.values() for kind in step['errors']})) or 'none'}.",
            "See the server's log; a longer --timeout or fewer clients may do.",
        )
    most = max((int(step["concurrency"]) for step in steps.values() if "concurrency" in step), default=None)
    return new_record(
        kind="serve",
        name="load",
        workload=served.workload(next(iter(served.shapes.values()), ()), most, max(load["request_batch"])),
        protocol=ProtocolUsed(
            name=f"{PROTOCOL_NAME}-{served.protocol}",
            version=PROTOCOL_VERSION,
            warmup_seconds=served.warmup_seconds,
            windows=10,
            window_seconds=served.seconds / 10,
        ),
        measurements=measurements,
        details={detail: value for name, step in steps.items() for detail, value in _details(name, step).items()},
        validity=judge(measurements, environment=environment, data="real"),
        command=("kit", "load", "--model", served.name, "--protocol", served.protocol),
        environment=environment,
    )


def _name(step: Mapping[str, Any]) -> str:
    return f"concurrency-{step['concurrency']}" if step["mode"] == "closed" else f"rate-{step['rate']:g}"


def _windows(step: Mapping[str, Any], warmup_seconds: float) -> Windows:
    windows, latency = _joined(step["answered_by_tenth"], step["seconds"] / 10), step["latency_ms"]
    return Windows(
        warmup=Warmup(seconds=warmup_seconds, steps=0, steady=False),
        windows=tuple(windows),
        samples_per_s=estimate(throughputs(windows)),
        step_ms=Percentiles(p50=latency["p50"], p90=latency["p90"], p99=latency["p99"]),
        busy_share=0.0,  # the server is another process, and its work is what is measured
    )


def _joined(counts: Sequence[int], seconds: float) -> list[Window]:
    """A window per count; one without an answer belongs to the next that has some, the last ones to the one before."""
    windows: list[Window] = []
    waited = 0.0
    for count in counts:
        waited += seconds
        if count:
            windows.append(Window(seconds=waited, steps=count, samples=count))
            waited = 0.0
    last = windows.pop()
    return [*windows, Window(seconds=last.seconds + waited, steps=last.steps, samples=last.samples)]


def _details(name: str, step: Mapping[str, Any]) -> dict[str, float]:
    """Errors of a step, and what the server says about each of its models that was asked."""
    told = {f"{name}_requests": float(step["requests"]), f"{name}_errors": float(sum(step["errors"].values()))}
    for model, counts in step["models"].items():
        told |= {f"{name}_{model}_{part}": float(counts[part]) for part in ("queue_ms", "compute_ms", "mean_batch")}
    return told
