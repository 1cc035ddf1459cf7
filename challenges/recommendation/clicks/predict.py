"""`kit predict` for click models: every row of the user's tables with its probability, in files beside."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from rich.console import Console

from challenges.recommendation.clicks.answers import model_inputs
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.serving.rows import read_header, read_rows
from challenges.recommendation.clicks.transform import Transform, count_unread
from common.challenge import Trained
from common.errors import DataError
from common.files import atomic_writer, cut_name
from common.terminal.console import say

BATCH = 4096  # rows scored together
COLUMN = "probability"
ENDINGS = (".gz", ".csv", ".tsv", ".txt")


def predict(
    trained: Trained[Any, ClickData, Any], inputs: Sequence[Path], output: Path, device: torch.device, console: Console
) -> None:
    """Write OUTPUT/NAME-scored.csv for each table of rows: its columns, and the probability as the last.

    Rows stream through, so that a table may be larger than memory. What is no number in a column of numbers counts as
    missing, as at serving, and is told. Raises DataError where a file is no table, or lacks a column of the model's.
    """
    transform = Transform.read(trained.run.data)
    targets = _targets(inputs, output)
    module = trained.task.place(device).eval().inference_module()
    output.mkdir(parents=True, exist_ok=True)
    for path, target in targets.items():
        rows, unread = 0, Counter[str]()
        with atomic_writer(target) as stream:
            for columns, probability in _scored(path, transform, module, device):
                unread.update(count_unread(transform.spec, columns))
                _write(stream, columns, probability, is_first=not rows)
                rows += len(probability)
        for name, count in unread.items():
            say(console, f"{path}: {count:,} values of {name} are no numbers and count as missing")
        say(console, f"{path}: {rows:,} rows scored: {target}")


def _targets(inputs: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Where each table's answer goes; DataError, before anything is read to its end, where two would be one file."""
    targets: dict[Path, Path] = {}
    for path in inputs:
        if COLUMN in read_header(path).names:
            raise DataError(f"{path} has a column {COLUMN}.", "The answers get this name.", "Rename it.")
        stem = path.name
        for ending in ENDINGS:
            stem = stem.removesuffix(ending)
        target = output / f"{cut_name(stem, len('-scored.csv'))}-scored.csv"
        other = next((one for one, known in targets.items() if known == target), None)
        if other is not None:
            raise DataError(
                f"{other} and {path} would both be answered in {target.name}.",
                "An answer is named after its table.",
                "Rename one, or ask for one after the other with another --output.",
            )
        targets[path] = target
    return targets


def _scored(
    path: Path, transform: Transform, module: torch.nn.Module, device: torch.device
) -> Iterator[tuple[dict[str, list[str]], np.ndarray]]:
    """A batch's columns as they are written, and its probabilities (row,)."""
    for rows in read_rows(path, BATCH, transform.spec.raw_columns):
        columns = {name: values[:, 0].tolist() for name, values in rows.items()}
        asked = {name: [text or None for text in columns[name]] for name in transform.spec.raw_columns}
        arrays = model_inputs(transform.spec, transform.answer_to(asked))
        with torch.no_grad():
            given = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            probability, _ = module(**given)
        yield columns, probability[:, 0].cpu().numpy()


def _write(stream: IO[bytes], columns: dict[str, list[str]], probability: np.ndarray, *, is_first: bool) -> None:
    """One batch as CSV, under its columns' names where it is the first."""
    text = io.StringIO()
    writer = csv.writer(text)
    if is_first:
        writer.writerow([*columns, COLUMN])
    for *row, share in zip(*columns.values(), probability.tolist(), strict=True):
        writer.writerow([*row, f"{share:.6g}"])
    stream.write(text.getvalue().encode())
