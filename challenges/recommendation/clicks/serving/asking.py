"""How a served click model is asked: rows of a table in, the probability of a click for each out."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from challenges.recommendation.clicks.serving.rows import read_header, read_rows
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


@dataclass(frozen=True)
class RowDialogue(Dialogue):
    """With a click model: a file of rows, whose first line names the columns.

    columns: what the served model takes, sorted; a file may have more, such as the label, in any order.
    """

    columns: tuple[str, ...] = ()

    takes = ("inputs",)
    example = "ROWS.csv"

    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        return outputs == OUTPUTS

    def with_inputs(self, inputs: AbstractSet[str]) -> "RowDialogue":
        return RowDialogue(tuple(sorted(inputs)))

    def requests(self, question: Question, batch: int) -> "Iterator[Arrays]":
        for path in question.inputs:
            for rows in read_rows(Path(path), batch, self.columns):
                yield {name: rows[name] for name in self.columns}

    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        found = np.concatenate([answer["probability"][:, 0] for answer in answers])
        table = Table("row", Column("probability", justify="right"), title=plain(model))
        for row, probability in enumerate(found[:SHOWN].tolist(), 1):
            table.add_row(f"{row:,}", f"{probability:.4f}")
        console.print(table)
        if len(found) > SHOWN:
            say(console, f"{len(found) - SHOWN:,} more rows: kit predict writes them all to a file.")
        for path in question.inputs:
            unused = [name for name in read_header(path).names if name not in self.columns]
            if unused:
                say(console, f"{path}: not sent, since the model does not take it: {', '.join(unused)}")


DIALOGUES = (RowDialogue(),)
