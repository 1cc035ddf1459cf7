"""The steps of a preparation: unpack, count, merge, number, encode; each goes on where it was cut off."""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq

from challenges.recommendation.clicks.prepare import counting, encoding
from challenges.recommendation.clicks.prepare.engine import Engine
from challenges.recommendation.clicks.prepare.job import SPLITS, TRUTH, Job
from challenges.recommendation.clicks.prepare.text import unpack
from challenges.recommendation.clicks.prepared import FILE, FORMAT, Prepared
from challenges.recommendation.clicks.spec import FILE as SPEC_FILE
from challenges.recommendation.clicks.spec import MultiHot
from challenges.recommendation.clicks.synthetic import expected_auc
from challenges.recommendation.clicks.vocabulary import vocabulary_file
from common.errors import DataError, TrainingError
from common.files import read_json, remove_leftovers, sha256, write_json
from common.storage.run_lock import hold, is_note

PARTITION_BYTES = 1 << 29
"""Of the source for each partition of the counts."""
OUTPUT_PER_BYTE, COUNTS_PER_BYTE = 0.7, 0.5  # of Criteo's text 0.45 and 0.2

Result = TypeVar("Result")
Progress = Callable[[str, int], contextlib.AbstractContextManager[Callable[[], None]]]
"""Of a step's name and how many parts it has; the block calls what it gets after each."""


@dataclasses.dataclass(frozen=True)
class _Steps:
    engine: Engine
    progress: Progress

    def run(self, name: str, step: Callable[[Job, int], Result], job: Job, count: int) -> list[Result]:
        with self.progress(name, count) as tell:
            return self.engine.run(step, job, range(count), tell)


def prepare(job: Job, name: str, engine: Engine, progress: Progress) -> Prepared:
    """Fill job.output, which is new, empty, or what an interrupted preparation of the same left.

    Raises DataError for bad data, or a folder that holds anything else; TrainingError where the disk is too full.
    """
    plan = job.plan()
    job.output.mkdir(parents=True, exist_ok=True)
    with hold(job.output, "prepare", shared=(job.output / FILE).is_file()):  # several may find it finished at once
        if not _begun(job, plan):
            return Prepared.open(job.output)
        remove_leftovers(job.output)
        steps = _Steps(engine, progress)
        job, unpacked = _cut(job, steps)
        counted = steps.run("counting", counting.count_chunk, job, len(job.chunks))
        rows = np.sum([one.rows for one in counted], axis=0)
        positives = np.sum([one.positives for one in counted], axis=0)
        present = np.sum([one.present for one in counted], axis=0)
        _require_learnable(job, rows, positives)
        steps.run("merging", counting.merge_partition, job, job.partitions)
        columns = steps.run("numbering", counting.number_column, job, len(job.spec.looked_up))
        job = _with_counts(job, columns, counting.describe_dense(job.spec.dense, counted))
        job.spec.write(job.output)
        files = _vocabulary_files(job)
        for written in steps.run("encoding", encoding.encode_chunk, job, len(job.chunks)):
            files |= written
        value = {
            "format": FORMAT,
            "name": name,
            "plan": plan,
            "rows": _by_split(rows),
            "positives": {split: int(positives[SPLITS.index(split)]) for split in _by_split(rows)},
            "facts": {
                "known_share": {
                    one.column.name: round(one.cells / max(int(there), 1), 6)
                    for one, there in zip(columns, present, strict=True)
                }
            }
            | _bayes(job, files),
            "files": dict(sorted(files.items())),
        }
        write_json(job.output / FILE, value)
        _remove_temporary(job, unpacked)
    return Prepared.open(job.output)


def _begun(job: Job, plan: dict[str, str]) -> bool:
    """Whether there is something left to do; says in the folder what is being done there."""
    done, begun = job.output / FILE, job.parts / "plan.json"
    if done.is_file() or begun.is_file():
        found = read_json(done)["plan"] if done.is_file() else read_json(begun)
        for part, wanted in plan.items():
            if found.get(part) != wanted:
                raise DataError(
                    f"{job.output} holds a preparation of another {part}.",
                    "Only the same data, spec and options go on where they were cut off.",
                    "Name another folder with --out.",
                )
        return not done.is_file()
    foreign = sorted(entry.name for entry in os.scandir(job.output) if not is_note(entry.name))
    if foreign:
        raise DataError(
            f"{job.output} holds files that kit prepare did not write, such as {foreign[0]}.",
            "It writes into a new or an empty folder.",
            "Name another folder with --out.",
        )
    _require_room(job)
    write_json(begun, plan)
    return True


def _require_room(job: Job) -> None:
    size = job.reader.bytes_per_pass()
    needed = size * (OUTPUT_PER_BYTE + COUNTS_PER_BYTE) + (size if job.reader.packed else 0)
    free = shutil.disk_usage(job.output).free
    if needed > free:
        raise TrainingError(
            f"Preparing needs about {needed / 2**30:.1f} GiB in {job.output}, and {free / 2**30:.1f} GiB are free.",
            "That is the prepared rows, their counts and what is unpacked meanwhile.",
            "Make room, or choose another disk with --out.",
        )


def _cut(job: Job, steps: _Steps) -> tuple[Job, list[Path]]:
    """The job with its chunks, after unpacking what is gzipped."""
    targets = [_unpacked(job, number) for number in range(len(job.reader.packed))]
    if targets:
        steps.run("unpacking", _unpack, job, len(targets))
    packed = map(str, job.reader.packed)
    chunks = tuple(job.reader.chunks(dict(zip(packed, targets, strict=True))))
    partitions = max(1, round(job.reader.bytes_per_pass() / PARTITION_BYTES))
    return dataclasses.replace(job, chunks=chunks, partitions=partitions), targets


def _unpack(job: Job, number: int) -> None:
    target = _unpacked(job, number)
    if not target.is_file():
        unpack(job.reader.packed[number], target)


def _unpacked(job: Job, number: int) -> Path:
    return job.parts / f"{number:05}.txt"


def _require_learnable(job: Job, rows: np.ndarray, positives: np.ndarray) -> None:
    named = {chunk.split for chunk in job.chunks}
    wanted = SPLITS if None in named else tuple(split for split in SPLITS if split in named)
    for split in dict.fromkeys(("train", *wanted)):
        count, ones = int(rows[SPLITS.index(split)]), int(positives[SPLITS.index(split)])
        if not count:
            raise DataError(
                f"The {split} split has no row.",
                f"There are: {', '.join(f'{name} {rows:,}' for name, rows in _by_split(rows).items()) or 'none'}.",
                "Give more rows.",
            )
        if ones in (0, count):
            raise DataError(
                f"All {count:,} rows of the {split} split have the label {min(ones, 1)}.",
                "A click model tells two classes apart.",
                f"Look at the column {job.spec.label.name}.",
            )


def _with_counts(job: Job, columns: Sequence[counting.Numbered], dense: tuple[Any, ...]) -> Job:
    if not job.spec.dense and all(one.cells == 0 for one in columns):
        raise DataError(
            "No column has a value that is frequent enough.", "Rarer ones share one id.", "Lower --threshold."
        )
    several = tuple(one.column for one in columns if isinstance(one.column, MultiHot))
    flat = tuple(one.column for one in columns if not isinstance(one.column, MultiHot))
    spec = dataclasses.replace(job.spec, dense=dense, categorical=flat, multi_hot=several)
    return dataclasses.replace(job, spec=spec)


def _vocabulary_files(job: Job) -> encoding.FileFacts:
    numbers = [number for number, column in enumerate(job.spec.looked_up) if not column.hashed]
    paths = [job.output / SPEC_FILE, *(vocabulary_file(job.output, number) for number in numbers)]
    return {
        path.relative_to(job.output).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
    }


def _by_split(rows: np.ndarray) -> dict[str, int]:
    return {split: int(count) for split, count in zip(SPLITS, rows, strict=True) if count}


def _bayes(job: Job, files: encoding.FileFacts) -> dict[str, Any]:
    """Where rows were made up: the AUC that their own probabilities have, by split that is judged."""
    found = {}
    for split in SPLITS[1:]:
        paths = [job.output / name for name in sorted(files) if name.startswith(f"{split}/")]
        if paths and TRUTH in pq.read_schema(paths[0]).names:
            truth = np.concatenate([pq.read_table(path, columns=[TRUTH])[TRUTH].to_numpy() for path in paths])
            found[split] = expected_auc(truth)
    return {"bayes_auc": found} if found else {}


def _remove_temporary(job: Job, unpacked: Sequence[Path]) -> None:
    """The files that these steps wrote, and their folder where it holds nothing else."""
    mine = [*unpacked, *counting.temporary_files(job), *encoding.temporary_files(job), job.parts / "plan.json"]
    for path in mine:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        job.parts.rmdir()
