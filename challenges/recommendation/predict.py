"""`kit predict` for recommenders: items from the user's own history to a table of what comes next."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from challenges.recommendation.histories import HistorySplit
from common.challenge import Question
from common.console import plain
from common.errors import DataError
from common.run_directory import RunDirectory

if TYPE_CHECKING:
    from challenges.recommendation.challenge import RecommendationChallenge

NEAREST = 3  # titles suggested for one that is unknown


def predict(
    challenge: "RecommendationChallenge[Any]",
    run: RunDirectory,
    question: Question,
    device: torch.device,
    console: Console,
) -> None:
    """Recommend for a history of item identifiers or titles, oldest first, or for a user.

    Raises DataError for an item or user that the data does not have, with the nearest ones.
    """
    recipe = run.recipe(challenge.recipe_class)
    data = challenge.open_data(recipe, run.data, device)
    split = data.split
    arrays = challenge.asked(split, question)
    task = challenge.build_task(recipe, data)
    challenge.load_weights(task, run.weights_file)
    module = task.place(device).eval().inference_module()
    with torch.no_grad():
        items, scores = module(**{name: torch.as_tensor(array).to(device) for name, array in arrays.items()})
    told = f"user {question.user}" if question.user else f"after {', '.join(question.history)}"
    table = Table("", "item", "title", "score", title=plain(f"{run.path.name}: {told}"))
    for place, (item, score) in enumerate(zip(items[0].tolist(), scores[0].tolist(), strict=True), start=1):
        table.add_row(str(place), plain(split.item_ids[item]), plain(split.titles[item]), f"{score:.3f}")
    console.print(table)


def positions_of(split: HistorySplit, items: Sequence[str]) -> np.ndarray:
    """(1, item) int64: the catalogue's positions of identifiers or titles."""
    return np.asarray([[find(split, item) for item in items]], np.int64)


def find(split: HistorySplit, item: str) -> int:
    """Position in the catalogue of an identifier, else of a title in any case.

    Raises DataError with the nearest ones.
    """
    exact = np.flatnonzero(split.item_ids == item)
    if len(exact):
        return int(exact[0])
    titles = [title.lower() for title in split.titles.tolist()]
    if item.lower() in titles:
        return titles.index(item.lower())
    near = difflib.get_close_matches(item.lower(), [title for title in titles if title], n=NEAREST, cutoff=0.4)
    told = "; ".join(str(split.titles[titles.index(title)]) for title in near)
    raise DataError(
        f"The catalogue of {split.num_items:,} items has no {item!r}.",
        "Items are named by the identifiers or titles of the training data.",
        f"Did you mean: {told}?" if told else f"Identifiers look like {split.item_ids[0]}.",
    )
