"""What a million samples cost: the launcher's table of prices, of which a comparison also asks for sources."""

from collections.abc import Sequence
from pathlib import Path

from common.machine.prices import TABLE, Price, PricesError, read_prices

PRICES = TABLE
ALSO = ("gpu_memory_gb", "source")


def read(path: Path) -> list[Price]:
    """The table's rows. Raises PricesError as `read_prices` does, and where a row has no source."""
    found = list(read_prices(path, also=ALSO).prices.values())
    for price in found:
        if not price.source:
            raise PricesError(
                f"{path}: line {price.line} has no source.",
                "A price that is compared by has a source.",
                "Add where it was read, in a column called source.",
            )
    return found


def price_of(instance: str, prices: Sequence[Price]) -> Price | None:
    """The price of the instance of exactly this name; None where the table has none."""
    return next((price for price in prices if price.instance == instance), None)


def dollars_per_million(usd_per_hour: float, samples_per_s: float) -> float:
    """Of samples at this rate."""
    return usd_per_hour / 3600 * 1e6 / samples_per_s
