"""Pictures with 16 bits per channel: how much of the range they use, which decides what is left after scaling to 8."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.language.telling import english
from common.text import printable

if TYPE_CHECKING:
    from common.vision.images import ImageFacts

NARROW = 1 << 14  # of 65,536 values: what a 14-bit camera writes, a quarter of the brightness after scaling
RARE = 10  # narrow pictures are warned of where they are at least one in so many of the 16-bit ones


@dataclass(frozen=True)
class SampleRange:
    """smallest, largest: stored samples, 0 to 65,535. brightness: mean after scaling, 0 to 255."""

    smallest: int
    largest: int
    brightness: float

    @property
    def is_narrow(self) -> bool:
        return self.largest - self.smallest < NARROW


def narrow_warnings(root: Path, facts: Iterable["ImageFacts"]) -> list[str]:
    """A sentence about pictures that use a small part of their 16 bits, unless those are rare or differ among them."""
    deep = [fact for fact in facts if fact.samples is not None]
    found = [(fact, fact.samples) for fact in deep if fact.samples is not None and fact.samples.is_narrow]
    if RARE * len(found) < max(len(deep), 1):
        return []
    smallest = min(samples.smallest for _, samples in found)
    largest = max(samples.largest for _, samples in found)
    if largest - smallest >= NARROW:
        return []
    brightness = round(float(np.mean([samples.brightness for _, samples in found])))
    dark = largest < NARROW
    factor = (1 << 16) // (1 << largest.bit_length())
    remedy = (
        english("multiply all by {factor}, or save them as 8-bit", factor=factor)
        if dark
        else english("save them as 8-bit, with one range for all")
    )
    return [
        english(
            "{found:,} of {deep:,} 16-bit pictures use only values of {smallest:,} to {largest:,} of "
            "65,535, such as {path}: scaled to 8 bits they are {look} (mean of {brightness} of "
            "255). Before training, {remedy}.",
            found=len(found),
            deep=len(deep),
            smallest=smallest,
            largest=largest,
            path=printable(found[0][0].path.relative_to(root).as_posix()),
            look=english("nearly black") if dark else english("nearly one grey"),
            brightness=brightness,
            remedy=remedy,
        )
    ]
