"""`kit aws`: what it can be asked, and what it does. boto3 is imported only when AWS is asked."""

import argparse
import csv
import datetime
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from challenges.registry import MODELS
from common.errors import KitError

if TYPE_CHECKING:
    from rich.console import Console

    from common.aws.plan import Order
    from common.storage.cloud import Cloud

TARGETS = {"challenge1": "resnet50", "challenge2": "ssd300", "challenge3": ""}
"""make's targets that an instance can be given, and the one model of each, where it has one."""
PUBLISHED = {"resnet50": "resnet50", "ssd300": "ssd300-r50"}
"""What the table of published speeds calls the models whose samples are images."""
ENDED_BADLY = 3


def add_aws(verb: Callable[..., argparse.ArgumentParser]) -> None:
    aws = verb(
        "aws",
        "run a challenge on a rented GPU of AWS, within a price and a time, and leave nothing behind",
        "kit aws plan challenge1 --instance g6e.xlarge --data s3://my-bucket/photos\n"
        "kit aws run challenge1 --instance g6e.xlarge --data ~/photos --spot --max-usd 10 --max-hours 6\n"
        "kit aws ls\nkit aws logs challenge1-1a2b3c\nkit aws down --all",
    )
    actions = aws.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, summary in (
        ("plan", "say what a run would take and cost, and what speaks against it; nothing is made"),
        ("run", "plan, ask, launch, follow, bring the result to runs/ and remove the rest; again: go on"),
    ):
        added = actions.add_parser(name, help=summary, description=summary)
        _add_order(added)
        if name == "run":
            added.add_argument("-y", "--yes", action="store_true", help="launch without asking")
            added.add_argument("--dry-run", action="store_true", help="stop after the plan")
            added.add_argument("--detach", action="store_true", help="launch, and do not follow")
    listing = actions.add_parser("ls", help="list what runs, in all regions, with its cost so far")
    logs = actions.add_parser("logs", help="follow a run's log, and bring its result when it is over")
    shell = actions.add_parser("shell", help="print the command that opens a shell on a run's instance")
    down = actions.add_parser("down", help="end runs and remove all they have but their results")
    prices = actions.add_parser("prices", help="show the table of prices with its date")
    for added in (logs, shell):
        added.add_argument("name", metavar="NAME", help="a run's, see kit aws ls")
    down.add_argument("name", metavar="NAME", nargs="*", help="runs to end, see kit aws ls")
    down.add_argument("--all", action="store_true", help="every run of this account, in all regions")
    for added in (listing, prices):
        added.add_argument("--prices", help="a table of prices of your own")
    for added in (listing, logs, shell, down):
        added.add_argument("--region", help="AWS's, where none is configured")


def _add_order(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", choices=list(TARGETS), metavar="CHALLENGE", help=", ".join(TARGETS))
    parser.add_argument(
        "--instance", required=True, help="type of instance, or several with commas, any of which will do"
    )
    parser.add_argument(
        "--data", default="", help="s3://BUCKET/PREFIX, or a folder, which is uploaded; left out: demo data"
    )
    parser.add_argument("--recipe", default="", help="as make's RECIPE")
    parser.add_argument("--model", default="", help="as make's MODEL")
    parser.add_argument("--make-args", default="", help="as make's ARGS: further flags of kit challenge")
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


def _disk(text: str) -> int:
    if not 100 <= int(text) <= 16_384:
        raise argparse.ArgumentTypeError(f"{text} is not between 100 and 16384")
    return int(text)


def rent(options: argparse.Namespace, console: "Console") -> int:
    """Do what `kit aws` was asked; returns the exit code."""
    if options.action == "prices":
        return _prices(options, console)
    from common.storage.cloud import Cloud

    cloud = Cloud(options.region)
    done: Callable[[argparse.Namespace, Cloud, Console], int] = {
        "plan": _run, "run": _run, "ls": _ls, "logs": _logs, "shell": _shell, "down": _down,
    }[options.action]  # fmt: skip
    return done(options, cloud, console)


def _prices(options: argparse.Namespace, console: "Console") -> int:
    from common.machine.prices import read_prices

    table = read_prices(Path(options.prices) if options.prices else None)
    _table(console, ("instance", "GPU", "number", "vCPUs", "$/h on demand", "region"), [
        (each.instance, each.gpu, str(each.num_gpus), str(each.vcpus), f"{each.usd_per_hour:.4f}", each.region)
        for each in table.prices.values()
    ])  # fmt: skip
    _say(console, f"{table.path}: prices of {table.date}")
    _say(console, table.warning(datetime.date.today()))
    return 0


def _run(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.launch import launch
    from common.aws.plan import make_plan, rows
    from common.machine.checkout import uncommitted
    from common.machine.prices import read_prices

    table = read_prices(Path(options.prices) if options.prices else None)
    plan = make_plan(cloud, _order(options), table, datetime.date.today())
    for label, text in rows(plan):
        _say(console, f"{label + ':':<22}{text}")
    if uncommitted():
        _say(console, f"{'note:':<22}{uncommitted()} files differ from the last commit, which is what is sent")
    if options.action == "plan" or options.dry_run:
        _say(console, "Nothing was made.")
        return 0
    if not options.yes and not _agreed():
        _say(console, "Nothing was made.")
        return 0
    launch(cloud, plan, console)
    if options.detach:
        _tell_ways(console, plan.order.name)
        return 0
    return _follow(cloud, plan.bucket, plan.order.name, console)


def _agreed() -> bool:
    from common.terminal.agreement import agreed

    nobody = KitError(
        "Nobody is there to be asked whether the run may cost that.", "A launch is agreed to.",
        "Pass -y, or make's YES=1.",
    )  # fmt: skip
    return agreed("Launch? [y/N] ", nobody)


def _follow(cloud: "Cloud", bucket: str, name: str, console: "Console") -> int:
    """Follow to the end, bring the result, and remove the rest."""
    from common.aws import launch, runs

    try:
        last = launch.follow(cloud, bucket, name, console)
    except KeyboardInterrupt:
        _say(console, f"{name} goes on without this command.")
        _tell_ways(console, name)
        return 130
    launch.bring_home(cloud, bucket, name, console)
    for run in runs.find_runs(cloud):
        if run.name == name:
            runs.take_down(cloud, run, console)
    runs.sweep(cloud, [cloud.region], console)
    ended = last.get("state", "ended before it began")
    _say(console, f"{name}: {ended}")
    return 0 if ended == "done" else ENDED_BADLY


def _tell_ways(console: "Console", name: str) -> None:
    _say(console, f"Follow it: kit aws logs {name}")
    _say(console, f"End it: kit aws down {name}")


def _ls(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import find_runs, row
    from common.machine.prices import read_prices

    found = find_runs(cloud)
    if not found:
        _say(console, "No run has anything in AWS.")
        return 0
    table, now = read_prices(Path(options.prices) if options.prices else None), datetime.datetime.now(datetime.UTC)
    columns = ("run", "region", "state", "instance", "age", "$ at most")
    _table(console, columns, [row(cloud, run, table, now) for run in found])
    return 0


def _logs(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import find_run

    run = find_run(cloud, options.name)
    return _follow(cloud.at(run.region), run.bucket, run.name, console)


def _shell(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import open_shell

    _say(console, "It needs AWS's session-manager-plugin here; the instance answers some minutes after this.")
    _say(console, shlex.join(open_shell(cloud, options.name)))
    return 0


def _down(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws import runs

    if bool(options.name) == options.all:
        raise KitError("It is not said what to end.", "NAME ends that run, --all every one.", "See: kit aws ls")
    chosen = runs.find_runs(cloud) if options.all else [runs.find_run(cloud, name) for name in options.name]
    for run in chosen:
        runs.take_down(cloud, run, console)
    runs.sweep(cloud, sorted({run.region for run in chosen} | {cloud.region}), console)
    return 0


def _order(options: argparse.Namespace) -> "Order":
    from common.aws.plan import Order

    model = options.model or TARGETS[options.target]
    given = (("RECIPE", options.recipe), ("MODEL", options.model), ("ARGS", options.make_args))
    return Order(
        target=options.target, instances=tuple(filter(None, options.instance.split(","))),
        data=options.data,
        variables=tuple((name, value) for name, value in given if value),
        spot=options.spot, max_usd=options.max_usd, max_hours=options.max_hours, capacity_block=options.capacity_block,
        given_name=options.name, disk_gb=options.disk,
        epochs=_epochs(model, options.recipe) if options.data else 0.0, speeds=_speeds(PUBLISHED.get(model, "")),
    )  # fmt: skip


def _epochs(model: str, recipe: str) -> float:
    """Of the recipe that data of one's own is trained by, as it is written; 0 where it is told in minutes."""
    if model not in MODELS:
        return 0.0
    recipes = MODELS[model].recipes()
    chosen = recipes.get(recipe or MODELS[model].recipe_for_data)
    return float(chosen.training.epochs) if chosen else 0.0


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


def _table(console: "Console", columns: tuple[str, ...], rows: "list[tuple[str, ...]]") -> None:
    from rich.table import Table

    from common.terminal.console import plain

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(plain, row))
    console.print(table)


def _say(console: "Console", line: str) -> None:
    from common.terminal.console import say

    if line:
        say(console, line)
