"""One line of what `kit doctor` found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A `remedy` is given where something stands in the way."""

    subject: str
    found: str
    remedy: str = ""
