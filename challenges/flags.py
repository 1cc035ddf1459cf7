"""Flags that several verbs of `kit` have, and what their values may be."""

import argparse

from challenges.registry import MODELS
from common.language.telling import LANGUAGES


def whole_number(text: str) -> int:
    """1 or more."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def positive_number(text: str) -> float:
    """More than nothing, and at most a day's seconds."""
    if not 0 < float(text) <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400")
    return float(text)


def port_number(text: str) -> int:
    if not 0 <= int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return int(text)


class Suggestions(tuple[str, ...]):
    """What a shell completes; whatever else is given is the verb's to refuse, which names the nearest."""

    __slots__ = ()

    def __contains__(self, given: object) -> bool:
        return True


def add_precision(parser: argparse.ArgumentParser) -> None:
    choices = ["auto", "fp32", "fp16", "bf16", "int8"]
    parser.add_argument("--precision", choices=choices, default="auto", help="auto: the fastest that passed parity")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    names = Suggestions(f"{model}/{name}" for model, entry in MODELS.items() for name in entry.recipes())
    parser.add_argument("recipe", metavar="MODEL/RECIPE", choices=names, help="see `kit list`")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="data folder, or a data set's name; left out: generated demo data")
    parser.add_argument("--run", help="run directory; left out: a folder under runs/ named by recipe and data")
    add_columns(parser)
    add_device(parser)
    add_language(parser)


def add_columns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--columns",
        metavar="user=NAME,item=NAME,...",
        help="which column of a recommender's file holds the user, item, rating, time, by name or by place from 1 on",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one"
    )


def add_language(parser: argparse.ArgumentParser, told: str = "of the report and the advice (default: LANG's)") -> None:
    parser.add_argument("--lang", choices=LANGUAGES, help=told)
