"""From interactions to what trains and what is held out, in one of three protocols."""

from typing import Any, NamedTuple

import numpy as np

from challenges.recommendation.files.readers import Interactions
from challenges.recommendation.files.times import UNKNOWN_TIME
from challenges.recommendation.histories.filters import Filtered, filter_interactions, where
from challenges.recommendation.histories.histories import Histories, HistorySplit, Tuning
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import DataError

FEWEST_TUNING_USERS = 200  # or half of all: fewer tell the better of two weights by luck, more are missed in training
FEWEST_JUDGED = 1000


class _Parts(NamedTuple):
    """Masks or positions of rows; the users of `seen`, which is told, and of `targets` are the judged ones.

    tuning: what is told, and the targets, of the users that weights are chosen by.
    """

    train: np.ndarray
    seen: np.ndarray
    targets: np.ndarray
    tuning: tuple[np.ndarray, np.ndarray] | None = None


def split(interactions: Interactions, config: HistoryConfig, fingerprint: str = "") -> HistorySplit:
    """Filter and split; the same data, configuration and seed give the same split everywhere.

    Raises DataError where the data is too small for the protocol, or lacks what it needs.
    """
    filtered = filter_interactions(interactions, config)
    if interactions.official is not None:
        return _official(interactions, filtered, config, fingerprint)
    build = {"leave-one-out": _leave_one_out, "held-out-users": _held_out_users, "global-time": _global_time}
    return build[config.protocol](interactions, filtered, config, fingerprint)


def mask_of(length: int, chosen: np.ndarray) -> np.ndarray:
    """(length,) bool: True at the chosen positions."""
    mask = np.zeros(length, bool)
    mask[chosen] = True
    return mask


def _numbered(present: np.ndarray) -> np.ndarray:
    """(id,) int64: a number from 0 on for every id that is present, -1 for the others."""
    return np.where(present, np.cumsum(present) - 1, -1)


def histories_of(users: np.ndarray, items: np.ndarray, num_users: int) -> Histories:
    """Histories of rows that are ordered by user."""
    counts = np.bincount(users, minlength=num_users)
    return Histories(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items.astype(np.int64))


def _assemble(
    interactions: Interactions,
    table: Filtered,
    parts: _Parts,
    protocol: str,
    fingerprint: str,
    facts: dict[str, Any],
    *,
    catalogue: np.ndarray | None = None,
    negatives: np.ndarray | None = None,
) -> HistorySplit:
    """Number what is left and cut the rows of training, of what is told, and of targets, into histories.

    catalogue: (item,) bool, items there are; all that were kept by default.
    """
    train, seen, targets, tuning = parts
    present = mask_of(len(interactions.item_ids), table.items) if catalogue is None else catalogue
    item_number = _numbered(present)
    learnt = mask_of(len(interactions.user_ids), table.users[train])
    judged = mask_of(len(learnt), table.users[targets])
    if not judged.any():
        raise DataError(
            f"{where(interactions)}: no user has enough interactions to hold one out.",
            f"The protocol {protocol} judges users by items that they met and the model is not told.",
            "Give data with several interactions per user.",
        )
    user_number = _numbered(learnt)

    def histories(rows: np.ndarray, whose: np.ndarray) -> Histories:
        return histories_of(_numbered(whose)[table.users[rows]], item_number[table.items[rows]], int(whose.sum()))

    chosen_by = None
    if tuning is not None and (whose := mask_of(len(learnt), table.users[tuning[1]])).any():
        told = tuning[0] & whose[table.users]
        chosen_by = Tuning(user_number[whose], histories(told, whose), histories(tuning[1], whose))
    return HistorySplit(
        protocol=protocol,
        num_items=int(present.sum()),
        item_ids=interactions.item_ids[present],
        titles=interactions.titles[present],
        user_ids=interactions.user_ids[learnt],
        train=histories(train, learnt),
        users=user_number[judged],
        seen=histories(seen, judged),
        targets=histories(targets, judged),
        negatives=None if negatives is None else item_number[negatives],
        facts={"format": interactions.source.kind, **table.facts, **facts},
        fingerprint=fingerprint,
        tuning=chosen_by,
    )


def from_end(users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row,), (row,): 0 at a user's last row, 1 at the one before; and how many rows the user has."""
    counts = np.bincount(users)
    return np.cumsum(counts)[users] - 1 - np.arange(len(users)), counts[users]


def _leave_one_out(
    interactions: Interactions, table: Filtered, config: HistoryConfig, fingerprint: str
) -> HistorySplit:
    place, length = from_end(table.users)
    target = (place == 0) & (length >= 2)
    tuning = (place == 1) & (length >= 3) & _tuning_users(table, config)
    seen = ~target & (length >= 2)
    last = np.flatnonzero(target)
    tied = 0 if table.times is None else int(np.count_nonzero(table.times[last] == table.times[last - 1]))
    facts = {
        "users_not_judged": int(np.count_nonzero((place == 0) & (length < 2))),
        "validation_items": int(tuning.sum()),
        "targets_decided_by_tie_rule": tied,
    }
    train = ~target & ~tuning
    parts = _Parts(train, seen, target, (train & seen, tuning))
    return _assemble(interactions, table, parts, "leave-one-out", fingerprint, facts)


def _tuning_users(table: Filtered, config: HistoryConfig) -> np.ndarray:
    """(row,) bool: the user's last item but one is kept out of training, where there are three."""
    users = np.flatnonzero(np.bincount(table.users) > 2)
    if config.validation_item or config.tuning_from is None or len(users) < config.tuning_from:
        return np.full(len(table), config.validation_item)
    count = max(len(users) // 50, min(FEWEST_TUNING_USERS, len(users) // 2))
    drawn = np.random.RandomState(config.split_seed).permutation(users)[:count]
    return np.isin(table.users, drawn)


def _held_out_users(
    interactions: Interactions, table: Filtered, config: HistoryConfig, fingerprint: str
) -> HistorySplit:
    """Strong generalisation as Liang et al. 2018 draw it, random numbers included, given the same order of the file."""
    users = np.flatnonzero(np.bincount(table.users))
    held = config.held_out_users or judged_users(len(users), config.held_out_share)
    if held < 1 or len(users) <= 2 * held:
        raise DataError(
            f"history.held-out-users is {held:,}, and {len(users):,} users are left after the filters.",
            "As many again are set aside for tuning, and the others train.",
            f"Try: --history.held-out-users {max(len(users) // 10, 1)}",
        )
    role = np.zeros(len(interactions.user_ids), np.int8)  # 0 trains, 1 is set aside, 2 is judged
    set_aside, held_out = draw_held_out(users, held, config.split_seed)
    role[set_aside], role[held_out] = 1, 2
    catalogue = mask_of(len(interactions.item_ids), table.items[role[table.users] == 0])
    judged, known_items = role[table.users] == 2, catalogue[table.items]
    known, tunes = judged & known_items, (role[table.users] == 1) & known_items
    target, tuned = (
        random_share(table, np.flatnonzero(rows), round(1 - config.fold_in, 9), config.split_seed)
        for rows in (known, tunes)
    )
    with_target = np.bincount(table.users[target], minlength=len(interactions.user_ids)) > 0
    facts = {
        "set_aside_for_tuning": held,
        "held_out_users": held,
        "held_out_dropped": held - int(with_target.sum()),
        "unseen_in_training": int(np.count_nonzero(judged & ~known)),
        "items_not_in_training": int(np.count_nonzero(np.bincount(table.items[~catalogue[table.items]]))),
        "fold_in": config.fold_in,
        "seed": config.split_seed,
    }
    seen = known & ~target & with_target[table.users]
    parts = _Parts(role[table.users] == 0, seen, target, (tunes & ~tuned, tuned))
    return _assemble(interactions, table, parts, "held-out-users", fingerprint, facts, catalogue=catalogue)


def judged_users(count: int, share: float) -> int:
    """A share of `count` users, 1,000 at least, and a fifth of them at most: as many again are set aside."""
    return min(max(round(share * count), FEWEST_JUDGED), count // 5)


def draw_held_out(users: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` users to set aside for tuning, and `count` to judge, of more than twice as many."""
    shuffled = users[np.random.RandomState(seed).permutation(len(users))]
    return shuffled[-2 * count : -count], shuffled[-count:]


def random_share(table: Filtered, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(row of table,) bool: of each user's `rows`, a share rounded down, drawn in the file's order."""
    random = np.random.RandomState(seed)
    chosen = np.zeros(len(table), bool)
    starts = np.flatnonzero(np.diff(table.users[rows], prepend=-1))
    for mine in np.split(rows, starts[1:]):
        count = int(share * len(mine))
        if count:
            by_file = mine[np.argsort(table.rows[mine], kind="stable")]
            chosen[by_file[random.choice(len(mine), size=count, replace=False)]] = True
    return chosen


def _global_time(interactions: Interactions, table: Filtered, config: HistoryConfig, fingerprint: str) -> HistorySplit:
    """Everything from one moment on is held out; what happened at the same time stays together."""
    times = table.times
    if times is None or (times == UNKNOWN_TIME).any():
        raise DataError(
            f"{where(interactions)} has {'no' if times is None else 'missing'} timestamps.",
            "global-time cuts all interactions at one moment and needs the time of each.",
            "Use another protocol: --history.protocol leave-one-out",
        )
    place = len(times) - max(int(len(times) * config.test_share), 1)
    cut = np.partition(times, place)[place]
    train, later = times < cut, times >= cut
    learnt = mask_of(len(interactions.user_ids), table.users[train])
    known = mask_of(len(interactions.item_ids), table.items[train])
    target = later & learnt[table.users] & known[table.items]
    judged = mask_of(len(learnt), table.users[target])
    late_users = int(np.count_nonzero(np.bincount(table.users[later])))
    facts = {
        "cut_time": int(cut),
        "held_out_share": round(float(later.mean()), 6),
        "held_out_interactions": int(later.sum()),
        "users_not_judged": late_users - int(judged.sum()),
        "unseen_in_training": int(np.count_nonzero(later & learnt[table.users] & ~known[table.items])),
    }
    parts = _Parts(train, train & judged[table.users], target)
    return _assemble(interactions, table, parts, "global-time", fingerprint, facts, catalogue=known)


def _official(interactions: Interactions, table: Filtered, config: HistoryConfig, fingerprint: str) -> HistorySplit:
    """NCF's own files, as they are."""
    official = interactions.official
    assert official is not None
    lost = len(interactions) - table.facts["repeated"] - len(table)
    if config.protocol != "leave-one-out" or lost:
        raise DataError(
            f"{where(interactions)} brings its own split, and the recipe asks for "
            + (f"the protocol {config.protocol}." if not lost else f"filters that would drop {lost:,} interactions."),
            "NCF's files are used as they are: leave-one-out, with their own lists of 99 unseen items.",
            "Give a ratings file instead, or a recipe such as ncf/ml-1m-8.",
        )
    trained = np.bincount(table.users, minlength=len(interactions.user_ids)) > 0
    if not trained[official.users].all():
        stranger = interactions.user_ids[official.users[~trained[official.users]][0]]
        raise DataError(
            f"{where(interactions)} has nothing of user {str(stranger)!r}, whom the test file judges.",
            "Every judged user needs interactions to learn from.",
            "Download the three files again.",
        )
    order = np.argsort(official.users, kind="stable")
    users, items, negatives = official.users[order], official.items[order], official.negatives[order]
    whole = Filtered(
        np.concatenate([table.users, users.astype(np.int32)]),
        np.concatenate([table.items, items.astype(np.int32)]),
        None,
        np.arange(len(table) + len(users)),
        table.facts,
    )
    train = np.arange(len(whole)) < len(table)
    place, length = from_end(table.users)
    tuning = np.zeros(len(whole), bool)
    tuning[: len(table)] = (place == 0) & (length >= 2) & _tuning_users(table, config)
    judged = np.bincount(users, minlength=len(interactions.user_ids)) > 0
    seen = train & judged[whole.users]
    facts = {"official": "NCF", "validation_items": int(tuning.sum()), "targets_decided_by_tie_rule": None}
    present = np.ones(len(interactions.item_ids), bool)
    return _assemble(
        interactions,
        whole,
        _Parts(train & ~tuning, seen, ~train, (train & ~tuning, tuning)),
        "leave-one-out",
        fingerprint,
        facts,
        catalogue=present,
        negatives=negatives,
    )
