"""The verbs around the line: what there is, what this machine can do, data by name, AWS, measurements."""

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from challenges.commands.asked import new_console, say
from challenges.registry import MODELS, find_model
from common.errors import DataError, KitError


def list(_options: argparse.Namespace) -> None:
    from rich.table import Table

    table = Table("model/recipe", "what", "target", "source", title="Recipes", title_justify="left")
    for model, entry in MODELS.items():
        for name, recipe in entry.recipes().items():
            target = recipe.target
            table.add_row(
                f"{model}/{name}",
                recipe.summary,
                f"{target.metric} {target.value:g}" if target else "none",
                target.source if target else "",
            )
    new_console().print(table)


def doctor(_options: argparse.Namespace) -> int:
    """Exit code 2 where something must be mended."""
    from common.stages.doctor import examine

    return 0 if examine(new_console()) else 2


def data(options: argparse.Namespace) -> None:
    from challenges.data_sets.getting import FOLDER, find, get
    from challenges.data_sets.table import DATA_SETS

    console = new_console()
    if options.action == "list":
        from rich.table import Table

        columns = ("name", "what", "MB", "licence", "recipes", "checksum by")
        table = Table(*columns, title="Data sets", title_justify="left")
        for name, entry in DATA_SETS.items():
            recipes, published = ", ".join(entry.recipes), entry.published or "nobody: the first download's is kept"
            table.add_row(name, entry.what, f"{entry.megabytes:,}", entry.licence, recipes, published)
        console.print(table)
        return
    if options.name is None:
        raise DataError("kit data get names no data set.", f"Known are {', '.join(DATA_SETS)}.")
    entry, folder = find(options.name), Path(options.out) if options.out else FOLDER
    found = get(options.name, folder, console, accepted=options.accept)
    model = entry.recipes[0].partition("/")[0]
    say(console, f"Next: kit challenge {model} --data {shlex.quote(str(found))}")


def exercise(options: argparse.Namespace) -> None:
    from challenges.exercises.command import run

    run(options, new_console())


def aws(options: argparse.Namespace) -> int:
    from challenges.renting import rent

    if getattr(options, "like", ""):
        from benchmarks import published

        published.find(options.like, published.rows())  # which raises for one that there is not
    return rent(options, new_console(), measured_rates)


def measured_rates(recipe: str) -> Mapping[str, float]:
    """Samples per second on each instance that records tell of, those of rented benchmarks among them."""
    from benchmarks.comparison.rent import Goal, predict
    from benchmarks.prices import PRICES, read
    from benchmarks.record import RESULTS, read_all

    places = [place for place in (RESULTS, *Path("runs").glob("aws-*/benchmark/results")) if place.is_dir()]
    records = read_all(places)
    if not any(record.workload.model == recipe for record in records):
        return {}
    try:
        found = predict(Goal(recipe, 1.0, 1), records, read(PRICES))
    except KitError:  # none of them is valid
        return {}
    return {each.price.instance: each.rate[1] for each in found if each.rate is not None}


def benchmark(options: argparse.Namespace) -> int:
    """Exit code 1 where a measurement failed, all others being done, or where this tree is slower than a commit."""
    for model in options.models:
        find_model(model)
    if options.against is not None:
        return _against(options)
    from benchmarks.benchmark import Request, run
    from benchmarks.prices import PRICES

    request = Request(
        models=tuple(options.models),
        gpus=options.gpus,
        minutes=15.0 if options.minutes is None else options.minutes,
        like=options.like or None,
        quick=options.quick,
        recipe=options.recipe,
        data=Path(options.data) if options.data else None,
        device=options.device,
        output=Path(options.output) if options.output else None,
        prices=Path(options.prices) if options.prices else PRICES,
    )
    return run(request, new_console(), ("kit", *sys.argv[1:]))


def _against(options: argparse.Namespace) -> int:
    """Raises KitError where not one model is named, or beside flags that mean nothing here."""
    unused = [f"--{name}" for name in ("gpus", "like", "recipe", "data", "prices", "output") if getattr(options, name)]
    if len(options.models) != 1 or unused:
        raise KitError(
            f"--against was given with {' and '.join(unused) or f'{len(options.models)} models'}.",
            "It compares one model's training step on its demo data: --minutes, --quick and --device go with it.",
            f"Try: kit benchmark {next(iter(options.models), 'ncf')} --against {shlex.quote(options.against)}",
        )
    from benchmarks.against import run

    return run(
        options.models[0],
        options.against,
        minutes=options.minutes,
        quick=options.quick,
        device=options.device,
        console=new_console(),
    )


def completion(options: argparse.Namespace) -> None:
    import shtab

    from challenges.parser import build_parser

    print(shtab.complete(build_parser(), shell=options.shell))
