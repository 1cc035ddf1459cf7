"""What a rented GPU is ordered for: its flags, and the refusal here of all that the instance would refuse there."""

import argparse
import csv
import re
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from challenges.registry import MODELS, find_model, find_recipe
from common.errors import KitError

if TYPE_CHECKING:
    from common.aws.plan import Order
    from common.machine.prices import PriceTable
    from common.run.recipe import TrainingConfig

BENCHMARK = "benchmark"
TARGETS = ("challenge1", "challenge2", "challenge3", BENCHMARK)
"""make's targets that an instance can be given."""
PUBLISHED = {"resnet50": "resnet50", "ssd300": "ssd300-r50"}
"""What the table of published speeds calls the models whose samples are images."""
Rates = Callable[[str], Mapping[str, float]]
INSIDE = "/kit/data/"
"""Where an instance keeps DATA."""


def add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", choices=TARGETS, metavar="CHALLENGE", help=", ".join(TARGETS))
    parser.add_argument(
        "--instance", required=True, help="type of instance, or several with commas, any of which will do"
    )
    parser.add_argument(
        "--data", default="", help="s3://BUCKET/PREFIX, or a folder, which is uploaded; left out: demo data"
    )
    parser.add_argument("--recipe", default="", help="as make's RECIPE")
    parser.add_argument("--model", default="", help="as make's MODEL")
    parser.add_argument("--make-args", default="", help="as make's ARGS: further flags of kit challenge or benchmark")
    parser.add_argument("--gpus", type=_counts, help="of a benchmark, as make's GPUS: 1,2,4")
    parser.add_argument("--minutes", type=_minutes, help="of a benchmark, as make's MINUTES (default: 15)")
    parser.add_argument("--like", default="", help="of a benchmark, as make's LIKE: a published row")
    parser.add_argument("--quick", action="store_true", help="of a benchmark, as make's QUICK")
    parser.add_argument(
        "--spot", action="store_true", help="spare capacity: cheaper, may be interrupted, goes on by itself"
    )
    parser.add_argument("--max-usd", type=_bound, default=10.0, help="the run ends before it costs more (default: 10)")
    parser.add_argument("--max-hours", type=_bound, default=6.0, help="the run ends by then (default: 6)")
    parser.add_argument("--capacity-block", default="", metavar="CR-ID", help="a Capacity Block that was bought before")
    parser.add_argument("--disk", type=_disk, default=200, help="GB of the instance's disk (default: 200)")
    parser.add_argument("--name", default="", help="the run's; left out: from what runs on what")
    parser.add_argument("--region", help="AWS's, where none is configured")
    parser.add_argument("--prices", help="a table of prices of your own")


def _bound(text: str) -> float:
    if not 0 < float(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100000")
    return float(text)


def _counts(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", text):
        raise argparse.ArgumentTypeError(f"{text} is not numbers of GPUs with commas, such as 1,2,4")
    return text


def _minutes(text: str) -> str:
    if not 0 < float(text) <= 1440:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1440")
    return text


def _disk(text: str) -> int:
    if not 100 <= int(text) <= 16_384:
        raise argparse.ArgumentTypeError(f"{text} is not between 100 and 16384")
    return int(text)


def order_of(options: argparse.Namespace, table: "PriceTable", rates: Rates) -> "Order":
    """What was asked for; raises KitError for what the instance would refuse, which would cost its start.

    rates: samples/s by instance that records tell of a model and recipe.
    """
    from common.aws.plan import Order

    instances = tuple(filter(None, options.instance.split(",")))
    recipes = _trainings(options)
    measures = options.target == BENCHMARK
    given = {
        "RECIPE": options.recipe, "MODEL": options.model, "GPUS": options.gpus, "MINUTES": options.minutes,
        "LIKE": options.like, "QUICK": "1" if options.quick else "", "ARGS": options.make_args,
    }  # fmt: skip
    misplaced = [] if measures else [name for name in ("GPUS", "MINUTES", "LIKE", "QUICK") if given[name]]
    if misplaced:
        raise KitError(
            f"{misplaced[0]} was given to {options.target}.",
            "A benchmark takes it: make aws-benchmark.",
            "Leave it out.",
        )
    most = max(map(int, options.gpus.split(",")), default=0) if options.gpus else 0
    for instance in instances:
        if table.of(instance).num_gpus < most:
            raise KitError(
                f"GPUS={options.gpus} asks for {most} GPUs, and {instance} has {table.of(instance).num_gpus}.",
                "A benchmark measures with as many as there are.", "Choose fewer GPUS or another INSTANCE.",
            )  # fmt: skip
    model, training = (next(iter(recipes.items()))) if len(recipes) == 1 else ("", None)
    minutes = [float(options.minutes or 15)] if measures else [each.minutes or 0.0 for each in recipes.values()]
    passes = training.epochs if training and options.data and not training.minutes else 0.0
    recipe = f"{model}/{options.recipe or MODELS[model].recipe_for_data}" if passes and model in PUBLISHED else ""
    return Order(
        target=options.target, instances=instances, data=options.data, measures=measures,
        variables=tuple((name, value) for name, value in given.items() if value),
        spot=options.spot, max_usd=options.max_usd, max_hours=options.max_hours, capacity_block=options.capacity_block,
        given_name=options.name, disk_gb=options.disk, epochs=passes, told_hours=sum(minutes) / 60,
        rates=rates(recipe) if recipe else {}, speeds=_speeds(PUBLISHED.get(model, "")),
    )  # fmt: skip


def _trainings(options: argparse.Namespace) -> dict[str, "TrainingConfig"]:
    """How each model that is named, or else each of the challenge, is trained there; nothing of a benchmark's.

    Every name and flag is held against the kit's own. Raises KitError, and as the kit's parser does.
    """
    from challenges.parser import build_parser

    measures, number = options.target == BENCHMARK, options.target.removeprefix("challenge")
    own = [name for name, entry in MODELS.items() if measures or str(entry.challenge) == number]
    models: list[str] = options.model.split() or own
    for model in models:
        find_model(model)
        if model not in own:
            raise KitError(
                f"{model} is not of {options.target}.", f"It has: {', '.join(own)}.", "Choose another MODEL."
            )  # fmt: skip
    line = [BENCHMARK if measures else "challenge", *models, *shlex.split(options.make_args)]
    asked, overrides = build_parser().parse_known_args(line)
    if not measures:
        return {model: _training(options, model, asked.weights, overrides) for model in models}
    if overrides:
        raise KitError(f"ARGS has {overrides[0]}.", "A benchmark takes no such flag.", "See: kit benchmark --help")
    for model in models if options.recipe else []:
        find_recipe(f"{model}/{options.recipe}")
    return {}


def _training(options: argparse.Namespace, model: str, weights: str | None, overrides: list[str]) -> "TrainingConfig":
    from common.run.overrides import apply_overrides

    if weights and not weights.startswith(INSIDE):
        raise KitError(
            f"The weights {weights} lie here, and an instance sees only DATA.",
            f"What DATA has is in {INSIDE} there.", "Lay the file beside the data, or leave --weights out.",
        )  # fmt: skip
    entry = MODELS[model]
    usual = entry.recipe_for_weights if weights else entry.recipe_for_data if options.data else "demo"
    _, name, recipe = find_recipe(f"{model}/{options.recipe or usual}")
    return apply_overrides(recipe, overrides, f"kit challenge {model} --recipe {name}").training


def _speeds(model: str) -> dict[str, float]:
    """Published images per second and GPU, by what the table of prices calls the GPU; an A10's stand for the A10G."""
    import statistics

    from common.machine.prices import TABLE

    found: dict[str, list[float]] = {}
    with TABLE.with_name("published.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if (row["model"], row["task"], row["metric"], row["num_gpus"]) == (model, "train", "throughput", "1"):
                found.setdefault(row["gpu"].replace("-", " ").split()[0], []).append(float(row["value"]))
    by_name = {name: statistics.median(values) for name, values in found.items()}
    gpus = {"A10G": "A10", "A100-40GB": "A100", "A100-80GB": "A100"}
    return by_name | {ours: by_name[theirs] for ours, theirs in gpus.items() if theirs in by_name}
