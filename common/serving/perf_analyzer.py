"""NVIDIA's perf_analyzer where it is installed: its command line, and its table as the record that load.py writes."""

import base64
import csv
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ServingError
from common.files import write_text
from common.serving.client import Protocol
from common.serving.load import LoadPlan

_LATENCIES = {"p50": "p50 latency", "p90": "p90 latency", "p99": "p99 latency"}
_COMPUTE = ("Server Compute Input", "Server Compute Infer", "Server Compute Output")


def find() -> str | None:
    """The program's path; the package of that name on the Python index is empty, so only the program itself counts."""
    return shutil.which("perf_analyzer")


def measure(
    program: str,
    url: str,
    protocol: Protocol,
    model: str,
    inputs: Sequence[Mapping[str, np.ndarray]],
    plan: LoadPlan,
    headers: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    """Run the closed-loop steps of `plan` on samples without a batch dimension; files go to `folder`."""
    write_text(folder / "perf_analyzer_input.json", json.dumps(input_data(inputs)))
    steps = []
    for concurrency in plan.concurrencies:
        table = folder / f"perf_analyzer_{concurrency}.csv"
        arguments = command(
            program, url, protocol, model, concurrency, plan, headers, folder / "perf_analyzer_input.json", table
        )
        allowed = 20 * (plan.seconds + plan.warmup_seconds) + 60  # it repeats a window until three in a row agree
        try:
            result = subprocess.run(arguments, capture_output=True, text=True, timeout=allowed)
        except subprocess.TimeoutExpired:
            raise ServingError(
                f"perf_analyzer did not end within {allowed:.0f} s at concurrency {concurrency}."
            ) from None
        if result.returncode or not table.is_file():
            reason = (result.stderr.strip() or result.stdout.strip() or "no reason given").splitlines()[-1]
            raise ServingError(f"perf_analyzer failed: {reason}", remedy="Use the kit's own generator: --tool own")
        steps += read_table(table.read_text())
    return {"kind": "serving-load", "tool": "perf_analyzer", "model": model, "protocol": protocol, "steps": steps}


def command(
    program: str,
    url: str,
    protocol: Protocol,
    model: str,
    concurrency: int,
    plan: LoadPlan,
    headers: Mapping[str, str],
    input_file: Path,
    table: Path,
) -> list[str]:
    arguments = [program, "-m", model, "-u", url, "-i", protocol, "--input-data", str(input_file)]
    arguments += ["--concurrency-range", str(concurrency), "--measurement-interval", str(int(plan.seconds * 1000))]
    arguments += ["--stability-percentage", "20", "--percentile", "99", "-f", str(table)]
    for name, value in headers.items():
        arguments += ["-H", f"{name}:{value}"]
    return arguments


def input_data(inputs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """perf_analyzer's JSON of samples: raw bytes in base64 with their shape."""
    return {
        "data": [
            {
                name: {"content": {"b64": base64.b64encode(array.tobytes()).decode()}, "shape": list(array.shape)}
                for name, array in sample.items()
            }
            for sample in inputs
        ]
    }


def read_table(text: str) -> list[dict[str, Any]]:
    """One step per row of the CSV, whose times are in microseconds."""
    steps = []
    for row in csv.DictReader(text.splitlines()):
        step: dict[str, Any] = {"mode": "closed", "concurrency": int(row["Concurrency"])}
        step["throughput"] = float(row["Inferences/Second"])
        step["latency_ms"] = {name: float(row[column]) / 1000 for name, column in _LATENCIES.items() if row.get(column)}
        if row.get("Server Queue"):
            step["queue_ms"] = float(row["Server Queue"]) / 1000
            step["compute_ms"] = sum(float(row[column]) for column in _COMPUTE) / 1000
        steps.append(step)
    return steps
