"""The demo interactions: invented films, and users whose planted taste says how well anyone could recommend them."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from challenges.recommendation.files.readers import read
from challenges.recommendation.histories import demo_taste
from challenges.recommendation.histories.demo_taste import (
    GENRES,
    NUM_ITEMS,
    NUM_USERS,
    PARTS,
    SERIES_PER_GENRE,
    Taste,
    Watched,
)
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig, Protocol
from challenges.recommendation.histories.splits import draw_held_out, split
from common.errors import DataError
from common.files import read_json, sha256, write_csv, write_json
from common.storage.generated_folder import generate_folder

VERSION = 1  # another number means other interactions for the same seed
MARKER = "demo.json"
HELD_OUT_USERS = 150
"""Judged users of the split that the held-out-users figures are about."""
FILES = ("ratings.csv", "movies.csv")
_START = 1_577_836_800  # 1 January 2020, in seconds
_FIRST = ("Copper", "Silent", "Crooked", "Amber", "Paper", "Hollow", "Velvet", "Winter", "Salt", "Iron")
_SECOND = ("Lantern", "Harbour", "Compass", "Orchard", "Mirror", "Signal", "Bridge", "Feather", "Clock", "Garden")


@dataclass(frozen=True)
class _Description:
    version: int = VERSION
    seed: int = 0
    users: int = NUM_USERS
    items: int = NUM_ITEMS


def generate(folder: Path, *, seed: int = 0, console: Console | None = None) -> Path:
    """Write ratings.csv and movies.csv into `folder`, or find them whole, and return it.

    The same seed gives the same bytes. Raises DataError where the folder holds anything else.
    """
    folder = folder.absolute()
    description = _Description(seed=seed)

    def fill(fresh: Path) -> None:
        if console is not None:
            console.print("making demo interactions", markup=False, highlight=False)
        _fill(fresh, description)

    return generate_folder(folder, MARKER, "demo interactions", 2, lambda: _is_whole(folder, description), fill)


def _fill(folder: Path, description: _Description) -> None:
    random = np.random.default_rng([description.version, description.seed])
    taste = demo_taste.draw_taste(random)
    watched = demo_taste.watch(taste, random)
    _write_files(folder, taste, watched, random)
    marker = asdict(description) | {
        "interactions": int(taste.lengths.sum()),
        "sha256": {name: sha256(folder / name) for name in FILES},
        "best_reachable": {
            "leave-one-out": last_film_metrics(watched),
            "held-out-users": held_out_metrics(taste, split(read(folder), _HELD_OUT)),
        },
    }
    write_json(folder / MARKER, marker)


def is_demo(root: Path) -> bool:
    """Whether the folder holds the interactions that `generate` makes by default."""
    return _is_whole(root, _Description())


def best_reachable(root: Path, protocol: Protocol = "leave-one-out") -> dict[str, float]:
    """Metric -> what the planted probabilities themselves reach on these very interactions.

    leave-one-out:  of the last film, whose true probabilities are known: no model can be expected to do better.
    held-out-users: with HELD_OUT_USERS judged users and the default seed; from the planted taste, an approximation.
    Raises DataError where the folder is not the demo, or there is no figure for the protocol.
    """
    try:
        best: dict[str, float] = read_json(root / MARKER)["best_reachable"][protocol]
    except (OSError, ValueError, KeyError):
        raise DataError(
            f"{root} has no best reachable figures for {protocol}.",
            "They are known for the demo interactions, leave-one-out and held-out-users.",
        ) from None
    return best


def _is_whole(folder: Path, description: _Description) -> bool:
    try:
        marker = read_json(folder / MARKER)
        same = all(marker[name] == value for name, value in asdict(description).items())
        return same and all(sha256(folder / name) == marker["sha256"][name] for name in FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def titles() -> list[str]:
    """Of every film: a series' name, and its number from the second part on."""
    names = [f"The {first} {second}" for second in _SECOND for first in _FIRST][: len(GENRES) * SERIES_PER_GENRE]
    return [name if part == 0 else f"{name} {part + 1}" for name in names for part in range(PARTS)]


def _write_files(folder: Path, taste: Taste, watched: Watched, random: np.random.Generator) -> None:
    users, steps = np.nonzero(watched.table >= 0)
    items = watched.table[users, steps]
    mixture = (taste.early + taste.late) / 2
    liking = mixture[users, demo_taste.GENRE_OF[items]]
    ratings = np.clip(np.rint(2.8 + 2.5 * np.sqrt(liking) + random.normal(0, 0.7, len(items))), 1, 5).astype(int)
    gaps = np.where(random.random(len(items)) < 0.03, 0, random.geometric(1 / 90_000, len(items)))  # seconds
    gaps[steps == 0] = random.integers(0, 2 * 365 * 86_400, len(taste.lengths))
    elapsed = np.cumsum(gaps)
    first = np.flatnonzero(steps == 0)
    times = _START + elapsed - np.repeat(elapsed[first] - gaps[first], taste.lengths)
    rows = zip(users + 1, items + 1, ratings, times, strict=True)
    write_csv(folder / "ratings.csv", ("userId", "movieId", "rating", "timestamp"), rows)
    names = zip(range(1, NUM_ITEMS + 1), titles(), (GENRES[genre] for genre in demo_taste.GENRE_OF), strict=True)
    write_csv(folder / "movies.csv", ("movieId", "title", "genres"), names)


_HELD_OUT = HistoryConfig(protocol="held-out-users", held_out_users=HELD_OUT_USERS)


def last_film_metrics(watched: Watched) -> dict[str, float]:
    """Ranking every user's unseen films by the probabilities that the last film was drawn from."""
    truth = watched.last_probabilities
    last = watched.table[np.arange(len(truth)), (watched.table >= 0).sum(axis=1) - 1]
    better = (truth > truth[np.arange(len(truth)), last][:, None]).sum(axis=1)
    gain = 1 / np.log2(np.arange(NUM_ITEMS) + 2)
    metrics: dict[str, Any] = {}
    for cutoff in (10, 20):
        hit = better < cutoff
        metrics |= {f"hr@{cutoff}/full": hit.mean(), f"ndcg@{cutoff}/full": np.where(hit, gain[better], 0).mean()}
    unseen = NUM_ITEMS - (watched.table >= 0).sum(axis=1)  # beside the target
    chances = [_drawn(int(b), int(m), 100, 10) for b, m in zip(better, unseen, strict=True)]
    metrics["hr@10/uniform-100"] = np.mean([sum(chance) for chance in chances])
    metrics["ndcg@10/uniform-100"] = np.mean([np.dot(chance, gain[:10]) for chance in chances])
    return {name: round(float(value), 5) for name, value in metrics.items()}


def _drawn(better: int, unseen: int, drawn: int, below: int) -> list[float]:
    """The probabilities that 0, 1, ... `below` - 1 of `drawn` unseen items are among the `better` ones."""
    drawn = min(drawn, unseen)
    whole = math.comb(unseen, drawn)
    ways = (math.comb(better, k) * math.comb(unseen - better, drawn - k) if k <= drawn else 0 for k in range(below))
    return [count / whole for count in ways]


def held_out_metrics(taste: Taste, parts: HistorySplit) -> dict[str, float]:
    """Ranking held-out users' films by how likely the planted taste makes them, given what is told."""
    item = parts.item_ids.astype(int) - 1
    told, wanted = (np.zeros((parts.num_judged, NUM_ITEMS), bool) for _ in range(2))
    for table, histories in ((told, parts.seen), (wanted, parts.targets)):
        table[histories.users(), item[histories.items]] = True
    judged = np.sort(draw_held_out(np.arange(len(taste.lengths)), HELD_OUT_USERS, _HELD_OUT.split_seed)[1])
    scores = np.where(told, -np.inf, demo_taste.membership(taste, judged, told))
    ranked = np.take_along_axis(wanted, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    count = wanted.sum(axis=1)
    gain = 1 / np.log2(np.arange(100) + 2)
    ideal = np.cumsum(gain)[np.minimum(count, 100) - 1]
    metrics = {"ndcg@100/full": ((ranked[:, :100] * gain).sum(axis=1) / ideal).mean()}
    for cutoff in (20, 50):
        metrics[f"recall@{cutoff}/full"] = (ranked[:, :cutoff].sum(axis=1) / np.minimum(count, cutoff)).mean()
    return {name: round(float(value), 5) for name, value in metrics.items()}
