"""What an hour costs: a table with a date, which a file of one's own can replace."""

import csv
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError, KitError
from common.machine.environment import ROOT

TABLE = ROOT / "benchmarks" / "prices.csv"
OLD_AFTER_DAYS = 120  # AWS changed GPU prices twice in the two years before the table


COLUMNS = ("instance", "gpu", "num_gpus", "vcpus", "usd_per_hour_on_demand", "region", "date")
"""Those that every table has; the kit's own also has each GPU's memory and where a price was read."""


class PricesError(DataError):
    """A table of prices that says too little to be believed."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """An instance and its hour on demand, in US dollars.

    num_gpus: 0 where it has a part of one. gpu_memory_gb: of one GPU, None where it has a part or the table is silent.
    line: of the table, counted from 1.
    """

    instance: str
    gpu: str
    num_gpus: int
    gpu_memory_gb: float | None
    vcpus: int
    usd_per_hour: float
    region: str
    date: datetime.date
    source: str
    line: int


@dataclass(frozen=True)
class PriceTable:
    """Prices by instance, and the file that states them."""

    path: Path
    prices: dict[str, Price]

    @property
    def date(self) -> datetime.date:
        """The day of its oldest price."""
        return min(price.date for price in self.prices.values())

    def of(self, instance: str) -> Price:
        """Raises KitError for an instance that the table lacks: without a price there is no cap."""
        if instance not in self.prices:
            raise KitError(
                f"The price of {instance} is not known.",
                f"{self.path} has: {', '.join(self.prices)}.",
                "Choose one of these, or pass --prices FILE with a line for it.",
            )
        return self.prices[instance]

    def warning(self, today: datetime.date) -> str:
        """What to know of a table that is old; empty where it is not."""
        age = (today - self.date).days
        if age <= OLD_AFTER_DAYS:
            return ""
        return (
            f"These prices are {age} days old (more than {OLD_AFTER_DAYS}): compare with aws.amazon.com/ec2/pricing, "
            "and pass --prices FILE where they changed."
        )


def read_prices(path: Path | None = None, also: Sequence[str] = ()) -> PriceTable:
    """The kit's table, or one with the same columns; raises PricesError for one that cannot be read as such.

    also: further columns that it must have.
    """
    path = path or TABLE
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in (*COLUMNS, *also) if name not in (reader.fieldnames or ())]
            if missing:
                raise _unreadable(path, f"it has no column {', '.join(missing)}")
            found = [_price(path, line, row) for line, row in enumerate(reader, start=2)]
    except OSError as error:
        raise PricesError(
            f"{path} cannot be read: {error.strerror}.", "It is a CSV table with a header line."
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, str(error)) from error
    if not found:
        raise _unreadable(path, "it has no row")
    return PriceTable(path, {price.instance: price for price in found})


def _price(path: Path, line: int, row: dict[str, str]) -> Price:
    if not (row["date"] or "").strip():
        raise _unreadable(path, f"line {line} has no date")
    try:
        usd = float(row["usd_per_hour_on_demand"])
        if not 0 < usd < float("inf"):
            raise ValueError(f"{row['instance']} costs {usd}")
        return Price(
            instance=row["instance"],
            gpu=row["gpu"],
            num_gpus=int(row["num_gpus"] or 0),
            gpu_memory_gb=float(row["gpu_memory_gb"]) if row.get("gpu_memory_gb") else None,
            vcpus=int(row["vcpus"]),
            usd_per_hour=usd,
            region=row["region"],
            date=datetime.date.fromisoformat(row["date"]),
            source=(row.get("source") or "").strip(),
            line=line,
        )
    except (ValueError, TypeError) as error:
        raise _unreadable(path, f"line {line}: {error}") from error


def _unreadable(path: Path, reason: str) -> PricesError:
    return PricesError(
        f"{path} is no table of prices: {reason}.",
        f"Its columns are {','.join(COLUMNS)}; a price counts on a day, written as 2026-07-20.",
        f"Mend the file, or begin with a copy of {TABLE.name} of the benchmarks.",
    )
