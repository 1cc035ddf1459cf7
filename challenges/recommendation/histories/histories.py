"""User–item histories after filtering and splitting, as the recommenders train on and are judged by."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.files import atomic_writer, read_json, sha256

PARTS = ("train", "seen", "targets")


@dataclass(frozen=True, eq=False)
class Histories:
    """Items of many users, one after the other.

    offsets: (user + 1,) int64; user u has items[offsets[u]:offsets[u + 1]].
    items:   (interaction,) int64 from 0 on, each user's in the order of time.
    """

    offsets: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def users(self) -> np.ndarray:
        """(interaction,) int64: the user of every item."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def of(self, user: int) -> np.ndarray:
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def select(self, users: np.ndarray) -> "Histories":
        """The histories of the given users, in that order."""
        lengths = self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(self.offsets[users] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Histories(offsets, self.items[rows])

    def padded(self, width: int | None = None, *, fill: int = -1) -> np.ndarray:
        """(user, width) int64, left-aligned and filled up; of longer histories the last `width` items."""
        lengths = self.lengths
        width = int(lengths.max(initial=0)) if width is None else width
        columns = np.arange(width)
        kept = np.minimum(lengths, width)
        start = self.offsets[:-1] + lengths - kept
        filled = columns < kept[:, None]
        table = np.full((len(self), width), fill, np.int64)
        table[filled] = self.items[(start[:, None] + columns)[filled]]
        return table


@dataclass(frozen=True, eq=False)
class Tuning:
    """A part kept out of training to choose weights by, which no reported figure touches.

    users:   (tuning user,) int64, the training user each is, -1 where none.
    seen:    what the model is told of them. targets: what it is to find.
    """

    users: np.ndarray
    seen: Histories
    targets: Histories


@dataclass(frozen=True, eq=False)
class HistorySplit:
    """What trains and what is held out, in one protocol.

    protocol:   "leave-one-out" (last item of every user), "held-out-users" (strong generalisation: other users than the
                training's, part of their items given, the rest to be found) or "global-time".
    num_items:  size of the catalogue; items are 0 to num_items - 1.
    item_ids:   (item,) str, as the data names them. titles: (item,) str, empty strings where unknown.
    user_ids:   (training user,) str.
    train:      histories to learn from, one per training user.
    users:      (judged user,) int64: the training user each one is; -1 for users that were held out whole.
    seen:       what the model is told of every judged user, in time order; never recommended again.
    targets:    the held-out items of every judged user, one in leave-one-out.
    negatives:  (judged user, 99) int64: the data's own lists to rank the target among, or None.
    facts:      counts, filters and the rule for equal times, for the run's record.
    root:       folder or file that the data was read from; the current folder where it was read from none.
    """

    protocol: str
    num_items: int
    item_ids: np.ndarray
    titles: np.ndarray
    user_ids: np.ndarray
    train: Histories
    users: np.ndarray
    seen: Histories
    targets: Histories
    negatives: np.ndarray | None
    facts: dict[str, object]
    fingerprint: str
    root: Path = Path()
    tuning: Tuning | None = None

    def by_tuning(self) -> "HistorySplit | None":
        """The same training, judged by the part that was kept out of it for choosing."""
        if self.tuning is None:
            return None
        users, seen, targets = self.tuning.users, self.tuning.seen, self.tuning.targets
        return replace(self, users=users, seen=seen, targets=targets, negatives=None, tuning=None)

    @property
    def num_users(self) -> int:
        return len(self.train)

    @property
    def num_judged(self) -> int:
        return len(self.targets)

    def popularity(self) -> np.ndarray:
        """(item,) int64: how often each item occurs in training."""
        return np.bincount(self.train.items, minlength=self.num_items)

    def write(self, folder: Path) -> str:
        """Write split.npz and return its sha256; what is not an array lives in the check.json beside it."""
        arrays = {
            "item_ids": self.item_ids.astype(str),
            "titles": self.titles.astype(str),
            "user_ids": self.user_ids.astype(str),
            "users": self.users,
            **({} if self.negatives is None else {"negatives": self.negatives}),
        }
        parts = {name: getattr(self, name) for name in PARTS}
        if self.tuning is not None:
            arrays["tuning_users"] = self.tuning.users
            parts |= {"tuning_seen": self.tuning.seen, "tuning_targets": self.tuning.targets}
        for name, histories in parts.items():
            arrays |= {f"{name}_offsets": histories.offsets, f"{name}_items": histories.items}
        with atomic_writer(folder / "split.npz") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        return sha256(folder / "split.npz")

    @staticmethod
    def read(folder: Path) -> "HistorySplit":
        """Read what `write` wrote, and check.json, which names protocol, num_items, facts, fingerprint, split_sha256.

        Raises DataError when either is missing or damaged.
        """
        try:
            check = read_json(folder / "check.json")
            if sha256(folder / "split.npz") != check["split_sha256"]:
                raise ValueError("split.npz is not the file that was written")
            with np.load(folder / "split.npz") as arrays:

                def histories(name: str) -> Histories:
                    return Histories(arrays[f"{name}_offsets"], arrays[f"{name}_items"])

                tuning = None
                if "tuning_users" in arrays:
                    tuning = Tuning(arrays["tuning_users"], histories("tuning_seen"), histories("tuning_targets"))
                return HistorySplit(
                    protocol=check["protocol"],
                    num_items=check["num_items"],
                    item_ids=arrays["item_ids"],
                    titles=arrays["titles"],
                    user_ids=arrays["user_ids"],
                    users=arrays["users"],
                    negatives=arrays.get("negatives"),
                    facts=check["facts"],
                    fingerprint=check["fingerprint"],
                    root=Path(check["root"]),
                    tuning=tuning,
                    **{name: histories(name) for name in PARTS},
                )
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"The record of the data in {folder} cannot be read: {error!r}.",
                remedy=f"Delete {folder} and check the data again.",
            ) from None
