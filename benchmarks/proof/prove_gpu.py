"""What only a GPU shows, in ten minutes: every part in a process of its own, its record, and one page of verdicts.

    python -m benchmarks.proof.prove_gpu [--output FOLDER] [--seconds N] [PART ...]

The parts come in the order of their worth, so that what is learnt first matters most where time runs out. A part that
fails, hangs or dies is told and the next one begins. Where there is no GPU a part says so, or does a little of its work
on the CPU. Needs torch and NumPy; what else a part needs and does not find, it names.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SECONDS = 590.0  # a lent machine ends a command after 600
LEAST = 5.0  # seconds: with less left, no part is begun

LIMITS = {
    "tests": 75.0,
    "momentum": 30.0,
    "waits": 90.0,
    "ladder": 150.0,
    "detection": 60.0,
    "recommenders": 90.0,
    "capture": 45.0,
    "pixels": 45.0,
    "zero-copy": 60.0,
    "overlap": 60.0,
    "walk": 120.0,
}
"""Part -> the most seconds that it may take; what each does is told in benchmarks/proof/gpu_parts.py."""
COMMAND = (sys.executable, "-m", "benchmarks.proof.gpu_parts")

AFTERWARDS = """
## What this does not show

TensorRT engines, Triton on a GPU, and the containers: these need NVIDIA's images and a machine with Docker. There:
`make doctor`, `make challenge1 CONTAINER=1`, `make up1 MODELS=runs/.../serving`.
"""


@dataclass(frozen=True)
class Verdict:
    """What a part found.

    verdict: passed, failed, measured, needs a GPU, or left out.
    figures: by name, units in the names.
    """

    verdict: str
    told: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def prove(parts: list[str], output: Path, seconds: float) -> dict[str, Verdict]:
    """Run the parts one after the other, and write each one's record and the page."""
    output.mkdir(parents=True, exist_ok=True)
    began, found = time.monotonic(), {}
    for name in parts:
        left = seconds - (time.monotonic() - began)
        started = time.monotonic()
        found[name] = run(name, output, min(LIMITS[name], left)) if left >= LEAST else Verdict("left out", "no time")
        took = time.monotonic() - started
        record = {"part": name, "seconds": round(took, 2), **asdict(found[name])}
        (output / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        print(f"{name}: {found[name].verdict}, {took:.0f} s. {found[name].told}", flush=True)
        (output / "verdicts.md").write_text(page(found))
    return found


def run(name: str, output: Path, limit: float) -> Verdict:
    """One part in a process of its own, whose last line that is a verdict counts: it may tell what it has so far."""
    log = output / f"{name}.log"
    with log.open("w") as stream:
        part = subprocess.Popen(
            [*COMMAND, name, str(output)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            code = part.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(part.pid, signal.SIGKILL)  # with what it started
            part.wait()
            code = None
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing said"]
    told = [line for line in lines if line.startswith('{"verdict"') and line.endswith("}")]
    found = Verdict(**json.loads(told[-1])) if told else Verdict("failed")
    if code == 0 and told:
        return found
    if code is None:
        return replace(found, told=f"It was not done after {limit:.0f} s: see {log.name}. {found.told}".strip())
    return replace(found, verdict="failed", told=f"Exit code {code}, see {log.name}: {lines[-1][:300]}")


def page(found: dict[str, Verdict]) -> str:
    """The verdicts as a table, and every figure."""
    rows = [f"| {name} | {one.verdict} | {one.told.replace('|', '/')} |" for name, one in found.items()]
    figures = [
        f"| {name} | {key} | {value:,.6g} |" for name, one in found.items() for key, value in one.figures.items()
    ]
    text = ["# What this machine's GPU shows", "", "| part | verdict | |", "| --- | --- | --- |", *rows]
    if figures:
        text += ["", "| part | figure | |", "| --- | --- | --- |", *figures]
    return "\n".join(text) + "\n" + AFTERWARDS


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a part failed."""
    parser = argparse.ArgumentParser(description="What only a GPU shows, in ten minutes.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(LIMITS)}; all, in this order")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/prove-gpu"), help="folder of the records and the page"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    options: Any = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in LIMITS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such part; there are {', '.join(LIMITS)}")
    found = prove(options.parts or list(LIMITS), options.output, options.seconds)
    print(f"All verdicts: {options.output / 'verdicts.md'}")
    return int(any(one.verdict == "failed" for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
