"""What `kit client` and `kit load` ask a served model, and how its answer is shown."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from challenges.recommendation.histories.answers import recommendation_table
from challenges.registry import MODELS
from common.errors import KitError
from common.serving.client import Client, padded, recommended
from common.serving.problems import InvalidRequestError, UnknownModelError
from common.slug import model_slug
from common.terminal.console import plain, say

if TYPE_CHECKING:
    from common.export.runner import Arrays

SIDES = ("left", "top", "right", "bottom")  # of a box, in pixels
WAYS = {"images": "image files", "user": "--user USER", "history": "--history ITEM ..."}
ANSWERS_TO = {"encoded": ("images",), "user": ("user", "history"), "history": ("history",)}
"""A served model's first input -> what it may be asked with; the first is needed."""
RUNS = Path("runs")  # where two runs of one model are served, each has the name of its folder


def show(connection: Client, options: argparse.Namespace, console: Console) -> None:
    """Ask the model and print its answer.

    Raises KitError where it is asked with what it does not take, UnknownModelError with the models that there are.
    """
    if _require_answerable(connection, options) != "encoded":
        _show_recommended(connection, options, console)
    elif connection.is_detector(options.model):
        _show_found(connection, options, console)
    else:
        _show_classes(connection, options, console)


def batches(connection: Client, options: argparse.Namespace) -> "list[Arrays]":
    """What to send again and again: one image each, or the history or user. Raises as `show` does."""
    if _require_answerable(connection, options) != "encoded":
        return [_named(options)]
    encoded = []
    for image in options.images:
        try:
            encoded.append(Path(image).read_bytes())
        except OSError as error:
            raise InvalidRequestError(f"{image} cannot be read: {error.strerror}.") from None
    return [{"encoded": padded([data])} for data in encoded]


def _require_answerable(connection: Client, options: argparse.Namespace) -> str:
    """The model's first input; KitError where the question does not fit it."""
    first = _first_input(connection, options.model)
    takes = ANSWERS_TO.get(first)
    if takes is None:
        raise KitError(f"{options.model} takes {first}.", f"kit client asks with {', '.join(WAYS.values())}.")
    given = [way for way in WAYS if getattr(options, way)]
    if takes[0] not in given or set(given) - set(takes):
        told = ", ".join(WAYS[way] for way in given) or "nothing"
        raise KitError(
            f"{options.model} was asked with {told}.",
            f"It answers to {', '.join(WAYS[way] for way in takes)}.",
            "See kit client --help.",
        )
    return first


def _first_input(connection: Client, model: str) -> str:
    try:
        return connection.metadata(model)["inputs"][0]["name"]
    except UnknownModelError as error:
        runs = sorted(model_slug(path.name) for path in RUNS.iterdir() if path.is_dir()) if RUNS.is_dir() else []
        served = connection.served(filter(None, [*MODELS, *runs]))
        told = f"It serves {', '.join(served)}." if served else "It serves none of this kit's models either."
        raise UnknownModelError(error.given, told, "Choose one: --model NAME") from None


def _named(options: argparse.Namespace) -> "Arrays":
    history = np.array([options.history or [""]], dtype=object)
    if options.user:
        return {"user": np.array([[options.user]], dtype=object), "seen": history}
    return {"history": history}


def _show_recommended(connection: Client, options: argparse.Namespace, console: Console) -> None:
    answer = connection.infer(options.model, _named(options))
    for name in filter(None, answer["unknown"][0].tolist()):
        say(console, f"unknown item, left out: {name.decode()}")
    told = f"user {options.user}" if options.user else f"after {', '.join(options.history)}"
    (items,) = recommended(answer)
    console.print(recommendation_table(f"{options.model}: {told}", items))
    if not items:
        console.print("Nothing is left to recommend: every item is known to the user.")


def _show_classes(connection: Client, options: argparse.Namespace, console: Console) -> None:
    table = Table("image", *(f"{place}." for place in range(1, options.top_k + 1)))
    answers = connection.classify(options.model, options.images, top_k=options.top_k)
    for image, answer in zip(options.images, answers, strict=True):
        table.add_row(plain(image), *(plain(f"{name} {score:.1%}") for name, score in answer))
    console.print(table)


def _show_found(connection: Client, options: argparse.Namespace, console: Console) -> None:
    table = Table("image", "what", "score", *(Column(side, justify="right") for side in SIDES))
    for image, answer in zip(options.images, connection.detect(options.model, options.images), strict=True):
        found = [detection for detection in answer if detection.score >= options.threshold]
        for detection in found:
            sides = (f"{edge:.0f}" for edge in detection.box)
            table.add_row(plain(image), plain(detection.name), f"{detection.score:.1%}", *sides)
        if not found:
            table.add_row(plain(image), "nothing")
    console.print(table)
