"""How a careful user brings a peer as far as some processor time allows; needs nothing but NumPy.

A trial learns from everything but what models are chosen by, and its best weights are kept. Where it is over well
before its time, a second training takes as many epochs on everything. Methods without epochs try settings instead.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.peers.peer_process import CHOOSING, TOP_ITEMS_FILE, Job, PeerHistories

PATIENCE = 8  # looks without a better one; looks are an eighth of the epochs apart
TRIAL_SHARE = 0.25  # of the time, before which a trial does not give up
SPARE = 5  # items beyond those asked for: peers do not know all that is struck out of their lists


class Clock:
    """Processor time of this process and its ended children, as the system counts it, from their start on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @property
    def used(self) -> float:
        return sum(os.times()[:4])

    @property
    def is_over(self) -> bool:
        return self.share >= 1

    @property
    def share(self) -> float:
        return self.used / self._seconds


class Learner(Protocol):
    """A peer that can be asked in between."""

    version: str

    def more(self, clock: Clock) -> None:
        """Learn for an epoch, or until the time is over."""

    def tell(self, histories: PeerHistories) -> None:
        """Rank for these users from now on, given their histories where the model takes any."""

    def state(self) -> Any: ...

    def restore(self, state: Any) -> None: ...

    def top_items(self, count: int) -> np.ndarray:
        """(judged user, count) int64, best first, -1 where there are fewer."""


Fit = Callable[[Any, PeerHistories], Callable[[int], np.ndarray]]
"""Settings and histories to what ranks: a count to (judged user, count)."""


def learn(build: Callable[[Job, PeerHistories], Learner], job: Job) -> dict[str, Any]:
    """Train with an eye on what was kept out, write the lists of all judged users, and tell how it went."""
    clock, whole, choosing = Clock(job.seconds), *_histories(job)
    trial = build(replace(job, folder=str(Path(job.folder) / CHOOSING)), choosing)
    epochs, best, kept, since, seconds = 0, -1.0, None, 0, 0.0
    best_epochs, next_look = 0, 1
    started = clock.used
    while not clock.is_over and (since < PATIENCE or clock.share < TRIAL_SHARE):
        before = clock.used
        trial.more(clock)
        seconds += clock.used - before
        epochs += 1
        if epochs < next_look and not clock.is_over:
            continue
        next_look = epochs + max(1, epochs // PATIENCE)
        found = gain(trial.top_items(job.top_k), choosing)
        if found > best:
            best, best_epochs, kept, since = found, epochs, trial.state(), 0
        else:
            since += 1
    needed = best_epochs * seconds / epochs
    again = clock.used + needed <= job.seconds
    if again:
        learner = build(job, whole)
        for _ in range(best_epochs):
            learner.more(clock)
    else:
        learner = trial
        learner.restore(kept)
        learner.tell(whole)
    used = clock.used
    _write(job, learner.top_items(job.top_k + SPARE))
    told = {"epochs": best_epochs, "looked_at_epochs": epochs, "learnt_again": again, "chosen_by": best}
    return {"version": learner.version, "seconds": used, "before": started, **told}


def choose(fit: Fit, settings: Sequence[Any], job: Job, version: str) -> dict[str, Any]:
    """The same for methods without epochs: the best of the settings that half of the time lets one try."""
    clock, whole, choosing = Clock(job.seconds), *_histories(job)
    started, best, chosen, tried = clock.used, -1.0, settings[0], 0
    for candidate in settings:
        if clock.share > 0.5:
            break
        found = gain(fit(candidate, choosing)(job.top_k), choosing)
        tried += 1
        if found > best:
            best, chosen = found, candidate
    rank = fit(chosen, whole)
    used = clock.used
    _write(job, rank(job.top_k + SPARE))
    told = {"tried": tried, "chosen_by": best, "settings": chosen}
    return {"version": version, "seconds": used, "before": started, **told}


def grid(seed: int, **values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every combination, in an order drawn by the seed after the first one, which is the library's default."""
    first, *others = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
    random.Random(seed).shuffle(others)
    yield first
    yield from others


def gain(items: np.ndarray, histories: PeerHistories) -> float:
    """The mean NDCG of lists (judged user, count), best first, without what is in the users' histories."""
    places = [
        np.flatnonzero(line[~np.isin(line, seen)] == target)
        for line, seen, target in zip(items, histories.of_judged(), histories.targets, strict=True)
    ]
    return float(np.mean([1 / np.log2(found[0] + 2) if len(found) else 0.0 for found in places]))


def _histories(job: Job) -> tuple[PeerHistories, PeerHistories]:
    folder = Path(job.folder)
    return PeerHistories.read(folder), PeerHistories.read(folder / CHOOSING)


def _write(job: Job, items: np.ndarray) -> None:
    np.save(Path(job.folder) / TOP_ITEMS_FILE, items)
