"""What Triton counted between two moments: where the time went, and how large the batches were."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.serving.client import Client
from common.serving.problems import ForbiddenError

_PHASES = {"queue": "queue", "compute_input": "compute", "compute_infer": "compute", "compute_output": "compute"}
_BETWEEN_READS = 0.05
"""Seconds."""


@dataclass(frozen=True)
class ModelCounts:
    """Totals of one model since its server started.

    requests:    answered well, and failed.
    queue_ns, compute_ns: summed over the requests answered well.
    batches:     batch size -> number of executions.
    """

    requests: int
    failed: int
    inferences: int
    executions: int
    queue_ns: int
    compute_ns: int
    batches: dict[int, int]

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> "ModelCounts":
        """Read the statistics call's answer; gRPC gives its integers as text and leaves zeros out."""
        phases = answer.get("inference_stats", {})
        nanoseconds = {"queue": 0, "compute": 0}
        for phase, kind in _PHASES.items():
            nanoseconds[kind] += int(phases.get(phase, {}).get("ns", 0))
        return cls(
            requests=int(phases.get("success", {}).get("count", 0)),
            failed=int(phases.get("fail", {}).get("count", 0)),
            inferences=int(answer.get("inference_count", 0)),
            executions=int(answer.get("execution_count", 0)),
            queue_ns=nanoseconds["queue"],
            compute_ns=nanoseconds["compute"],
            batches={
                int(entry["batch_size"]): int(entry.get("compute_infer", {}).get("count", 0))
                for entry in answer.get("batch_stats", [])
            },
        )

    def since(self, before: "ModelCounts") -> dict[str, Any]:
        """What happened since `before`: times in ms per request, batch sizes as a histogram."""
        requests = self.requests - before.requests
        executions = self.executions - before.executions
        batches = {size: count - before.batches.get(size, 0) for size, count in sorted(self.batches.items())}
        return {
            "requests": requests,
            "failed": self.failed - before.failed,
            "executions": executions,
            "mean_batch": round((self.inferences - before.inferences) / max(1, executions), 3),
            "queue_ms": round((self.queue_ns - before.queue_ns) / max(1, requests) / 1e6, 3),
            "compute_ms": round((self.compute_ns - before.compute_ns) / max(1, requests) / 1e6, 3),
            "batches": {str(size): count for size, count in batches.items() if count},
        }


def read_counts(client: Client, models: tuple[str, ...]) -> dict[str, ModelCounts]:
    """Counts by model name; empty where the client may not read them."""
    try:
        return {model: ModelCounts.from_answer(client.statistics(model)) for model in models}
    except ForbiddenError:
        return {}


def counted_since(
    client: Client, before: Mapping[str, ModelCounts], answered: int, patience: float = 2.0
) -> dict[str, dict[str, Any]]:
    """What happened in each model of `before` since, as `ModelCounts.since` says it.

    Triton answers a batch before it counts it. So the counts are read until they stand still with at least `answered`
    requests more in each model, for at most `patience` seconds.
    """
    after = read_counts(client, tuple(before))
    deadline = time.monotonic() + patience
    while before and time.monotonic() < deadline:
        time.sleep(_BETWEEN_READS)
        earlier, after = after, read_counts(client, tuple(before))
        if after == earlier and all(after[model].requests - before[model].requests >= answered for model in after):
            break
    return {model: counts.since(before[model]) for model, counts in after.items()}
