"""Instructions of the kit's hot paths, against those committed: a slower one is told on the busiest machine.

    python -m benchmarks.watch.speed
    python -m benchmarks.watch.speed manifest-scan --update 'the scan reads the owners, too'

Each path of `benchmarks.watch.hot_paths` runs under valgrind's callgrind in an interpreter of its own, with one thread,
a fixed seed of hashes and nothing else in its environment; only warm calls count, so that nothing has to be subtracted.
`speed.json` beside this file holds the counts, each with the reason why it is what it is, and with the versions that
they hold for: another Python or NumPy takes other instructions.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.command import run_command
from benchmarks.watch.hot_paths import PATHS
from common.errors import KitError
from common.files import read_json, write_json
from common.machine.environment import ROOT

FILE = Path(__file__).with_suffix(".json")
ALLOWED = 0.005  # of a path's instructions: repeated counts differ by a hundredth of it
PACKAGES = ("numpy", "polars", "torch")
CHANGED_EXIT_CODE = 1
OPTIONS = ("--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=counts")
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1"),
}
TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)


class SpeedError(KitError):
    """Counts that cannot be made, or that cannot be compared."""


@dataclass(frozen=True)
class Count:
    """A path's instructions now, and those that were committed; None where there are none."""

    name: str
    now: int
    before: int | None

    @property
    def change(self) -> float:
        """Of the committed count: 0.01 are 1 % more instructions."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def holds(self) -> bool:
        return self.before is not None and abs(self.change) <= ALLOWED

    def __str__(self) -> str:
        told = f"{self.change:+.3%}{'' if self.holds else ' CHANGED'}" if self.before else "not committed yet"
        return f"SPEED {self.name} {self.now:,} instructions {told}"


def why_not() -> str:
    """Why instructions cannot be counted here; empty where they can."""
    if platform.machine() != "x86_64":
        return f"instructions are counted on x86-64, and this is {platform.machine()}"
    return "" if shutil.which("valgrind") else "valgrind is not here: apt-get install valgrind"


def count(name: str, tree: Path = ROOT) -> int:
    """The instructions of ten warm calls of a path, with the files of `tree`. Raises SpeedError."""
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(tree), **ENVIRONMENT}
    command = [sys.executable, "-P", "-m", "benchmarks.watch.hot_paths", name]
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        # first alone: what compiles its modules has other addresses, and so other collisions in Python's caches
        for under in ([], ["valgrind", *OPTIONS]):
            done = subprocess.run([*under, *command], cwd=folder, env=environment, capture_output=True, text=True)
        counts = Path(folder, "counts")
        found = TOTAL.search(counts.read_text()) if done.returncode == 0 and counts.is_file() else None
    if found is None or not int(found[1]):
        told = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("==")]
        raise SpeedError(
            f"The instructions of {name} were not counted: {told[-1] if told else 'callgrind wrote none'}.",
            "valgrind runs a path to its end and writes a count.",
            f"Run it without: python -m benchmarks.watch.hot_paths {name}",
        )
    return int(found[1])


def here() -> dict[str, str]:
    """What counts hold for."""
    return {"python": sys.version, **{name: version(name) for name in PACKAGES}}


def main(paths: Annotated[tuple[str, ...], tyro.conf.Positional] = (), update: str | None = None) -> int:
    """Count the instructions of hot paths and hold them against those committed; the exit code is 1 where one changed.

    Args:
        paths: names, as benchmarks/watch/speed.json has them; all by default.
        update: write the counts that changed, for this reason.
    """
    names = paths or tuple(PATHS)
    for name in names:
        if name not in PATHS:
            raise SpeedError(f"{name!r} is no hot path.", f"There are {', '.join(PATHS)}.")
    if update is not None and not update.strip():
        raise SpeedError("The reason is empty.", "A count is changed for a reason.", "--update 'what made it change'")
    if reason := why_not():
        print(f"SPEED skipped: {reason}")
        return 0
    committed = read_json(FILE)
    same = committed["holds_for"] == here()
    if not same and (update is None or paths):
        raise _elsewhere(committed["holds_for"])
    found = []
    for name in names:
        before = committed["paths"].get(name, {}).get("instructions") if same else None
        found.append(Count(name, count(name), before))
        print(found[-1], flush=True)
    changed = [one for one in found if not one.holds]
    if changed and update is not None:
        _update(committed, changed, update.strip())
    elif changed:
        print(
            f"{len(changed)} of {len(found)} changed by more than {ALLOWED:.1%}. Undo what made them change, or commit "
            "the new counts with the reason: make speed UPDATE='what made them change'"
        )
        return CHANGED_EXIT_CODE
    return 0


def _update(committed: dict[str, Any], changed: list[Count], reason: str) -> None:
    entries = committed["paths"] | {one.name: {"instructions": one.now, "because": reason} for one in changed}
    write_json(FILE, {"holds_for": here(), "paths": {name: entries[name] for name in PATHS if name in entries}})
    print(f"benchmarks/watch/speed.json has {len(changed)} new counts: {reason}")


def _elsewhere(holds_for: dict[str, str]) -> SpeedError:
    now = here()
    told = ", ".join(f"{name} {now[name]}, there {holds_for[name]}" for name in now if now[name] != holds_for[name])
    return SpeedError(
        f"benchmarks/watch/speed.json was counted with other versions: here {told}.",
        "Instructions are compared with the very Python and packages that they were counted with.",
        "Write counts of your own from the commit that you compare with: make speed UPDATE='counted here'",
    )


if __name__ == "__main__":
    run_command(main)
