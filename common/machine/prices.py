"""What an hour costs: a table with a date, which a file of one's own can replace."""

import csv
import datetime
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError, KitError
from common.machine.environment import ROOT

TABLE = ROOT / "benchmarks" / "prices.csv"
OLD_AFTER_DAYS = 120  # AWS changed GPU prices twice in the two years before the table


@dataclass(frozen=True)
class Price:
    """An instance and its hour on demand, in US dollars."""

    instance: str
    gpu: str
    num_gpus: int
    vcpus: int
    usd_per_hour: float
    region: str
    date: datetime.date


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


def read_prices(path: Path | None = None) -> PriceTable:
    """The kit's table, or one with the same columns; raises DataError for one that cannot be read as such."""
    path = path or TABLE
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            found = {row["instance"]: _price(row) for row in csv.DictReader(stream)}
    except (KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, repr(error)) from error
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    if not found:
        raise _unreadable(path, "it has no row")
    return PriceTable(path, found)


def _price(row: dict[str, str]) -> Price:
    usd = float(row["usd_per_hour_on_demand"])
    if not 0 < usd < float("inf"):
        raise ValueError(f"{row['instance']} costs {usd}")
    date = datetime.date.fromisoformat(row["date"])
    return Price(
        row["instance"], row["gpu"], int(row["num_gpus"] or 0), int(row["vcpus"]), usd, row["region"], date
    )  # fmt: skip


def _unreadable(path: Path, reason: str) -> DataError:
    columns = "instance,gpu,num_gpus,vcpus,usd_per_hour_on_demand,region,date"
    return DataError(f"{path} is no table of prices: {reason}.", f"Its columns are {columns}.", "Mend the file.")
