"""Small splits for tests."""

import numpy as np

from challenges.recommendation.histories.histories import Histories, HistorySplit


def histories_of(lists: list[list[int]]) -> Histories:
    lengths = [len(items) for items in lists]
    items = np.asarray([item for items in lists for item in items], np.int64)
    return Histories(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items)


def build_split(
    train: list[list[int]],
    targets: list[list[int]],
    *,
    num_items: int,
    protocol: str = "leave-one-out",
    seen: list[list[int]] | None = None,
    negatives: np.ndarray | None = None,
) -> HistorySplit:
    """A split by hand; without `seen`, the judged users are the training users."""
    is_known = seen is None
    return HistorySplit(
        protocol=protocol,
        num_items=num_items,
        item_ids=np.arange(num_items).astype(str),
        titles=np.full(num_items, ""),
        user_ids=np.arange(len(train)).astype(str),
        train=histories_of(train),
        users=np.arange(len(train)) if is_known else np.full(len(targets), -1),
        seen=histories_of(train if seen is None else seen),
        targets=histories_of(targets),
        negatives=negatives,
        facts={},
        fingerprint="by hand",
    )


def random_split(users: int = 40, items: int = 60, seed: int = 0, *, negatives: int = 0) -> HistorySplit:
    """Leave-one-out over random histories of 3 to 20 items."""
    random = np.random.default_rng(seed)
    histories = [random.permutation(items)[: random.integers(4, 21)].tolist() for _ in range(users)]
    lists = random.integers(items, size=(users, negatives)) if negatives else None
    return build_split(
        [history[:-1] for history in histories], [history[-1:] for history in histories],
        num_items=items, negatives=lists,
    )  # fmt: skip


def held_out_split(users: int = 40, judged: int = 15, items: int = 60, seed: int = 0) -> HistorySplit:
    """Other users are judged than trained on, by 1 to 8 items each."""
    random = np.random.default_rng(seed)
    train = [random.permutation(items)[: random.integers(4, 21)].tolist() for _ in range(users)]
    told, found = [], []
    for _ in range(judged):
        history, share = random.permutation(items)[:20].tolist(), int(random.integers(1, 9))
        told.append(history[share:])
        found.append(history[:share])
    return build_split(train, found, num_items=items, protocol="held-out-users", seen=told)
