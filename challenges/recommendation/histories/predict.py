"""`kit predict` for recommenders: items from the user's own history to a table of what comes next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console

from challenges.recommendation.histories.answers import recommendation_table
from challenges.recommendation.histories.data import HistoryData
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.serving.asked.naming import Catalogue, shortened
from challenges.recommendation.histories.top_items import LOWEST
from common.challenge import Trained
from common.errors import DataError
from common.question import Question
from common.terminal.console import say
from common.text import printable

if TYPE_CHECKING:
    from challenges.recommendation.histories.questions import Questions

REPEATED = 3  # unknown names that a message repeats, with the nearest known ones


def predict(
    trained: Trained[Any, HistoryData, Any],
    question: Question,
    questions: "Questions",
    device: torch.device,
    console: Console,
) -> None:
    """Recommend for a history of item identifiers or titles, oldest first, or for a user.

    Items that the data does not have are told and left out. Raises DataError where it has none of them, or no such
    user.
    """
    split = trained.data.split
    arrays = questions.of_question(split, question)
    for line in unknown_items(split, question.history):
        say(console, line)
    module = trained.task.place(device).eval().inference_module()
    with torch.no_grad():
        items, scores = module(**{name: torch.as_tensor(array).to(device) for name, array in arrays.items()})
    answer = [
        (str(split.item_ids[item]), str(split.titles[item]), score)
        for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        if score > LOWEST
    ]
    told = f"user {question.user}" if question.user else f"after {', '.join(question.history)}"
    console.print(recommendation_table(f"{trained.run.path.name}: {told}", answer))
    if not answer:
        console.print("Nothing is left to recommend: every item is in the history.")


def positions_of(split: HistorySplit, items: Sequence[str]) -> np.ndarray:
    """(1, item) int64: the catalogue's positions of identifiers or titles, without unknown ones.

    Raises DataError where none is known, with the nearest ones.
    """
    catalogue = Catalogue(split.item_ids.tolist(), split.titles.tolist())
    found = [position for position in map(catalogue.find, items) if position is not None]
    if not found:
        near = catalogue.nearest(items[0])
        raise DataError(
            f"The catalogue of {split.num_items:,} items has none of "
            f"{', '.join(repr(shortened(item)) for item in items[:REPEATED])}.",
            "Items are named by the identifiers or titles of the training data.",
            f"Did you mean: {printable('; '.join(near))}?" if near else f"Identifiers look like {catalogue.like()}.",
        )
    return np.asarray([found], np.int64)


def unknown_items(split: HistorySplit, items: Sequence[str]) -> list[str]:
    """A line for each item that the catalogue does not have, with the nearest ones."""
    catalogue = Catalogue(split.item_ids.tolist(), split.titles.tolist())
    unknown = [item for item in items if catalogue.find(item) is None]
    lines = []
    for item in unknown[:REPEATED]:
        near = catalogue.nearest(item)
        lines.append(
            f"unknown item, left out: {printable(shortened(item))}"
            + (f" (did you mean: {printable('; '.join(near))}?)" if near else "")
        )
    if len(unknown) > REPEATED:
        lines.append(f"unknown items, left out: {len(unknown) - REPEATED} more")
    return lines
