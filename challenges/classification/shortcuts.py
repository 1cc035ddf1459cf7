"""Classes that are told by how their pictures were saved: a network learns that instead of what they show.

It comes about where each class was gathered from a source of its own, as in many a public collection of X-rays: some
are JPEG in colour, all others gray PNG of one size. Validation pictures from the same sources do not reveal it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from challenges.classification.manifest import Manifest
from common.language.telling import english
from common.vision.image_folders import displayed
from common.vision.images import ImageFacts

FEWEST = 20  # pictures of a class, and of all others, below which nothing is said
LEAST = 0.8  # between the shares of a class and of all others that are taken for the class
ASPECTS = {
    "format": english("the format of its files"),
    "mode": english("the colour mode of its files"),
    "size": english("the size of its pictures in pixels"),
}


@dataclass(frozen=True)
class Shortcut:
    """An aspect of files that alone tells a class.

    inside, outside: shares of its pictures and of all others that are taken for it by the aspect alone, each picture
    by what the other half of the pictures showed. commonest: value in the class.
    """

    name: str
    aspect: str
    inside: float
    outside: float
    commonest: str


def find_shortcuts(manifest: Manifest, facts: Sequence[ImageFacts]) -> list[dict[str, Any]]:
    """The strongest aspect of each class that is told by one, in plain values; the first of two classes does for both.

    facts: of the manifest's pictures, in its order.
    """
    told = {
        "format": [fact.format for fact in facts],
        "mode": [fact.mode for fact in facts],
        "size": [f"{fact.width} x {fact.height}" for fact in facts],
    }
    halves = np.random.default_rng(0).permutation(len(facts)) % 2
    found = []
    for label, name in enumerate(manifest.classes[:1] if len(manifest.classes) == 2 else manifest.classes):
        inside = manifest.labels == label
        if min(inside.sum(), (~inside).sum()) >= FEWEST:
            best = max(
                (_told_by(aspect, np.array(values), inside, halves, name) for aspect, values in told.items()),
                key=lambda one: one.inside - one.outside,
            )
            found += [asdict(best)] if best.inside - best.outside >= LEAST else []
    return found


def shortcut_warnings(found: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for every class of `find_shortcuts`."""
    return [
        english(
            "A shortcut: {aspect} (mostly {commonest:s}) alone tells {name:s} from all else, {inside:.0%} of its "
            "pictures and {outside:.0%} of all others would be taken for it. A network may learn that instead of what "
            "is shown: take pictures of every class from the same sources; saving all alike hides only a part of it.",
            **one | {"name": displayed(one["name"]), "aspect": ASPECTS[one["aspect"]]},
        )
        for one in found
    ]


def _told_by(aspect: str, values: np.ndarray, inside: np.ndarray, halves: np.ndarray, name: str) -> Shortcut:
    """How well the values of one aspect tell the pictures `inside` a class."""
    kinds, codes = np.unique(values, return_inverse=True)

    def shares(rows: np.ndarray) -> np.ndarray:
        return np.bincount(codes[rows], minlength=len(kinds)) / np.float64(max(1, rows.sum()))

    taken = np.zeros(len(values), bool)
    for half in (0, 1):
        speaks_for_it = shares(inside & (halves != half)) > shares(~inside & (halves != half))
        taken |= (halves == half) & speaks_for_it[codes]
    return Shortcut(
        name, aspect, float(taken[inside].mean()), float(taken[~inside].mean()), str(kinds[shares(inside).argmax()])
    )
