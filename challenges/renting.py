"""`kit aws`: what it can be asked, and what it does. boto3 is imported only when AWS is asked."""

import argparse
import datetime
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from challenges.ordering import Rates, add_order, order_of
from common.errors import KitError

if TYPE_CHECKING:
    from rich.console import Console

    from common.storage.cloud import Cloud

RECORDS = Path("benchmark", "results")
"""Where a benchmark's records are below runs/, in a container."""
ENDED_BADLY = 3


def add_aws(verb: Callable[..., argparse.ArgumentParser]) -> None:
    aws = verb(
        "aws",
        "run a challenge or a benchmark on a rented GPU of AWS, within a price and a time, and leave nothing behind",
        "kit aws plan challenge1 --instance g6e.xlarge --data s3://my-bucket/photos\n"
        "kit aws run challenge1 --instance g6e.xlarge --data ~/photos --spot --max-usd 10 --max-hours 6\n"
        "kit aws run benchmark --instance g5.xlarge --model resnet50 --minutes 10 --max-usd 2\n"
        "kit aws ls\nkit aws logs challenge1-1a2b3c\nkit aws down --all",
    )
    actions = aws.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, summary in (
        ("plan", "say what a run would take and cost, and what speaks against it; nothing is made"),
        ("run", "plan, ask, launch, follow, bring the result to runs/ and remove the rest; again: go on"),
    ):
        added = actions.add_parser(name, help=summary, description=summary)
        add_order(added)
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


def rent(options: argparse.Namespace, console: "Console", rates: Rates) -> int:
    """Do what `kit aws` was asked; returns the exit code. rates: see `order_of`."""
    if options.action == "prices":
        return _prices(options, console)
    from common.storage.cloud import Cloud

    cloud = Cloud(options.region or os.environ.get("AWS_REGION"))
    if options.action in ("plan", "run"):
        return _run(options, cloud, console, rates)
    done: Callable[[argparse.Namespace, Cloud, Console], int] = {
        "ls": _ls, "logs": _logs, "shell": _shell, "down": _down,
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


def _run(options: argparse.Namespace, cloud: "Cloud", console: "Console", rates: Rates) -> int:
    from common.aws.launch import is_under_way, launch
    from common.aws.lookup import make_plan
    from common.aws.plan import rows
    from common.machine.checkout import uncommitted
    from common.machine.prices import read_prices

    table = read_prices(Path(options.prices) if options.prices else None)
    order = order_of(options, table, rates)
    launches = options.action == "run" and not options.dry_run
    if launches and is_under_way(cloud, order.name):
        _say(console, f"{order.name} is under way already.")
        return _followed(options, cloud, order.name, console)
    plan = make_plan(cloud, order, table, datetime.date.today())
    for label, text in rows(plan):
        _say(console, f"{label + ':':<22}{text}")
    if uncommitted():
        _say(console, f"{'note:':<22}files that differ from the last commit, which is what is sent: {uncommitted()}")
    if not launches or not (options.yes or _agreed()):
        _say(console, "Nothing was made.")
        return 0
    launch(cloud, plan, console)
    return _followed(options, cloud, order.name, console)


def _followed(options: argparse.Namespace, cloud: "Cloud", name: str, console: "Console") -> int:
    if options.detach:
        _tell_ways(console, name)
        return 0
    return _follow(cloud, name, console)


def _agreed() -> bool:
    from common.terminal.agreement import agreed

    nobody = KitError(
        "Nobody is there to be asked whether the run may cost that.", "A launch is agreed to.",
        "Pass -y, or make's YES=1.",
    )  # fmt: skip
    return agreed("Launch? [y/N] ", nobody)


def _follow(cloud: "Cloud", name: str, console: "Console") -> int:
    """Follow to the end, bring the result, and remove the rest."""
    from common.aws import launch, runs

    try:
        last = launch.follow(cloud, name, console)
    except (KeyboardInterrupt, KitError) as error:
        _say(console, f"{name} goes on without this command.")
        _tell_ways(console, name)
        if isinstance(error, KitError):
            raise
        return 130
    found = launch.bring_home(cloud, name, console)
    if found and (found / RECORDS).is_dir():
        _say(console, f"Compare its records: make compare RECORDS={shlex.quote(str(found / RECORDS))}")
    for run in runs.find_runs(cloud, console):
        if run.name == name:
            runs.take_down(cloud, run, console)
    runs.sweep(cloud, [cloud.region], console)
    state = last.get("state", "nothing that it said")
    ended = state if state in launch.OVER else f"ended from outside or by AWS's clock, after: {state}"
    _say(console, f"{name}: {ended}")
    return 0 if state == "done" else ENDED_BADLY


def _tell_ways(console: "Console", name: str) -> None:
    _say(console, f"Follow it: kit aws logs {name}")
    _say(console, f"End it: kit aws down {name}")


def _ls(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import find_runs, row
    from common.machine.prices import read_prices

    found = find_runs(cloud, console)
    if not found:
        _say(console, "No run has anything in AWS.")
        return 0
    table, now = read_prices(Path(options.prices) if options.prices else None), datetime.datetime.now(datetime.UTC)
    columns = ("run", "region", "state", "instance", "age", "$ at most")
    _table(console, columns, [row(cloud, run, table, now) for run in found])
    return 0


def _logs(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import find_run

    run = find_run(cloud, options.name, console)
    return _follow(cloud.at(run.region), run.name, console)


def _shell(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws.runs import find_run, open_shell

    _say(console, "It needs AWS's session-manager-plugin here; the instance answers some minutes after this.")
    _say(console, shlex.join(open_shell(cloud, find_run(cloud, options.name, console))))
    return 0


def _down(options: argparse.Namespace, cloud: "Cloud", console: "Console") -> int:
    from common.aws import runs

    if bool(options.name) == options.all:
        raise KitError("It is not said what to end.", "NAME ends that run, --all every one.", "See: kit aws ls")
    if options.all:
        chosen = runs.find_runs(cloud, console)
    else:
        chosen = [runs.find_run(cloud, name, console) for name in dict.fromkeys(options.name)]
    for run in chosen:
        runs.take_down(cloud, run, console)
    runs.sweep(cloud, sorted({run.region for run in chosen} | {cloud.region}), console)
    return 0


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
