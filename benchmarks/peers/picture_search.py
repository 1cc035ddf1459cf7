"""The search of `kit similar` among many generated vectors, side by side with scikit-learn's brute force.

    OMP_NUM_THREADS=1 python -m benchmarks.peers.picture_search --vectors 1000000

Both answer the same questions on as many threads, in turns within one process; how many of the true neighbours ours
finds is part of the record, and so is what building the index held in memory. Needs faiss and scikit-learn.
"""

import functools
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

from benchmarks.command import run_command
from benchmarks.compare import publish
from benchmarks.measure import Step, interleave
from benchmarks.record import ProtocolUsed, Record, Workload, environment_of, new_record
from benchmarks.validity import judge
from challenges.classification.search.embedding import normalised
from challenges.classification.search.index import AT_ONCE, PictureIndex, load_faiss
from common.errors import KitError

WATCHED_EVERY = 0.05  # seconds between two looks at the memory
SUBJECTS = 2_000  # around which generated vectors lie, as pictures of one subject do
SPREAD = 0.6  # length of what parts a vector from its subject, whose own is one
RECALL = 0.9  # of the true neighbours that a search must find to be compared at all


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and for how long."""

    vectors: int = 1_000_000
    width: int = 512
    """Of a vector: ResNet-18's."""
    questions: int = 8
    """Asked together."""
    neighbours: int = 10
    rounds: int = 10
    block_seconds: float = 5.0
    warmup_seconds: float = 5.0
    output: Path | None = None
    """Folder of the record; by default benchmarks/results/<device>."""


class Held:
    """The most memory of its own, in bytes, that the process has had beyond what it had at first."""

    def __init__(self) -> None:
        self.bytes = 0
        self._first = _own_bytes()

    @contextmanager
    def watched(self):  # type: ignore[no-untyped-def]  # of a context manager
        done = threading.Event()

        def watch() -> None:
            while not done.wait(WATCHED_EVERY):
                self.bytes = max(self.bytes, _own_bytes() - self._first)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _own_bytes() -> int:
    """Resident memory apart from mapped files, which the system takes back when it likes."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def generated(folder: Path, count: int, width: int) -> np.ndarray:
    """(count, width) float32 of length one in a file, around SUBJECTS directions."""
    random = np.random.default_rng(0)
    subjects = normalised(random.standard_normal((SUBJECTS, width), np.float32))
    mapped: np.ndarray = np.lib.format.open_memmap(folder / "made.npy", "w+", np.float32, (count, width))
    for begin in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - begin)
        apart = random.standard_normal((size, width), np.float32) * (SPREAD / width**0.5)
        mapped[begin : begin + size] = normalised(subjects[random.integers(0, SUBJECTS, size)] + apart)
    return mapped


def built(vectors: np.ndarray, folder: Path) -> tuple[PictureIndex, dict[str, float]]:
    """The index of the vectors as `kit index` writes it, and what that took."""
    names = tuple(f"/{row:08}.jpg" for row in range(len(vectors)))
    made = PictureIndex("made up", names, ((1, 1),) * len(vectors), vectors)
    held, started = Held(), time.perf_counter()
    with held.watched():
        made.write(folder)
    seconds = time.perf_counter() - started
    index = PictureIndex.read(folder)
    assert index is not None
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "made.npy")
    return index, {
        "build_seconds": seconds,
        "built_vectors_per_s": len(vectors) / seconds,
        "build_held_bytes": float(held.bytes),
        "index_bytes": float(size),
    }


def compare(settings: Settings, folder: Path, command: Sequence[str]) -> Record:
    """Raises KitError where our search misses too many of the true neighbours."""
    from sklearn.neighbors import NearestNeighbors

    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))
    load_faiss().omp_set_num_threads(threads)
    vectors = generated(folder, settings.vectors, settings.width)
    index, details = built(vectors, folder)
    random = np.random.default_rng(1)
    rows = random.integers(0, len(vectors), 16 * settings.questions)
    apart = random.standard_normal((len(rows), settings.width), np.float32) * (0.3 / settings.width**0.5)
    asked = normalised(np.asarray(vectors[np.sort(rows)]) + apart).reshape(16, settings.questions, -1)
    held = Held()
    with held.watched():
        ours = [index.nearest(part, settings.neighbours)[1] for part in asked]
    details["search_held_bytes"] = float(held.bytes)
    # by Euclidean distance, which ranks vectors of length one as the cosine does, and which it has a kernel for
    brute = NearestNeighbors(n_neighbors=settings.neighbours, algorithm="brute").fit(np.asarray(vectors))
    theirs = [brute.kneighbors(part, return_distance=False) for part in asked]
    details["recall"] = _recall(ours, theirs)
    if details["recall"] < RECALL:
        raise KitError(f"Ours finds {details['recall']:.1%} of the true neighbours.", f"{RECALL:.0%} are needed.")
    steps: dict[str, Step] = {
        "ours": functools.partial(_ask, lambda part: index.nearest(part, settings.neighbours), itertools.cycle(asked)),
        "scikit_learn": functools.partial(_ask, brute.kneighbors, itertools.cycle(asked)),
    }
    measured = interleave(
        steps,
        warmup_seconds=settings.warmup_seconds,
        rounds=settings.rounds,
        block_seconds=settings.block_seconds,
    )
    environment = environment_of(device="cpu", precision="fp32")
    ratios = {"ours/scikit_learn": measured.ratio("ours", "scikit_learn")}
    return new_record(
        kind="comparison",
        name="picture-search",
        workload=Workload(
            challenge="classification",
            model="resnet50",
            engine="faiss",
            batch=settings.questions,
            input_shape=(settings.width,),
            precision="fp32",
            sample_unit="question",
            data="synthetic",
            dataset=f"{settings.vectors:,} generated vectors",
            workers=threads,
        ),
        protocol=ProtocolUsed.interleaved(settings),
        measurements=measured.sides,
        ratios=ratios,
        details=details,
        validity=judge(measured.sides, environment=environment, data="synthetic", ratios=ratios),
        command=command,
        environment=environment,
    )


def _recall(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The share of their rows (question, neighbour) that ours have, too."""
    pairs = zip(np.concatenate(ours).tolist(), np.concatenate(theirs).tolist(), strict=True)
    return float(np.mean([len({*mine} & {*true}) / len(true) for mine, true in pairs]))


def _ask(search, parts) -> int:  # type: ignore[no-untyped-def]  # of both forms
    part = next(parts)
    search(part)
    return len(part)


def main(settings: Settings) -> int:
    """Measure the search and write a record."""
    with tempfile.TemporaryDirectory() as folder:
        command = ("python", "-m", "benchmarks.peers.picture_search", *sys.argv[1:])
        record = compare(settings, Path(folder), command)
    publish(record, settings.output, Console())
    return 0


if __name__ == "__main__":
    run_command(main)
