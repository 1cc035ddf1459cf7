"""Another project's training and ranking, measured in turns with ours: run by its own Python, a step per request.

Both ends are here, and need nothing but NumPy: `PeerProcess` asks, `serve` answers in the other environment. One line
of JSON is one message; the peer's own output goes to a file, which is shown where it fails.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

HISTORIES_FILE, LOG_FILE, TOP_ITEMS_FILE = "histories.npz", "peer.log", "top_items.npy"
LOG_LINES = 15
EXIT_SECONDS = 20.0
CHOOSING = "choosing"  # folder in the job's: the same histories without what models are chosen by
Work = Literal["train", "evaluate", "rank", "learn"]


class PeerError(Exception):
    """The peer ended, or never started; the message holds the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a peer is to do, and how large everything is.

    work:    train: endless training, a batch per step. evaluate: after one epoch, all judged users per step.
             rank: train for `epochs`, write the ten best items of all judged users, end.
             learn: as well as `seconds` of processor time allow (careful.py), write the best items of all judged users.
    folder:  where HISTORIES_FILE lies, and where a peer may write.
    precision: of training, fp32 or bf16 (autocast).
    sizes:   of the network, by the peer's own names.
    """

    model: str
    work: Work
    folder: str
    batch: int
    learning_rate: float
    epochs: int
    top_k: int
    threads: int
    precision: str
    sizes: dict[str, Any]
    seconds: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class PeerHistories:
    """Training histories, one after the other, and who is judged by which item.

    offsets: (user + 1,) int64. items: (interaction,) int64 in the order of time.
    judged:  (judged user,) int64, positions of training users. targets: (judged user,) int64.
    """

    offsets: np.ndarray
    items: np.ndarray
    judged: np.ndarray
    targets: np.ndarray
    num_items: int

    @property
    def users(self) -> np.ndarray:
        """(interaction,) int64: the user of every item."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def places(self) -> np.ndarray:
        """(interaction,) int64: the position of every item in its history."""
        first: np.ndarray = np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return np.asarray(np.arange(len(self.items)) - first)

    def of_judged(self) -> list[np.ndarray]:
        """The items of every judged user."""
        return [self.items[self.offsets[user] : self.offsets[user + 1]] for user in self.judged]

    def write(self, folder: Path) -> None:
        np.savez(folder / HISTORIES_FILE, **{**vars(self), "num_items": np.asarray(self.num_items)})

    @staticmethod
    def read(folder: Path) -> "PeerHistories":
        with np.load(folder / HISTORIES_FILE) as arrays:
            return PeerHistories(**{**arrays, "num_items": int(arrays["num_items"])})


class Peer(Protocol):
    """A recommender of another project. version: its package's."""

    version: str

    def train(self, epochs: int | None, after_batch: Callable[[int], None]) -> None:
        """Train for `epochs`, or without end; `after_batch` is told the samples of every batch."""

    def evaluate(self) -> int:
        """Rank all items for all judged users, without seen ones; returns the users."""

    def top_items(self, count: int) -> np.ndarray:
        """(judged user, count) int64, best first, -1 where there are fewer."""


class PeerProcess:
    """A running peer; calling it runs one step and returns its samples.

    python: the interpreter of the peer's environment. module: the peer's driver in this package.
    Raises PeerError where it does not start, and where it ends early.
    """

    def __init__(self, python: Path, module: str, job: Job) -> None:
        root = Path(__file__).resolve().parents[2]
        threads = str(job.threads)
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self._log = Path(job.folder) / LOG_FILE
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", module, json.dumps(dataclasses.asdict(job))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=job.folder, env=environment, text=True,
            )  # fmt: skip
        try:
            self.answer = self._answer()
            self.version: str = self.answer["version"]
        except PeerError:
            self.close()
            raise

    def __call__(self) -> int:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come is reported
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        return int(self._answer()["samples"])

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the peer: its requests are over."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            end = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise PeerError(f"The peer ended without an answer. The end of its output:\n{end}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(build: Callable[[Job, PeerHistories], Peer], learn: Callable[[Job], dict[str, Any]] | None = None) -> None:
    """Do the job named by the only argument, in the peer's environment; ends with the requests.

    learn: what to do for the work of that name; it writes TOP_ITEMS_FILE and returns the answer.
    """
    job, answer = _asked()
    if learn is not None and job.work == "learn":
        answer(learn(job))
    peer = build(job, PeerHistories.read(Path(job.folder)))
    if job.work == "train":
        answer({"version": peer.version})
        peer.train(None, lambda samples: answer({"samples": samples}))
        return
    peer.train(job.epochs, lambda _: None)
    if job.work == "rank":
        np.save(Path(job.folder) / TOP_ITEMS_FILE, peer.top_items(job.top_k))
    answer({"version": peer.version})
    while job.work == "evaluate":
        answer({"samples": peer.evaluate()})


def serve_learning(learn: Callable[[Job], dict[str, Any]]) -> None:
    """The same for what knows no other work than to learn."""
    job, answer = _asked()
    answer(learn(job))


def _asked() -> tuple[Job, Callable[[dict[str, Any]], None]]:
    """The job, and how to answer; whatever else is printed goes to the log."""
    job = Job(**json.loads(sys.argv[1]))
    sys.argv = sys.argv[:1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()
        if not sys.stdin.readline():
            raise SystemExit(0)

    return job, answer
