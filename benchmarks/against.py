"""`kit benchmark MODEL --against COMMIT`: a training step here and there, the only times that a noisy machine tells.

Both sides are processes of their own, each with its commit's files; one step is asked for at a time, so that whatever
else runs hits both alike. Two processes of the same files differ as well, by up to 8 % and for as long as they
live; so several pairs are started one after the other, and what pairs differ by is the interval.
"""

import contextlib
import io
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from rich.console import Console
from scipy.special import stdtrit

from benchmarks.measure import Ratio, UnqueuedClock, interleave
from common.errors import KitError
from common.machine.device import DeviceChoice, select_device
from common.machine.environment import ROOT
from common.terminal.console import say
from common.terminal.progress import counting

SIDE = Path(__file__).with_name("side.py")
NOW, THEN = "now", "then"
ALLOWED = 0.02  # of the other commit's rate: less than this two equal trees differ by, whatever the interval says
PAIRS, ROUNDS = 8, 12  # of processes; in each pair
SECONDS = 0.12  # of both in each round: short turns share what else runs
QUICK_PAIRS, QUICK_SECONDS = 3, 0.05
SLOWER_EXIT_CODE = 1


class AgainstError(KitError):
    """A commit that cannot be measured beside this tree."""


@dataclass(frozen=True)
class Verdict:
    """ratio: this tree's rate over the other commit's; seen: the smallest difference that this would tell."""

    ratio: Ratio

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Self:
        """Of each pair's: their geometric mean and its 95 % interval by Student's t."""
        logs = np.log(ratios)
        half = stdtrit(len(logs) - 1, 0.975) * logs.std(ddof=1) / math.sqrt(len(logs))
        low, middle, high = np.exp(logs.mean() + np.array((-half, 0.0, half))).tolist()
        return cls(Ratio(median=middle, interval=(low, high), pairs=len(logs)))

    @property
    def seen(self) -> float:
        low, high = self.ratio.interval
        return ALLOWED + (high - low) / 2

    @property
    def slower(self) -> bool:
        return self.ratio.interval[1] < 1 - ALLOWED

    def __str__(self) -> str:
        low, high = self.ratio.interval
        told = "slower" if self.slower else "faster" if low > 1 + ALLOWED else "no slower"
        return (
            f"{told}: {self.ratio.median:.3f} × ({low:.3f} – {high:.3f}) over {self.ratio.pairs} pairs of processes; "
            f"a difference of {self.seen:.1%} could have been seen"
        )


class Side:
    """One commit's training step, in processes of its own (side.py) that are started one after the other."""

    def __init__(self, model: str, device: str, tree: Path, log: Path, cache: Path) -> None:
        self._log, self._device = log, device
        environment = os.environ | {
            "PYTHONPATH": str(tree),
            "CHALLENGE_KIT_CACHE": str(cache),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(SIDE), model, device],
                cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    def start(self) -> int:
        """Begin a process, which does its first step; returns its number."""
        process, device = self._ask("start").split()
        if device != self._device:
            raise AgainstError(
                f"The step of {self._log.stem} runs on {device}, and {self._device} was asked for.",
                "Both run on one device.",
                "Choose a newer commit, or --device cpu.",
            )
        return int(process)

    def __call__(self) -> int:
        """A step to its end; returns its samples."""
        return int(self._ask("step"))

    def stop(self) -> None:
        self._ask("stop")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            told = self._log.read_text().strip().splitlines()[-1:]
            raise AgainstError(f"The step of {self._log.stem} ended: {' '.join(told)}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def run(model: str, commit: str, *, minutes: float | None, quick: bool, device: DeviceChoice, console: Console) -> int:
    """Compare this tree's training step with another commit's, say how, and return the exit code: 1 where it is slower.

    minutes: of steps; as long as PAIRS take where it is None. Raises AgainstError before anything is measured.
    """
    pairs, seconds = (QUICK_PAIRS, QUICK_SECONDS) if quick else (PAIRS, SECONDS)
    if minutes is not None:
        fitting = int(60 * minutes / (2 * ROUNDS * seconds))
        if fitting < pairs:
            raise AgainstError(
                f"MINUTES is {minutes:g}, in which {max(0, fitting)} pairs of processes fit.",
                f"Fewer than {pairs} tell nothing.",
                f"Give {2 * pairs * ROUNDS * seconds / 60:.2g} or more, or leave them out.",
            )
        pairs = fitting
    with counting("pairs of processes") as count:
        verdict = compare(model, commit, pairs=pairs, seconds=seconds, device=select_device(device).type, count=count)
    say(console, f"AGAINST {commit} {model} {verdict}")
    return SLOWER_EXIT_CODE if verdict.slower else 0


def compare(
    model: str,
    commit: str,
    *,
    pairs: int = PAIRS,
    seconds: float = SECONDS,
    device: str = "cpu",
    tree: Path = ROOT,
    count: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Measure `tree` against its repository's other commit; count: called with the pairs that are done.

    Raises AgainstError.
    """
    ratios = []
    with laid_out(commit, tree) as other, tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        sides = {
            name: stack.enter_context(Side(model, device, path, Path(logs) / f"{name}.log", Path(logs) / "cache"))
            for name, path in ((THEN, other), (NOW, tree))
        }
        for pair in range(pairs):
            ratios.append(_ratio(sides, seconds, THEN if pair % 2 else NOW, wall=device != "cpu"))
            if count is not None:
                count(pair + 1, pairs)
    return Verdict.of(ratios)


def _ratio(sides: Mapping[str, Side], seconds: float, first: str, *, wall: bool) -> float:
    """Of a fresh pair of processes; first: whose starts first, and makes demo data that the other may find.

    wall: a GPU works on while its process queues for a core, so that queueing counts.
    """
    started = [sides[name].start() for name in sorted(sides, key=lambda name: name != first)]
    clock = None if wall else UnqueuedClock([os.getpid(), *started])
    found = interleave(sides, warmup_seconds=seconds, rounds=ROUNDS, block_seconds=seconds, clock=clock)
    for side in sides.values():
        side.stop()
    return found.ratio(NOW, THEN).median


@contextlib.contextmanager
def laid_out(commit: str, tree: Path = ROOT) -> Iterator[Path]:
    """The files of another commit in a folder of their own, which goes with the block. Raises AgainstError."""
    found = _git(tree, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    if found.returncode:
        raise AgainstError(
            f"{commit!r} is no commit of this checkout.",
            "A hash, a branch, a tag or something like HEAD~3 is one.",
            "A shallow clone has few: git fetch --unshallow.",
        )
    made = _git(tree, "archive", "--format=tar", found.stdout.decode().strip())
    if made.returncode:
        raise AgainstError(f"{commit} cannot be laid out: {made.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(made.stdout)) as files:
            files.extractall(folder, filter="data")
        if not (Path(folder) / "benchmarks" / "bench.py").is_file():
            raise AgainstError(
                f"{commit} has no benchmarks/bench.py and cannot be asked for steps.", "Choose a newer commit."
            )
        yield Path(folder)


def _git(tree: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True)
