"""Interactions that a run is only judged on: of users it knows or has never met, with items that it has learnt.

What is told of a user is the history that the run's own data has, then what the test data adds; judged is, by the run's
protocol, of what was not learnt from:

leave-one-out:  the last item.
held-out-users: of a user that the run was trained on every item, of another one the protocol's share, drawn by lot.
global-time:    every item; users of whom nothing lies before cannot be judged.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from challenges.recommendation.files.readers import Interactions, read
from challenges.recommendation.files.sources import Source, find
from challenges.recommendation.histories import understanding
from challenges.recommendation.histories.filters import Filtered, in_order, where
from challenges.recommendation.histories.histories import Histories, HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.histories.splits import from_end, histories_of, mask_of, random_share
from common.challenge import CheckedData
from common.errors import DataError
from common.files import read_json, write_json
from common.terminal.understanding import tell_check
from common.text import printable

FORMAT = 1  # of check.json; another number means that the data is checked again


@dataclass(frozen=True)
class Held:
    """A split to judge by, and what had to be left out of it, as sentences."""

    split: HistorySplit
    warnings: tuple[str, ...]


def check(
    root: Path,
    output: Path,
    learnt: HistorySplit,
    config: HistoryConfig,
    *,
    by_user: bool,
    console: Console | None = None,
) -> CheckedData:
    """Read the interactions under `root` and write them to `output` as a split that judges what `learnt` trained.

    config: the run's; columns and minimum_rating count here too, the other filters do not. by_user: the model knows
    the users of its training data alone. console: where what was found is told.
    Raises DataError where nothing can be judged.
    """
    source = find(root, config.named_columns)
    asked = [FORMAT, source.fingerprint, learnt.fingerprint, dataclasses.asdict(config), by_user]
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    if not _is_whole(output, fingerprint):
        interactions = read(source)
        held = judged_by(interactions, learnt, config, fingerprint, by_user=by_user)
        understood = understanding.understood(interactions, held.split, config)
        _store(output, held, source, understood | {"splits": _split_told(held.split)})
    record = read_json(output / "check.json")
    if console is not None:
        tell_check(record, console)
    summary = {"samples": record["judged_users"], "unit": "user", "own": False, "warnings": record["warnings"]}
    return CheckedData(root, fingerprint, summary)


def _is_whole(output: Path, fingerprint: str) -> bool:
    """Whether `output` holds the split of the same files for the same run."""
    try:
        return HistorySplit.read(output).fingerprint == fingerprint
    except DataError:
        return False


def _store(output: Path, held: Held, source: Source, understood: dict[str, str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "check.json").unlink(missing_ok=True)  # written last: where it is whole, the split is
    split = held.split
    record = {
        "format": FORMAT,
        "root": str(source.root),
        "fingerprint": split.fingerprint,
        "files": [str(path) for path in source.files],
        "protocol": split.protocol,
        "num_items": split.num_items,
        "judged_users": split.num_judged,
        "facts": split.facts,
        "understood": understood,
        "warnings": list(held.warnings),
        "split_sha256": split.write(output),
    }
    write_json(output / "check.json", record)


def judged_by(
    interactions: Interactions, learnt: HistorySplit, config: HistoryConfig, fingerprint: str, *, by_user: bool
) -> Held:
    """The interactions as a split with the catalogue, the users and the training of `learnt`.

    Raises DataError where no user can be judged.
    """
    facts: dict[str, Any] = {}
    table = _with_official(interactions, in_order(interactions, config.minimum_rating, facts))
    items = _numbers(interactions.item_ids, learnt.item_ids)[table.items]
    trained = _numbers(interactions.user_ids, learnt.user_ids)
    users, known = trained[table.users], items >= 0
    pairs = users * learnt.num_items + items
    learnt_pairs = learnt.train.users() * learnt.num_items + learnt.train.items
    fresh = known & ~((users >= 0) & np.isin(pairs, learnt_pairs))
    rows = table.select(fresh)
    target = _targets(rows, users[fresh] >= 0, learnt, config)
    if by_user:
        target &= users[fresh] >= 0
    judged = mask_of(len(trained), rows.users[target])
    told = {
        "unknown": _unknown_items(interactions, table.items[~known]),
        "not_judged": _not_judged(table, trained, judged, by_user),
    }
    if not judged.any():
        raise _nothing_to_judge(interactions, learnt, told, by_user)
    numbers, count = np.cumsum(judged) - 1, int(judged.sum())
    mine = judged[rows.users]
    own_items, own_users = items[fresh], rows.users
    split = dataclasses.replace(
        learnt,
        users=trained[judged],
        seen=_told(learnt, trained[judged], numbers[own_users[mine]], own_items[mine], target[mine]),
        targets=histories_of(numbers[own_users[target]], own_items[target], count),
        negatives=None,
        tuning=None,
        fingerprint=fingerprint,
        facts={"format": interactions.source.kind, **facts, "users_known": int((trained[judged] >= 0).sum())},
        root=interactions.source.root,
    )
    return Held(split, tuple(filter(None, [*told.values(), *understanding.warnings(interactions, config)])))


def _with_official(interactions: Interactions, table: Filtered) -> Filtered:
    """NCF's files hold each user's last item apart."""
    official = interactions.official
    if official is None:
        return table
    users = np.concatenate([table.users, official.users])
    whole = Filtered(users, np.concatenate([table.items, official.items]), None, np.arange(len(users)), table.facts)
    return whole.select(np.argsort(users, kind="stable"))


def _numbers(names: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(name,) int64: the position of each name among the known ones, -1 where it is none of them."""
    positions = {name: place for place, name in enumerate(known.tolist())}
    return np.asarray([positions.get(name, -1) for name in names.tolist()], np.int64)


def _targets(rows: Filtered, trained: np.ndarray, learnt: HistorySplit, config: HistoryConfig) -> np.ndarray:
    """(row,) bool: what is to be found. trained: (row,) bool, of users that the run was trained on."""
    if not len(rows):
        return np.zeros(0, bool)
    if learnt.protocol == "global-time":
        return trained
    if learnt.protocol == "held-out-users":
        share = round(1 - config.fold_in, 9)
        asked: np.ndarray = trained | random_share(rows, np.flatnonzero(~trained), share, config.split_seed)
        return asked
    place, length = from_end(rows.users)
    last: np.ndarray = (place == 0) & (trained | (length > 1))
    return last


def _told(
    learnt: HistorySplit, trained: np.ndarray, users: np.ndarray, items: np.ndarray, target: np.ndarray
) -> Histories:
    """Of every judged user what the run's data has, without what the test data repeats, then the test data's.

    trained: (judged user,) int64, training users or -1.
    users, items, target: (row,), judged users' test items in their order; targets are not told.
    """
    owners, before = _everything(learnt)
    place = np.full(learnt.num_users, -1, np.int64)
    place[trained[trained >= 0]] = np.flatnonzero(trained >= 0)
    owners = place[owners]
    repeated = np.isin(owners * learnt.num_items + before, users * learnt.num_items + items)
    kept = (owners >= 0) & ~repeated
    all_users = np.concatenate([owners[kept], users[~target]])
    all_items = np.concatenate([before[kept], items[~target]])
    order = np.argsort(all_users, kind="stable")
    return histories_of(all_users[order], all_items[order], len(trained))


def _everything(learnt: HistorySplit) -> tuple[np.ndarray, np.ndarray]:
    """Users and items (interaction,) that the run's data has of its training users, each user's in their order."""
    whole = learnt.users >= 0
    judged = learnt.users[whole]
    alone = np.setdiff1d(np.arange(learnt.num_users), judged)
    parts = [
        (alone, learnt.train.select(alone)),
        (judged, learnt.seen.select(np.flatnonzero(whole))),
        (judged, learnt.targets.select(np.flatnonzero(whole))),
    ]
    users = np.concatenate([owners[histories.users()] for owners, histories in parts])
    return users, np.concatenate([histories.items for _, histories in parts])


def _split_told(split: HistorySplit) -> str:
    known = int((split.users >= 0).sum())
    return (
        f"{split.protocol}: {known:,} users that the run was trained on and {split.num_judged - known:,} new ones, "
        f"judged by {len(split.targets.items):,} interactions that training has not had"
    )


def _unknown_items(interactions: Interactions, items: np.ndarray) -> str:
    if not len(items):
        return ""
    names = np.unique(items)
    first = printable(str(interactions.item_ids[items[0]]))
    return (
        f"{len(items):,} interactions are left out: their {len(names):,} items, such as {first!r}, are not in the "
        "catalogue that the run has learnt."
    )


def _not_judged(table: Filtered, trained: np.ndarray, judged: np.ndarray, by_user: bool) -> str:
    left = np.setdiff1d(np.unique(table.users), np.flatnonzero(judged))
    new = int((trained[left] < 0).sum())
    if not len(left):
        return ""
    why = "this model knows the users of its training data alone" if by_user else "too few items to tell some and ask"
    reasons = [
        f"{new:,} are new: {why}" if new else "",
        f"{len(left) - new:,} have nothing that the run knows and training has not had" if len(left) > new else "",
    ]
    return f"{len(left):,} users are not judged; {', '.join(filter(None, reasons))}."


def _nothing_to_judge(
    interactions: Interactions, learnt: HistorySplit, told: dict[str, str], by_user: bool
) -> DataError:
    found = " ".join(filter(None, told.values()))
    knows = f"The run knows {learnt.num_users:,} users, such as {learnt.user_ids[0]}, and " if by_user else "It knows "
    return DataError(
        f"{where(interactions)} has nobody whom this run can be judged by. {found}".strip(),
        f"{knows}{learnt.num_items:,} items, such as {learnt.item_ids[0]}; judged is what training has not had.",
        "Give interactions with the training data's own ids"
        + (", or use vae_cf or bert4rec, which read anybody's history." if by_user else "."),
    )
