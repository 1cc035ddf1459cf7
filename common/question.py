"""What a person asks a model, of a run or of a server, and whether that model answers to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import KitError


@dataclass(frozen=True)
class Question:
    """What `kit predict` or `kit client` was asked; a model takes some of it.

    inputs:    files and folders of the user's.
    history:   items by identifier or title, oldest first.
    user:      a user of the training data, by identifier.
    threshold: lowest score to show; None for the challenge's own.
    top_k:     how many of the best classes to show; None for the challenge's own.
    """

    inputs: tuple[Path, ...] = ()
    history: tuple[str, ...] = ()
    user: str | None = None
    threshold: float | None = None
    top_k: int | None = None


WAYS = {
    "inputs": "files",
    "history": "--history ITEM ...",
    "user": "--user USER",
    "threshold": "--threshold SCORE",
    "top_k": "--top-k COUNT",
}
"""The fields of a Question, as the command line is told them."""


def require_answerable(model: str, question: Question, takes: Sequence[str], verb: str) -> None:
    """Raise KitError where a model is asked with what it does not take, or without the first of what it takes."""
    given = [way for way in WAYS if getattr(question, way) not in ((), None, "")]
    if takes[0] not in given or set(given) - set(takes):
        told = ", ".join(WAYS[way] for way in given) or "nothing"
        allowed = ", ".join(WAYS[way] for way in takes)
        raise KitError(f"{model} was asked with {told}.", f"It answers to {allowed}.", f"See kit {verb} --help.")
