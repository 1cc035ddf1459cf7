"""A run's log points, split by kind and ready to plot."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Record = dict[str, Any]
COORDINATES = {"kind", "step", "epoch", "seconds"}
FOREMOST = 3  # metrics that are shown unfolded; one more is not worth folding


@dataclass(frozen=True)
class History:
    """The log points of a run in order of their steps, each step once."""

    train: list[Record]
    validation: list[Record]

    @classmethod
    def of(cls, records: Iterable[Record]) -> "History":
        """Split what `RunDirectory.metrics` returns."""
        points = list(records)
        return cls(*([point for point in points if point["kind"] == kind] for kind in ("train", "validation")))

    @property
    def last(self) -> Record | None:
        """The newest log point of either kind."""
        ends = [records[-1] for records in (self.train, self.validation) if records]
        return max(ends, key=lambda record: record["step"], default=None)

    def validation_metrics(self) -> list[str]:
        """Names of everything an evaluation has reported, in the order of the latest record."""
        names = dict.fromkeys(name for record in reversed(self.validation) for name in record)
        return [name for name in names if name not in COORDINATES]

    def data_wait(self) -> float | None:
        """Share of the training time spent waiting for data, None where it was not measured."""
        rate, wait = column(self.train, "samples_per_s"), column(self.train, "data_wait")
        steps = np.diff(column(self.train, "step"), prepend=0.0)
        usable = np.isfinite(wait) & np.isfinite(rate) & (rate > 0)
        if not usable.any():
            return None
        return float(np.average(wait[usable], weights=steps[usable] / rate[usable]))

    def samples_per_s(self) -> float | None:
        """Samples per second of training time over the whole run, None where it was not measured."""
        rate = column(self.train, "samples_per_s")
        steps = np.diff(column(self.train, "step"), prepend=0.0)
        usable = np.isfinite(rate) & (rate > 0)
        return float(steps[usable].sum() / (steps[usable] / rate[usable]).sum()) if usable.any() else None


def foremost(names: Iterable[str], first: str | None) -> list[str]:
    """The few of kind@cutoff/protocol to show: `first`, what shares its cutoff and protocol, then its protocol."""
    beside = (first or "").partition("@")[2]

    def distance(name: str) -> tuple[bool, bool, bool]:
        own = name.partition("@")[2]
        return name != first, own != beside, own.partition("/")[2] != beside.partition("/")[2]

    ordered = sorted(names, key=distance)
    return ordered if len(ordered) == FOREMOST + 1 else ordered[:FOREMOST]


def column(records: list[Record], name: str) -> np.ndarray:
    """One value per record as float64, NaN where it is missing or null."""
    return np.array([record.get(name) for record in records], dtype=np.float64)
