"""How a served recommender is asked: a history or a user in the data's own names in, what comes next out."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console

from challenges.recommendation.histories.answers import recommendation_table
from common.question import Question
from common.serving.dialogue import Dialogue
from common.terminal.console import say

if TYPE_CHECKING:
    from common.export.runner import Arrays
    from common.serving.client import Client


class Recommended(NamedTuple):
    """One recommended item; the title is empty where the data has none."""

    identifier: str
    title: str
    score: float


def recommend(client: "Client", model: str, inputs: Mapping[str, np.ndarray]) -> list[list[Recommended]]:
    """What a recommender answers for every row of its inputs, best first.

    inputs: identifiers or titles, str or bytes (batch, any), with empty ones as padding.
    """
    return recommended(client.infer(model, inputs))


def recommended(answer: "Arrays") -> list[list[Recommended]]:
    """Row by row, the items before the padding."""
    rows = []
    for row, count in enumerate(answer["count"].ravel().tolist()):
        columns = (answer[name][row, :count].tolist() for name in ("identifiers", "titles", "scores"))
        rows.append(
            [Recommended(item.decode(), title.decode(), score) for item, title, score in zip(*columns, strict=True)]
        )
    return rows


class HistoryDialogue(Dialogue):
    """With a recommender that is told what somebody had."""

    takes: tuple[str, ...] = ("history",)
    example = "--history ITEM ..."
    inputs = frozenset({"history"})

    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        return inputs == self.inputs and outputs >= {"identifiers", "titles", "scores", "count", "unknown"}

    def requests(self, question: Question, batch: int) -> "list[Arrays]":
        return [{"history": _row(question.history)}]

    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        told = f"user {question.user}" if question.user else f"after {', '.join(question.history)}"
        for answer in answers:
            for name in filter(None, answer["unknown"][0].tolist()):
                say(console, f"unknown item, left out: {name.decode()}")
            (items,) = recommended(answer)
            console.print(recommendation_table(f"{model}: {told}", items))
            if not items:
                console.print("Nothing is left to recommend: every item is known to the user.")


class UserDialogue(HistoryDialogue):
    """With one that knows its users, and may be told what one of them had since."""

    takes = ("user", "history")
    example = "--user USER"
    inputs = frozenset({"user", "seen"})

    def requests(self, question: Question, batch: int) -> "list[Arrays]":
        return [{"user": _row([question.user or ""]), "seen": _row(question.history)}]


def _row(names: Sequence[str]) -> np.ndarray:
    return np.array([[*names] or [""]], dtype=object)


DIALOGUES = (HistoryDialogue(), UserDialogue())
