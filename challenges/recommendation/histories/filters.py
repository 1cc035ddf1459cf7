"""Which interactions count, in the order of time: low ratings, repetitions and rare users and items are dropped."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from challenges.recommendation.files.readers import Interactions
from challenges.recommendation.files.times import UNKNOWN_TIME
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import DataError
from common.language.telling import english

TIE_RULE = english("of equal times, what stands earlier in the file comes first")
REPEAT_RULE = english("of a user's repeated interactions with an item, the first is kept")


@dataclass(frozen=True, eq=False)
class Filtered:
    """Interactions that passed the filters, user by user in the order of time.

    users, items: (row,) int32, positions in the data's own ids. times: (row,) int64 or None.
    rows: (row,) integers, places in the file's order.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    rows: np.ndarray
    facts: dict[str, Any]

    def select(self, kept: np.ndarray) -> "Filtered":
        times = None if self.times is None else self.times[kept]
        return Filtered(self.users[kept], self.items[kept], times, self.rows[kept], self.facts)

    def __len__(self) -> int:
        return len(self.users)


def filter_interactions(interactions: Interactions, config: HistoryConfig) -> Filtered:
    """Drop low ratings, then repetitions, then users and items with too few, in this order."""
    facts: dict[str, Any] = {
        "read": {
            "users": len(interactions.user_ids),
            "items": len(interactions.item_ids),
            "interactions": len(interactions),
        }
    }
    table = _core(in_order(interactions, config.minimum_rating, facts), interactions, config)
    users, items = (int(np.count_nonzero(np.bincount(ids))) for ids in (table.users, table.items))
    facts["kept"] = {"users": users, "items": items, "interactions": len(table)}
    facts["tie_rule"], facts["repeat_rule"] = TIE_RULE, REPEAT_RULE
    if users < 2 or items < 2:
        raise DataError(
            f"{where(interactions)}: the filters leave {users} of {facts['read']['users']:,} users and {items} of "
            f"{facts['read']['items']:,} items.",
            "At least two users and two items are needed to learn whose taste is whose.",
            "Lower history.minimum-rating, -per-user or -per-item, or give more data.",
        )
    return table


def where(interactions: Interactions) -> str:
    return str(interactions.source.layout.path)


def in_order(interactions: Interactions, minimum_rating: float | None, facts: dict[str, Any]) -> Filtered:
    """What is rated high enough, every item of a user once, in the order of time; facts: added to, and the table's.

    Raises DataError where a rating is asked for and there is none.
    """
    table = _in_order(interactions, _rated(interactions, minimum_rating), facts)
    return _without_repetitions(table, len(interactions.item_ids))


def _rated(interactions: Interactions, minimum: float | None) -> np.ndarray | None:
    """(row,) bool: rated high enough; None where all count."""
    if minimum is None:
        return None
    if interactions.ratings is None:
        raise DataError(
            f"{where(interactions)} has no ratings, and history.minimum-rating is {minimum:g}.",
            "A rating threshold needs a column of ratings.",
            "Leave the threshold out: --history.minimum-rating None",
        )
    return interactions.ratings >= np.float32(minimum)


def _in_order(interactions: Interactions, kept: np.ndarray | None, facts: dict[str, Any]) -> Filtered:
    """Interactions by user, then time, then place in the file."""
    rows = np.arange(len(interactions)) if kept is None else np.flatnonzero(kept)
    rows = rows.astype(np.min_scalar_type(-len(interactions)))
    facts["below_rating"] = len(interactions) - len(rows)
    users, items = interactions.users[rows], interactions.items[rows]
    times = None if interactions.times is None else interactions.times[rows]
    if times is None:
        facts["times"] = "none: the order of the lines counts as the order of time"
        order = np.argsort(users, kind="stable")
    else:
        unknown = np.bincount(users[times == UNKNOWN_TIME], minlength=len(interactions.user_ids)) > 0
        facts["users_without_times"] = int(unknown.sum())
        times[unknown[users]] = UNKNOWN_TIME  # some unknown: the file's order for all of that user's
        order = np.lexsort((times, users))
        backwards = (order[1:] < order[:-1]) & (users[order[1:]] == users[order[:-1]])
        facts["users_out_of_order"] = len(np.unique(users[order[1:][backwards]]))
    return Filtered(users, items, times, rows, facts).select(order)


def _without_repetitions(table: Filtered, num_items: int) -> Filtered:
    pairs = table.users.astype(np.int64) * num_items + table.items
    ascending = np.sort(pairs)
    repeated = int(np.count_nonzero(ascending[1:] == ascending[:-1]))
    table.facts["repeated"] = repeated
    if not repeated:
        return table
    kept = np.zeros(len(table), bool)
    kept[np.unique(pairs, return_index=True)[1]] = True
    return table.select(kept)


def _core(table: Filtered, interactions: Interactions, config: HistoryConfig) -> Filtered:
    """Drop users and items with too few interactions until none is left to drop."""
    rounds = 0
    while len(table):
        per_user = np.bincount(table.users, minlength=len(interactions.user_ids))
        per_item = np.bincount(table.items, minlength=len(interactions.item_ids))
        enough = (per_user[table.users] >= config.minimum_per_user) & (per_item[table.items] >= config.minimum_per_item)
        if enough.all():
            break
        table, rounds = table.select(enough), rounds + 1
    table.facts["core_rounds"] = rounds
    return table
