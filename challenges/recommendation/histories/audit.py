"""What interactions and their split should make one think twice about, and what its metrics may be compared with."""

from typing import Any

import numpy as np

from challenges.recommendation.files.readers import Interactions
from challenges.recommendation.histories.histories import HistorySplit
from common.language.telling import english

TOP_SHARE = 0.01  # of the items, for the concentration
MANY_TIES = 0.05  # share of judged users from which on ties are warned of
MANY_UNSEEN = 0.01  # share of targets that no training user has met
WARNINGS = {
    "users_without_times": english(
        "{users_without_times:,} users have missing timestamps: their lines' order counts as time's."
    ),
    "users_out_of_order": english("The lines of {users_out_of_order:,} users are not in the order of time: sorted."),
    "repeated": english("{repeated:,} repeated interactions dropped: {repeat_rule}."),
}
"""What is said of a fact that is true of the data, or counts some of it."""


def findings(interactions: Interactions, split: HistorySplit) -> dict[str, Any]:
    """The part of check.json that describes the data, with `warnings` and `comparable` in sentences."""
    choosing = 0 if split.tuning is None else len(split.tuning.targets.items)
    set_aside = split.tuning is not None and bool((split.tuning.users < 0).any())
    record: dict[str, Any] = {
        "counts": {
            "training_users": split.num_users,
            "training_interactions": len(split.train.items) + (0 if set_aside else choosing),
            "choosing_interactions": choosing,
            "items": split.num_items,
            "judged_users": split.num_judged,
            "targets": len(split.targets.items),
        },
        "density": round(len(split.train.items) / (split.num_users * split.num_items), 6),
        "history_lengths": _spread(split.train.lengths),
        "popularity": concentration(split.popularity()),
        "targets_never_in_training": int(np.count_nonzero(split.popularity()[split.targets.items] == 0)),
        "targets_already_seen": targets_already_seen(split),
        "negatives": None if split.negatives is None else negative_problems(split),
        "titles": int(np.count_nonzero(split.titles != "")),
        "mixed_ids": {
            role: mixed
            for role, ids in (("user", interactions.user_ids), ("item", interactions.item_ids))
            if (mixed := mixed_ids(ids))
        },
    }
    return record | {"warnings": _warnings(record, split), "comparable": comparable(split)}


def _spread(lengths: np.ndarray) -> dict[str, int]:
    return {"smallest": int(lengths.min()), "median": int(np.median(lengths)), "largest": int(lengths.max())}


def concentration(popularity: np.ndarray) -> dict[str, float]:
    """Share of all interactions that the most popular hundredth of the items has, and the Gini coefficient.

    popularity: (item,) counts.
    """
    ascending = np.sort(popularity).astype(np.float64)
    total, count = ascending.sum(), len(ascending)
    top = ascending[-max(round(TOP_SHARE * count), 1) :].sum() / total
    gini = (2 * np.arange(1, count + 1) - count - 1) @ ascending / (count * total)
    return {"top_hundredth": round(float(top), 4), "gini": round(float(gini), 4)}


def _pairs(split: HistorySplit, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    pairs: np.ndarray = users.astype(np.int64) * split.num_items + items
    return pairs


def targets_already_seen(split: HistorySplit) -> int:
    """How many targets the model is told of, which full ranking would mask."""
    targets = _pairs(split, split.targets.users(), split.targets.items)
    return int(np.isin(targets, _pairs(split, split.seen.users(), split.seen.items)).sum())


def negative_problems(split: HistorySplit) -> dict[str, int]:
    """What is wrong with the data's own lists of unseen items, in numbers of lists."""
    assert split.negatives is not None
    negatives = split.negatives
    users = np.broadcast_to(np.arange(len(negatives))[:, None], negatives.shape)
    seen = np.isin(_pairs(split, users, negatives), _pairs(split, split.seen.users(), split.seen.items))
    ascending = np.sort(negatives, axis=1)
    return {
        "lists": len(negatives),
        "length": negatives.shape[1],
        "with_the_target": int((negatives == split.targets.items[:, None]).any(axis=1).sum()),
        "with_seen_items": int(seen.any(axis=1).sum()),
        "with_repetitions": int((ascending[:, 1:] == ascending[:, :-1]).any(axis=1).sum()),
    }


def mixed_ids(ids: np.ndarray) -> dict[str, Any] | None:
    """How many ids are text where others are whole numbers, and the first such; None where all are alike."""
    numbers = np.char.isdigit(np.char.replace(ids, ".0", ""))  # 7.0 is told elsewhere
    if numbers.all() or not numbers.any():
        return None
    return {"text": int((~numbers).sum()), "numbers": int(numbers.sum()), "first": str(ids[~numbers][0])}


def _warnings(record: dict[str, Any], split: HistorySplit) -> list[str]:
    facts: dict[str, Any] = split.facts
    judged = split.num_judged
    warnings = [english(message, **facts) for fact, message in WARNINGS.items() if facts.get(fact)]
    ties = facts.get("targets_decided_by_tie_rule") or 0
    if ties > MANY_TIES * judged:
        warnings.append(
            english(
                "For {ties:,} of {judged:,} judged users, the last two interactions have the same time: "
                "which is held out is decided by a rule ({tie_rule}), and others decide otherwise.",
                ties=ties,
                judged=judged,
                tie_rule=facts["tie_rule"],
            )
        )
    never = record["targets_never_in_training"]
    if never > MANY_UNSEEN * len(split.targets.items):
        warnings.append(
            english(
                "{never:,} of {items:,} targets occur in no training history.",
                never=never,
                items=len(split.targets.items),
            )
        )
    if record["targets_already_seen"]:
        warnings.append(
            english(
                "{targets_already_seen:,} targets are also in the history that the model is told.",
                targets_already_seen=record["targets_already_seen"],
            )
        )
    for role, mixed in record["mixed_ids"].items():
        warnings.append(
            english(
                "{text:,} {role} ids are text, such as {first!r}, and {numbers:,} are numbers.",
                text=mixed["text"],
                role=role,
                first=mixed["first"],
                numbers=mixed["numbers"],
            )
        )
    return warnings + _negative_warnings(record["negatives"])


def _negative_warnings(negatives: dict[str, int] | None) -> list[str]:
    if negatives is None:
        return []
    lists = f"of the data's {negatives['lists']:,} lists of unseen items"
    meanings = {
        "with_the_target": f"{{:,}} {lists} contain the target itself: those users are ranked among one item fewer.",
        "with_seen_items": f"{{:,}} {lists} contain items of the user's history.",
        "with_repetitions": f"{{:,}} {lists} contain an item twice.",
    }
    return [meaning.format(negatives[name]) for name, meaning in meanings.items() if negatives[name]]


def comparable(split: HistorySplit) -> list[str]:
    """What metrics on this split can and cannot be held against, in sentences."""
    told = [english("Full ranking and sampled metrics differ by a factor of about three: never compare across them.")]
    if split.protocol == "leave-one-out":
        told.append(
            english("Leave-one-out figures are comparable where the same interaction of every user is held out.")
        )
        if split.facts.get("official"):
            told.append(
                english("Published NCF figures rank the test item among these lists of 99: compare hr@10/ncf-99.")
            )
            if (split.num_judged, split.num_items) == (6040, 3706):
                told.append(
                    english("BERT4Rec's and SASRec's ml-1m.txt hold out another item for 1,671 of ML-1M's 6,040 users.")
                )
        elif split.facts["format"] == "lines":
            told.append(
                english("Of files like ml-1m.txt, papers report full ranking, or 100 negatives drawn by popularity.")
            )
        else:
            told.append(
                english(
                    "Published NCF figures use their own files and 99 negatives: they are not comparable with these."
                )
            )
    elif split.protocol == "held-out-users":
        told.append(
            english("Held-out users are unknown to the model: figures are not comparable with leave-one-out ones.")
        )
        told.append(
            english(
                "Comparable are figures for {held_out_users:,} held-out users after the same filters; "
                "the draw is that of Liang et al. 2018 for seed {seed}.",
                held_out_users=split.facts["held_out_users"],
                seed=split.facts["seed"],
            )
        )
    else:
        told.append(
            english("A cut in time is harder than leave-one-out: what is popular has changed; few papers report it.")
        )
    return told
