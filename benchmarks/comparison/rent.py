"""What to rent for a goal: hours and dollars on each instance, predicted from records and nothing else.

An instance computes as its GPU does in a record, and prepares data as its cores do: end to end it is the slower of the
two, times what records say of their overlap. Where no record supports a figure there is none, and no GPU stands in for
one of another generation.
"""

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmarks.measure import Estimate, Ratio
from benchmarks.record import Record, is_ranked
from common.errors import KitError
from common.machine.prices import Price

GOAL = re.compile(
    r"\s*(?P<model>[\w/-]+)\s+(?P<epochs>[\d.]+)\s*epochs?(?:\s+of\s+(?P<samples>[\d,_]+)\s*\w*)?\s*", re.IGNORECASE
)
MEMORY = (0.85, 1.15)  # of the table's gigabytes, which count 2**30 or 1e9 bytes


class Range(NamedTuple):
    """A figure with the interval of the records that it rests on."""

    low: float
    likely: float
    high: float

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.likely * factor, self.high * factor)


@dataclass(frozen=True)
class Goal:
    """So many epochs of one model; samples: of an epoch, None: as many as its records had."""

    model: str
    epochs: float
    samples: int | None = None

    def __str__(self) -> str:
        return f"{self.model} {self.epochs:g} epochs" + (f" of {self.samples:,}" if self.samples else "")


@dataclass(frozen=True)
class Prediction:
    """A goal on one instance; a missing figure has its reason.

    rate: samples per second end to end; records: whose figures it rests on; limit: data or compute.
    """

    price: Price
    rate: Range | None
    hours: Range | None
    dollars: Range | None
    limit: str
    records: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Left:
    """A record, predicted from the others alone."""

    record: Record
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the measured figure; positive: too much was promised."""
        return self.predicted / self.measured - 1


def parse_goal(text: str) -> Goal:
    """`resnet50 90 epochs`, `resnet50 10 epochs of 50,000 images`. Raises KitError."""
    found = GOAL.fullmatch(text)
    try:
        if found is None or not (epochs := float(found["epochs"])) > 0:
            raise ValueError
    except ValueError:
        raise KitError(
            f"GOAL is {text!r}.",
            "It is a model, a number of epochs, and how many samples an epoch has where records do not say so.",
            "Write it as 'resnet50 90 epochs' or 'resnet50 10 epochs of 50000 images'.",
        ) from None
    samples = found["samples"]
    return Goal(found["model"], epochs, int(re.sub("[,_]", "", samples)) if samples else None)


def predict(goal: Goal, records: Sequence[Record], prices: Iterable[Price]) -> list[Prediction]:
    """One prediction per instance, those with figures first, cheapest first.

    Raises KitError where no valid record is of the goal's model.
    """
    fitting = [record for record in records if _supports(record, goal.model)]
    if not fitting:
        known = sorted({record.workload.model.partition("/")[0] for record in records if _measured(record)})
        raise KitError(
            f"No valid training record is of {goal.model}.",
            f"Records are of {', '.join(known) or 'nothing yet'}.",
            f"Measure it first: make benchmark MODEL={goal.model.partition('/')[0]}",
        )
    sizes = [record.details["training_samples"] for record in fitting if "training_samples" in record.details]
    samples = goal.samples or (round(sizes[-1]) if sizes else None)
    if samples is None:
        raise KitError(
            f"GOAL is '{goal}', and its records do not say how many samples an epoch has.",
            f"Write it as '{goal} of 50000'.",
        )
    found = [_on(price, goal, samples, fitting) for price in prices]
    return sorted(found, key=lambda one: (one.dollars is None, one.dollars.likely if one.dollars else 0.0))


def leave_one_out(records: Sequence[Record]) -> list[Left]:
    """Each record with all three parts, predicted from the others of its model: how far predictions may be trusted."""
    found = []
    parted = [record for record in records if _measured(record) and record.split is not None]
    for record in parted:
        others = [other for other in parted if other.id != record.id and _alike(other, record)]
        same = [other for other in others if _worker(other) == _worker(record)]
        if not same:
            continue
        data = median(_median(other, "data_only") / _cores(other) for other in others) * _cores(record)
        compute = median(_median(other, "compute_only") / _computing(other) for other in same) * _computing(record)
        overlap = median(_overlap(other).likely for other in same)
        found.append(Left(record, min(data, compute) * overlap, _median(record, "end_to_end")))
    return found


def is_gpu(price: Price, name: str, memory_gb: float | None) -> bool:
    """Whether the driver's name and memory are those of the table's GPU: an A10G is no A10, 40 GB are not 80."""
    wanted = re.sub(r"-\d+GB$", "", price.gpu).lower().split()
    words = re.split(r"[\s-]+", name.lower())
    places = range(len(words) - len(wanted) + 1)
    if not any(words[place : place + len(wanted)] == wanted for place in places):
        return False
    if memory_gb is None or price.gpu_memory_gb is None:
        return True
    return MEMORY[0] <= memory_gb / price.gpu_memory_gb <= MEMORY[1]


def _on(price: Price, goal: Goal, samples: int, records: Sequence[Record]) -> Prediction:
    def unknown(reason: str) -> Prediction:
        return Prediction(price, None, None, None, "", reason=reason)

    if price.num_gpus < 1:
        return unknown("a part of a GPU is not predicted from a whole one")
    of_gpu = [record for record in records if _is_of(record, price)]
    if not of_gpu:
        return unknown(f"not measured on {price.gpu}")
    computing = [record for record in of_gpu if record.evidence.ranks.size == price.num_gpus]
    if not computing:
        return unknown(f"not measured on {price.num_gpus} × {price.gpu}")
    best = max(computing, key=lambda record: _median(record, "compute_only"))
    preparing = [record for record in records if record.split is not None]
    if not preparing:
        return unknown("no record tells how fast data is prepared")
    near = [record for record in preparing if _is_of(record, price)] or preparing
    data = _range_of(near[-1].measurements["data_only"].samples_per_s).times(price.vcpus / _cores(near[-1]))
    compute = _range_of(best.measurements["compute_only"].samples_per_s)
    overlap = _overlap(best if best.split is not None else near[-1])
    rate = Range(*(min(d, c) * o for d, c, o in zip(data, compute, overlap, strict=True)))
    hours = Range(*(goal.epochs * samples / each / 3600 for each in reversed(rate)))
    return Prediction(
        price,
        rate=rate,
        hours=hours,
        dollars=hours.times(price.usd_per_hour),
        limit="data" if data.likely < compute.likely else "compute",
        records=tuple(dict.fromkeys((best.id, near[-1].id))),
    )


def _measured(record: Record) -> bool:
    return record.kind == "train" and is_ranked(record) and "compute_only" in record.measurements


def _supports(record: Record, model: str) -> bool:
    return _measured(record) and model in (record.workload.model, record.workload.model.partition("/")[0])


def _is_of(record: Record, price: Price) -> bool:
    gpus = record.evidence.worker.gpus
    return bool(gpus) and all(is_gpu(price, gpu.name, gpu.memory_gb) for gpu in gpus)


def _alike(one: Record, other: Record) -> bool:
    fields = operator.attrgetter("model", "precision", "compile", "input_shape")
    return bool(fields(one.workload) == fields(other.workload))


def _worker(record: Record) -> tuple[object, ...]:
    gpus = record.evidence.worker.gpus
    return (*(gpu.name for gpu in gpus), "" if gpus else record.system["cpu"]["model"], record.evidence.ranks.size)


def _cores(record: Record) -> int:
    """Those that prepared data."""
    probe = record.evidence.probe
    cores: int = probe.cores if probe is not None else record.workload.workers or record.system["cpu"]["cores"]
    return cores


def _computing(record: Record) -> int:
    """What shares the computing out: the cores where there is no GPU, which is one whatever its size."""
    return 1 if record.evidence.worker.gpus else _cores(record)


def _median(record: Record, part: str) -> float:
    return record.measurements[part].samples_per_s.median


def _overlap(record: Record) -> Range:
    assert record.split is not None
    return _range_of(record.split.overlap_efficiency)


def _range_of(found: Estimate | Ratio) -> Range:
    return Range(found.interval[0], found.median, found.interval[1])
