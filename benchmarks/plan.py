"""What `kit benchmark` measures, and how its minutes are shared out: known before the first second."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.published import Protocol, Row
from challenges.registry import MODELS, find_model
from common.errors import KitError

What = Literal["train", "precision", "batch", "ranks", "engines", "served", "forward"]
LEAST = {
    "train": 55.0, "precision": 30.0, "batch": 20.0, "ranks": 75.0, "engines": 35.0, "served": 75.0, "forward": 18.0,
}  # fmt: skip
"""Seconds below which a record would be TOO_SHORT or could not show a drift."""
SMOKE_LEAST = {
    "train": 6.0,
    "precision": 3.0,
    "batch": 3.0,
    "ranks": 20.0,
    "engines": 3.0,
    "served": 25.0,
    "forward": 2.0,
}
WORTH = {"train": 4.0, "precision": 1.0, "batch": 1.0, "ranks": 2.0, "engines": 1.0, "served": 1.0, "forward": 2.0}
"""How the time beyond the least is shared out: a training's three parts are what everything else is read with."""
PROBE_SECONDS, SMOKE_PROBE_SECONDS = 25.0, 3.0
OPEN_SECONDS, SMOKE_OPEN_SECONDS = 20.0, 10.0  # a model's data is checked and its step counted
LONGEST_MINUTES = 24 * 60


@dataclass(frozen=True)
class Item:
    """One measurement; ranks: processes that share it."""

    model: str
    what: What
    ranks: int = 1

    def __str__(self) -> str:
        return f"{self.model} {self.what}" + (f" ×{self.ranks}" if self.ranks > 1 else "")


@dataclass(frozen=True)
class Plan:
    """Items in their order.

    seconds: of everything. like: the published row whose protocol is followed, and that protocol.
    """

    items: tuple[Item, ...]
    seconds: float
    quick: bool
    like: tuple[Row, Protocol] | None = None

    def overhead(self, items: Sequence[Item]) -> float:
        """Seconds that these items take beside measuring."""
        return len({item.model for item in items}) * (SMOKE_OPEN_SECONDS if self.quick else OPEN_SECONDS)

    def least(self, items: Sequence[Item]) -> float:
        """Seconds below which these items say nothing, the probe included."""
        each = SMOKE_LEAST if self.quick else LEAST
        probe = SMOKE_PROBE_SECONDS if self.quick else PROBE_SECONDS
        return probe + self.overhead(items) + sum(each[item.what] for item in items)

    def share(self, item: Item, left: Sequence[Item], remaining: float) -> float:
        """Seconds of `item`, the first of those left: its least, and of the rest of the time what it is worth.

        What earlier items did not use, since they were steady before, is among the remaining seconds.
        """
        each = SMOKE_LEAST if self.quick else LEAST
        if self.quick:
            return each[item.what]
        spare = max(0.0, remaining - self.overhead(left) - sum(each[other.what] for other in left))
        return each[item.what] + spare * WORTH[item.what] / sum(WORTH[other.what] for other in left)

    def lines(self) -> list[str]:
        """The plan for people: what is measured, and how long that takes."""
        told = [f"plan: {len(self.items)} measurements in {self.seconds / 60:.3g} minutes at most"]
        if self.like is not None:
            row, protocol = self.like
            layout = "NHWC" if protocol.channels_last else "NCHW"
            inputs = "made-up inputs" if protocol.synthetic else "data"
            told.append(f"as {row.identifier}: {protocol.task}, {protocol.precision}, {layout}, {inputs}")
        for model in dict.fromkeys(item.model for item in self.items):
            told.append(f"  {model}: {', '.join(str(i).partition(' ')[2] for i in self.items if i.model == model)}")
        return told


def plan_of(
    models: Sequence[str],
    ranks: Sequence[int],
    minutes: float,
    *,
    quick: bool,
    on_gpu: bool,
    exported: Sequence[str] = (),
    served: Sequence[str] = (),
    like: tuple[Row, Protocol] | None = None,
) -> Plan:
    """Every measurement of these models in `minutes`; what has no time beside a training is left out of a long list.

    exported: models that have an export to answer with; served: those of them that a server here can have.
    Raises KitError where the minutes do not suffice even for the trainings.
    """
    if not 0 < minutes <= LONGEST_MINUTES:
        raise KitError(f"MINUTES is {minutes:g}.", "It is above 0, and a day at most.", "15 will do for all models.")
    for model in models:
        find_model(model)
    names = list(dict.fromkeys(models))
    if like is not None:
        model = like[1].recipe.partition("/")[0]
        many = max(ranks)
        what: What = "forward" if like[1].task == "infer" else "train"
        wanted: list[list[Item]] = [[Item(model, what if many == 1 else "ranks", many)]]
        names = [model]
    else:
        wanted = [[Item(model, "train") for model in names]]
        wanted += [[Item(model, "ranks", count) for model in names] for count in sorted(set(ranks)) if count > 1]
        wanted.append([Item(model, "engines") for model in names if model in exported])
        wanted.append([Item(model, "precision") for model in names])
        wanted.append([Item(model, "served") for model in names if model in served])
        if on_gpu:
            wanted.append([Item(model, "batch") for model in names])
    seconds, chosen = 60 * minutes, list[Item]()
    empty = Plan((), seconds, quick)
    asked_for = sum(1 for count in set(ranks) if count > 1)
    for position, tier in enumerate(wanted):
        if empty.least([*chosen, *tier]) <= seconds:
            chosen += tier
        elif position <= asked_for:
            raise _too_few(empty, [item for one in wanted[: asked_for + 1] for item in one], minutes)
    ordered = tuple(sorted(chosen, key=lambda item: names.index(item.model)))
    return Plan(ordered, seconds, quick, like)


def rank_counts(text: str | None, available: int) -> tuple[int, ...]:
    """`1,2,4` as numbers; 1, 2, 4 and so on up to all GPUs where nothing is given.

    available: GPUs, or the cores of a machine without one.
    Raises KitError where a count is none or more than there are.
    """
    if text is None or not text.strip():
        return tuple(count for count in (2**power for power in range(8)) if count <= available)
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1 or max(counts) > available:
        raise KitError(
            f"GPUS is {text!r}.",
            f"It is numbers of 1 to {available}, separated by commas: that many are here.",
            f"GPUS={','.join(str(count) for count in (1, 2, 4, 8) if count <= available)}",
        )
    return tuple(sorted({1, *counts}))


def require_file(given: Path | None) -> None:
    """Raises KitError where data was named and is not there."""
    if given is not None and not given.exists():
        near = difflib.get_close_matches(given.name, [path.name for path in given.parent.glob("*")], n=1)
        raise KitError(
            f"{given} does not exist.", "Data is a folder or a file.", f"Did you mean {near[0]}?" if near else ""
        )


def _too_few(plan: Plan, needed: Sequence[Item], minutes: float) -> KitError:
    by_length = sorted(MODELS, key=lambda model: sum(item.model == model for item in needed))
    fitting: list[str] = []
    for model in (model for model in by_length if any(item.model == model for item in needed)):
        if plan.least([item for item in needed if item.model in (*fitting, model)]) <= plan.seconds:
            fitting.append(model)
    remedy = f"MODEL={fitting[0]} fits" if len(fitting) == 1 else f"{len(fitting)} models fit: {' '.join(fitting)}"
    return KitError(
        f"MINUTES is {minutes:g}, and the plan needs {plan.least(needed) / 60:.1f}: {len(needed)} measurements.",
        "Below that a record would be too short to be believed.",
        f"{remedy}; or QUICK=1 shows that everything works." if fitting else "Give more minutes, or QUICK=1.",
    )
