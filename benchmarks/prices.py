"""What an instance costs, from a dated table: benchmarks/prices.csv, or one of the same columns that a user brings."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import KitError

PRICES = Path(__file__).with_name("prices.csv")
COLUMNS = (
    "instance",
    "gpu",
    "num_gpus",
    "gpu_memory_gb",
    "vcpus",
    "usd_per_hour_on_demand",
    "region",
    "date",
    "source",
)


class PricesError(KitError):
    """A table of prices that says too little to be believed."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """One instance on demand; num_gpus: 0 where it has a part of one; gpu_memory_gb: of one GPU, null for a part."""

    instance: str
    gpu: str
    num_gpus: int
    gpu_memory_gb: float | None
    vcpus: int
    usd_per_hour: float
    region: str
    date: str
    source: str


def read(path: Path) -> list[Price]:
    """Raises PricesError where a column or a row's date or source is missing, or a figure is none."""
    try:
        with path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            lines = list(reader)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PricesError(f"{path} cannot be read: {error}.", "A CSV table with a header line is read.") from None
    if missing:
        raise PricesError(
            f"{path} has no column {', '.join(missing)}.",
            f"Prices are a CSV table of {', '.join(COLUMNS)}.",
            f"Begin with a copy of {PRICES.name} of the benchmarks.",
        )
    return [_price(path, number, line) for number, line in enumerate(lines, start=2)]


def price_of(instance: str, prices: Sequence[Price]) -> Price | None:
    """The price of the instance of exactly this name; None where the table has none."""
    return next((price for price in prices if price.instance == instance), None)


def dollars_per_million(usd_per_hour: float, samples_per_s: float) -> float:
    """Of samples at this rate."""
    return usd_per_hour / 3600 * 1e6 / samples_per_s


def _price(path: Path, number: int, line: dict[str, str]) -> Price:
    for name in ("date", "source"):
        if not (line[name] or "").strip():
            raise PricesError(
                f"{path}: line {number} has no {name}.",
                "A price counts on a day and has a source.",
                "Add it, as 2026-07-20, and where the price was read.",
            )
    try:
        return Price(
            instance=line["instance"],
            gpu=line["gpu"],
            num_gpus=int(line["num_gpus"]),
            gpu_memory_gb=float(line["gpu_memory_gb"]) if line["gpu_memory_gb"] else None,
            vcpus=int(line["vcpus"]),
            usd_per_hour=float(line["usd_per_hour_on_demand"]),
            region=line["region"],
            date=line["date"],
            source=line["source"],
        )
    except (TypeError, ValueError) as error:
        raise PricesError(f"{path}: line {number}: {error}.", "GPUs, cores and dollars are numbers.") from None
