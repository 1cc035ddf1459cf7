"""How a served click model is asked: rows of a table in, the probability of a click for each out."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from common.errors import DataError
from common.question import Question
from common.serving.dialogue import Dialogue
from common.terminal.console import plain, say

if TYPE_CHECKING:
    from common.export.runner import Arrays
    from common.serving.client import Client

SHOWN = 20  # rows of an answer
OUTPUTS = frozenset({"probability", "logit"})


def score(client: "Client", model: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(row,) float32 probabilities of rows in words, each column (row, 1) of str."""
    return client.infer(model, columns)["probability"][:, 0]


class RowDialogue(Dialogue):
    """With a click model: a file of rows, whose first line names the columns."""

    takes = ("inputs",)
    example = "ROWS.csv"

    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        return outputs == OUTPUTS

    def requests(self, question: Question, batch: int) -> "Iterator[Arrays]":
        for path in question.inputs:
            yield from read_rows(Path(path), batch)

    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        found = np.concatenate([answer["probability"][:, 0] for answer in answers])
        table = Table("row", Column("probability", justify="right"), title=plain(model))
        for row, probability in enumerate(found[:SHOWN].tolist(), 1):
            table.add_row(f"{row:,}", f"{probability:.4f}")
        console.print(table)
        if len(found) > SHOWN:
            say(console, f"{len(found) - SHOWN:,} more rows: kit predict writes them all to a file.")


def read_rows(path: Path, batch: int) -> "Iterator[Arrays]":
    """A table's rows, `batch` at a time, each column (row, 1) of str; DataError where it is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, delimiter="\t" if path.name.endswith(".tsv") else ",")
            names = next(rows, [])
            if not names:
                raise DataError(f"{path} is empty.", "Its first line names the columns, the others are rows.")
            number = 1
            while part := [row for row in islice(rows, batch) if row]:
                for row in part:
                    number += 1
                    if len(row) != len(names):
                        told = f"{path}, line {number}, has {len(row)} fields."
                        raise DataError(told, f"The first line names {len(names)} columns.")
                columns = np.array(part, dtype=object).T
                yield {name: column[:, None] for name, column in zip(names, columns, strict=True)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Rows are read from CSV or TSV in UTF-8.") from None


DIALOGUES = (RowDialogue(),)
