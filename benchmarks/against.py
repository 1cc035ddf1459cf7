"""This tree's training step against another commit's, in turns: the only times that a noisy machine tells.

    python -m benchmarks.against ncf HEAD~3

Both sides are processes of their own, each with its commit's files; one step is asked for at a time, so that whatever
else runs hits both alike. Told is the ratio, with its interval and the difference that could have been seen.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import tyro
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.measure import Interleaved, Ratio, interleave
from common.errors import KitError
from common.machine.environment import ROOT
from common.terminal.console import SafeConsole

SIDE_FLAG = "--side"
NOW, THEN = "now", "then"
ALLOWED = 0.02  # of the other commit's rate: less than this two equal trees differ by, whatever the interval says
SLOWER_EXIT_CODE = 1


class AgainstError(KitError):
    """A commit that cannot be measured beside this tree."""


@dataclass(frozen=True)
class Verdict:
    """now: this tree's rate over the other commit's; seen: the smallest difference that this measurement would tell."""

    ratio: Ratio

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
            f"{told}: {self.ratio.median:.3f} × ({low:.3f} – {high:.3f}) over {self.ratio.pairs} rounds; "
            f"a difference of {self.seen:.1%} could have been seen"
        )


class Side:
    """One tree's training step in a process of its own; a call does a step and returns its samples."""

    def __init__(self, model: str, tree: Path, log: Path) -> None:
        self._log = log
        environment = os.environ | {
            "PYTHONPATH": str(tree),
            "CHALLENGE_KIT_CACHE": str(log.with_suffix("")),  # each commit's own demo data
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.against", SIDE_FLAG, model],
                cwd=tree, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip

    def __call__(self) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            told = self._log.read_text().strip().splitlines()[-1:]
            raise AgainstError(f"The step of {self._log.stem} ended: {' '.join(told)}")
        return int(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def compare(model: str, commit: str, *, rounds: int, seconds: float, tree: Path = ROOT) -> Verdict:
    """Measure `tree` against its repository's other commit. Raises AgainstError."""
    with worktree(commit, tree) as other, tempfile.TemporaryDirectory() as logs:
        sides = {THEN: other, NOW: tree}
        with contextlib.ExitStack() as stack:
            steps = {
                name: stack.enter_context(Side(model, path, Path(logs) / f"{name}.log")) for name, path in sides.items()
            }
            found: Interleaved = interleave(
                steps, warmup_seconds=min(2.0, rounds * seconds / 3), rounds=rounds, block_seconds=seconds
            )
    return Verdict(found.ratio(NOW, THEN))


@contextlib.contextmanager
def worktree(commit: str, tree: Path = ROOT) -> Iterator[Path]:
    """The files of another commit in a folder of their own, which goes with the block. Raises AgainstError."""
    found = _git(tree, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    if found.returncode:
        raise AgainstError(
            f"{commit!r} is no commit of this checkout.",
            "A hash, a branch, a tag or something like HEAD~3 is one.",
            "A shallow clone has few: git fetch --unshallow.",
        )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tree"
        made = _git(tree, "worktree", "add", "--detach", str(place), found.stdout.strip())
        if made.returncode:
            raise AgainstError(f"{commit} cannot be laid out: {made.stderr.strip()}")
        try:
            if not (place / "benchmarks" / "against.py").is_file():
                raise AgainstError(
                    f"{commit} has no benchmarks/against.py and cannot be asked for steps.", "Choose a newer commit."
                )
            yield place
        finally:
            _git(tree, "worktree", "remove", "--force", str(place))


def serve(model: str) -> None:
    """Answer each line of standard input with a training step on one batch, and its samples."""
    from benchmarks.bench import Asked, opened
    from benchmarks.throughput import TrainingWork

    answers, sys.stdout = sys.stdout, sys.stderr  # what the kit prints is no answer
    with opened(Asked(model=model, device="cpu"), SafeConsole(quiet=True), (), smoke=True) as bench:
        work, batch = TrainingWork(bench), bench.fixed_batch()
        for _ in sys.stdin:
            print(work(batch), file=answers, flush=True)


def main(
    model: Annotated[str, tyro.conf.Positional],
    commit: Annotated[str, tyro.conf.Positional],
    rounds: int = 20,
    seconds: float = 0.5,
) -> int:
    """Compare this tree's training step with another commit's on the CPU.

    Args:
        model: its name, as `kit list` has it.
        commit: a hash, a branch, a tag, or something like HEAD~3.
        rounds: how often both are measured.
        seconds: of each in a round.
    """
    verdict = compare(model, commit, rounds=rounds, seconds=seconds)
    Console().print(f"AGAINST {commit} {model} {verdict}", soft_wrap=True, markup=False, highlight=False)
    return SLOWER_EXIT_CODE if verdict.slower else 0


def _git(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [SIDE_FLAG]:
        serve(sys.argv[2])
    else:
        run_command(main)
