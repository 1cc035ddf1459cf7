"""How a recommender's exported graph is asked: by history, or by a user of the training data."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.predict import positions_of
from common.errors import DataError
from common.question import Question

if TYPE_CHECKING:
    from common.export.runner import Arrays


class Questions(ABC):
    """What goes into a graph, in positions of the catalogue."""

    asks_by_user: bool
    """Whether the graph knows its users, so that a server must be told who they are."""

    @abstractmethod
    def of_judged(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        """For judged users at positions `rows` (batch,)."""

    @abstractmethod
    def of_question(self, split: HistorySplit, question: Question) -> "Arrays":
        """For what the user of `kit predict` told.

        Raises DataError for an item or user that the data does not have.
        """


class ByHistory(Questions):
    """The model reads the items themselves."""

    asks_by_user = False

    def of_judged(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        return {"history": padded_histories(split.seen, rows)}

    def of_question(self, split: HistorySplit, question: Question) -> "Arrays":
        return {"history": positions_of(split, question.history)}


class ByUser(Questions):
    """The model knows the users of its training data, and no others."""

    asks_by_user = True

    def of_judged(self, split: HistorySplit, rows: np.ndarray) -> "Arrays":
        return {"user": split.users[rows, None], "seen": padded_histories(split.seen, rows)}

    def of_question(self, split: HistorySplit, question: Question) -> "Arrays":
        found = np.flatnonzero(split.user_ids == question.user)
        if not len(found):
            raise DataError(
                f"There is no user {question.user!r} among the {split.num_users:,} that were trained on.",
                "NCF knows its users by an embedding each; others need vae_cf or bert4rec.",
                f"Identifiers look like {split.user_ids[0]}.",
            )
        return {"user": found[:1, None].astype(np.int64), "seen": split.train.select(found[:1]).padded()}


def named_inputs(split: HistorySplit, inputs: "Arrays") -> "Arrays":
    """The same question in the data's own names, as a server is asked: str in place of positions, empty as padding."""
    names = {"user": split.user_ids}
    return {
        name: np.array([*names.get(name, split.item_ids).tolist(), ""], dtype=object)[positions]
        for name, positions in inputs.items()
    }


def padded_histories(histories: Histories, rows: np.ndarray) -> np.ndarray:
    """(row, width) int64 for exported models, -1 after each history.

    The width is that of the longest of all histories, so that batches can be joined.
    """
    return histories.select(rows).padded(int(histories.lengths.max(initial=1)))
