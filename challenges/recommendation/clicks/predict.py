"""`kit predict` for click models: every row of the user's tables with its probability, in files beside."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from challenges.recommendation.clicks.answers import model_inputs
from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.serving.asking import read_rows
from challenges.recommendation.clicks.transform import Transform
from common.challenge import Trained
from common.files import atomic_writer, cut_name
from common.terminal.console import say

BATCH = 4096  # rows scored together
COLUMN = "probability"


def predict(
    trained: Trained[Any, ClickData, Any], inputs: Sequence[Path], output: Path, device: torch.device, console: Console
) -> None:
    """Write OUTPUT/NAME-scored.csv for each table of rows: its columns, and the probability as the last.

    Rows stream through, so that a table may be larger than memory. Raises DataError where a file is no table, or lacks
    a column of the model's.
    """
    transform = Transform.read(trained.run.data)
    module = trained.task.place(device).eval().inference_module()
    for path in inputs:
        target = output / f"{cut_name(path.stem, len('-scored.csv'))}-scored.csv"
        rows = 0
        with atomic_writer(target) as stream:
            for columns, probability in _scored(path, transform, module, device):
                _write(stream, columns, probability, is_first=not rows)
                rows += len(probability)
        say(console, f"{path}: {rows:,} rows scored: {target}")


def _scored(
    path: Path, transform: Transform, module: torch.nn.Module, device: torch.device
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    for columns in read_rows(path, BATCH):
        asked = {name: [text or None for text in values[:, 0].tolist()] for name, values in columns.items()}
        arrays = model_inputs(transform.spec, transform.answer_to(asked))
        with torch.no_grad():
            given = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            probability, _ = module(**given)
        yield columns, probability[:, 0].cpu().numpy()


def _write(stream: Any, columns: dict[str, np.ndarray], probability: np.ndarray, *, is_first: bool) -> None:
    """One batch as CSV, under its columns' names where it is the first."""
    text = io.StringIO()
    writer = csv.writer(text)
    if is_first:
        writer.writerow([*columns, COLUMN])
    cells = [values[:, 0].tolist() for values in columns.values()]
    for *row, score in zip(*cells, probability.tolist(), strict=True):
        writer.writerow([*row, f"{score:.6f}"])
    stream.write(text.getvalue().encode())
