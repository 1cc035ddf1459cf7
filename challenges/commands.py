"""What each verb of `kit` does. Heavy modules are imported inside, so that help and errors come at once."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenges.registry import CLICKS, HISTORIES, MODELS, Entry, find_model, find_recipe
from common.errors import DataError, KitError

if TYPE_CHECKING:
    from rich.console import Console

    from common.challenge import Challenge, PictureSearch
    from common.question import Question
    from common.run.run_directory import RunDirectory
    from common.stages.workflow import Request


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
    _console().print(table)


def doctor(_options: argparse.Namespace) -> int:
    """Exit code 2 where something must be mended."""
    from common.stages.doctor import examine

    return 0 if examine(_console()) else 2


def challenge(options: argparse.Namespace) -> None:
    """Several models walk one after the other; those that cannot read the data are left out, with the reason."""
    models = options.model
    if len(models) > 1 and options.data is not None and not options.help:
        models = _readers(models, Path(options.data), options.columns)
    for model in models:
        _walk(options, model)


def _readers(models: Sequence[str], root: Path, columns: str | None) -> Sequence[str]:
    """Those that can learn from the data; all, so that the first says what is wrong, where none can.

    columns: what --columns names, of data for histories.
    """
    if not root.exists():
        return models
    from challenges.choosing import unreadable

    reasons = {model: unreadable(find_model(model), root) for model in models}
    if columns is not None:
        told = "--columns says where users and items are, and it reads rows"
        reasons |= {model: told for model in models if find_model(model).wing != HISTORIES}
    readers = [model for model, reason in reasons.items() if not reason]
    for model, reason in reasons.items():
        if readers and reason:
            _say(_console(), f"{model} is left out: {reason}")
    return readers or models


def _walk(options: argparse.Namespace, model: str) -> None:
    entry = find_model(model)
    if options.recipe is None:
        name = entry.recipe_for(weights=bool(options.weights), data=bool(options.data))
        why = "--weights was given" if options.weights else "--data was given" if options.data else "no --data"
    else:
        name, why = options.recipe, "asked for"
    overrides = (*options.overrides, *(("--weights", options.weights) if options.weights else ()))
    request = _request(options, f"{model}/{name}", overrides)
    if request is None:
        return
    from common.stages.workflow import walk

    console = _console()
    console.print(f"recipe: {model}/{name} ({why})")
    walk(request, console)


def bring_data(options: argparse.Namespace) -> None:
    """Copy data that lies in S3 here, or fetch a data set by its name, before a verb reads it.

    An instance of AWS reads S3 by itself, and what is only planned fetches nothing.
    """
    is_rent = options.verb == "aws"
    if is_rent and (options.action != "run" or options.dry_run):
        return
    given = getattr(options, "data", None)
    if given:
        options.data = given if is_rent and given.startswith("s3://") else _brought(given)
    folders = getattr(options, "folders", None)
    if folders:
        options.folders = [*map(_brought, folders)]


def _brought(given: str) -> str:
    """The path of data that was given by a path, an address or a name."""
    if given.startswith("s3://"):
        from common.storage.s3 import local_copy

        return str(local_copy(given, _console()))
    from challenges.data_sets.naming import resolved

    return resolved(given, _console())


def check(options: argparse.Namespace) -> None:
    root, console = Path(options.data), _console()
    if options.model is None and root.exists():
        from challenges.choosing import choose_model

        chosen = choose_model(root)
        options.model = chosen.model
        others = " ".join(name for name in MODELS if name != chosen.model)
        _say(console, f"model: {chosen.model}, since {chosen.why}; to choose another: --model, one of {others}")
    entry = find_model(options.model or "resnet50")
    _require_data(entry, options.data)
    from common.stages.workflow import Request, checked

    recipe = entry.recipes()[entry.recipe_for_data]
    if options.columns is not None:
        from common.run.overrides import apply_overrides

        recipe = apply_overrides(recipe, _columns(options, entry), "kit check")
    request = Request(entry.load(), entry.recipe_for_data, recipe, root)
    if options.similar is None and options.resplit is None:
        with checked(request, console) as (_, folder):
            _say(console, f"Manifest and quarantine list: {folder}")
        return
    from challenges.parting import check_copies

    run = _open_run(options.similar) if options.similar else None
    check_copies(request, options.similar is not None, run, options.resplit, console)


def prepare(options: argparse.Namespace) -> None:
    try:
        from challenges.recommendation.clicks.prepare.command import run
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise KitError("Polars is not installed.", "Preparing click logs needs it.", "pip install polars") from None
    run(options, _console())


def train(options: argparse.Namespace) -> None:
    request = _request(options, options.recipe, options.overrides)
    if request is None:
        return
    from common.stages.workflow import train as run_training

    console = _console()
    run = run_training(request, console)
    _say(console, f"Next: kit evaluate {shlex.quote(str(run.path))}")


def lr_find(options: argparse.Namespace) -> None:
    request = _request(options, options.recipe, options.overrides)
    if request is None:
        return
    from common.stages.lr_search import sweep_lr

    sweep_lr(request, _console())


def evaluate(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.run.result import result_line
    from common.stages.workflow import evaluate as run_evaluation
    from common.stages.workflow import report as write_report

    console = _console()
    if options.data is not None:
        _require_data(find_model(challenge.model), options.data)
        from common.stages.held_out import judge_test

        with run.lock("evaluate"):
            told = judge_test(
                challenge, run, Path(options.data), console, precision=options.precision, device=options.device
            )
            write_report(challenge, run)
        _say(console, told)
        return
    with run.lock("evaluate"):
        result = run_evaluation(challenge, run, console, precision=options.precision, device=options.device)
        write_report(challenge, run)
    _say(console, result_line(result))


def predict(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.challenge import Trained
    from common.machine.device import select_device
    from common.question import require_answerable
    from common.storage.claimed_folder import claimed
    from common.storage.run_lock import hold

    question = _question(options)
    require_answerable(challenge.model, question, challenge.predicts_from, "predict")
    run.require_weights()
    output = Path(options.output) if options.output else run.path / "predictions"
    with contextlib.ExitStack() as held:
        held.enter_context(run.lock("predict", shared=True))
        if options.output:
            held.enter_context(claimed(output, "predict"))
        elif question.inputs:  # a run that is served meanwhile takes the answers, too
            output.mkdir(exist_ok=True)
            held.enter_context(hold(output, "predict"))
        device = select_device(options.device)
        challenge.predict(Trained.load(challenge, run, device), question, output, device, _console())


def report(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.stages.workflow import report as write_report

    with run.lock("report"):
        _say(_console(), f"Report: {write_report(challenge, run)}")


def export(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.stages.deployment import export as write_graphs

    with run.lock("export"):
        write_graphs(challenge, run, _console(), embedding=options.embedding)


def parity(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.stages.deployment import chosen
    from common.stages.deployment import parity as compare_engines
    from common.stages.serving_stage import payload_folder, prove_served

    console = _console()
    serves = payload_folder().is_dir()
    with run.lock("parity"):
        run.require_weights()
        if serves:
            run.require_evaluation()  # told before the engines are compared, which takes minutes
        compare_engines(challenge, run, console)
        if serves:
            choice, falls_back = chosen(run, options.precision), options.precision == "auto"
            prove_served(challenge, run, choice, console, limit=options.files, falls_back=falls_back)


def serve(options: argparse.Namespace) -> None:
    runs = [_open_run(given) for given in options.runs]
    from common.serving.server import Ports
    from common.stages.serving_stage import serve as serve_runs

    ports = Ports(http=options.http_port, grpc=options.grpc_port, metrics=options.metrics_port)
    folder = Path(options.repository) if options.repository else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("serve", shared=True))
        serve_runs(
            runs, _console(), precision=options.precision, ports=ports, folder=folder, in_container=options.container
        )


def demo(options: argparse.Namespace) -> None:
    runs = [_open_run(given) for given in options.runs or _newest_runs()]
    from common.language.telling import LANGUAGES
    from common.stages.demo import demo as show_page
    from common.stages.demo import require_gradio

    require_gradio()
    corrections = Path(options.corrections) if options.corrections else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("demo", shared=True))
        show_page(
            runs, _console(), url=options.url, corrections=corrections, host=options.host, port=options.port,
            languages=(options.lang,) if options.lang else LANGUAGES,
        )  # fmt: skip


def data(options: argparse.Namespace) -> None:
    from challenges.data_sets.getting import FOLDER, find, get
    from challenges.data_sets.table import DATA_SETS

    console = _console()
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
    _say(console, f"Next: kit challenge {model} --data {shlex.quote(str(found))}")


def exercise(options: argparse.Namespace) -> None:
    from challenges.exercises.command import run

    run(options, _console())


def index(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.challenge import Trained

    search = _search(challenge)
    folders = [Path(given) for given in options.folders]
    for folder in folders:
        if not folder.exists():
            raise DataError(f"There is no folder {folder}.", "Pictures are read from folders.", "Check the path.")
    with run.lock("index", shared=True):
        search.index(Trained.load(challenge, run), folders, _console(), options.url)


def similar(options: argparse.Namespace) -> None:
    challenge, run = _open_run(options.run)
    from common.challenge import Trained

    search = _search(challenge)
    page = Path(options.html) if options.html else None
    with run.lock("similar", shared=True):
        images = [Path(given) for given in options.images]
        search.similar(Trained.load(challenge, run), images, options.top_k, page, _console(), options.url)


def repository(options: argparse.Namespace) -> None:
    runs = [_open_run(given) for given in options.runs]
    from common.serving.releases import container_release, find_release
    from common.stages.serving_stage import write_for

    release = find_release(options.server) if options.server else container_release()
    folder = Path(options.repository) if options.repository else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("repository", shared=True))
        write_for(runs, _console(), release, precision=options.precision, folder=folder)


def client(options: argparse.Namespace) -> None:
    from challenges.asking import ask
    from common.serving.client import Client

    with Client(options.url, options.protocol, options.timeout) as connection:
        ask(connection, options.model, _question(options), _console())


def load(options: argparse.Namespace) -> None:
    from benchmarks.serving import LoadedModel, serve_record
    from challenges.asking import batches
    from common.serving.client import Client
    from common.serving.load import LoadGenerator, LoadPlan
    from common.stages.serving_stage import drive_load

    with Client(options.url, options.protocol, options.timeout) as connection:
        asked = batches(connection, options.model, _question(options))
    generator = LoadGenerator(options.url, options.protocol, options.model, asked)
    plan = LoadPlan(concurrencies=tuple(options.concurrency), rates=tuple(options.rate), seconds=options.seconds)
    shapes = {name: array.shape[1:] for name, array in asked[0].items()}
    served = LoadedModel(options.model, options.url, options.protocol, plan.seconds, plan.warmup_seconds, shapes)
    drive_load(generator, plan, Path(options.output), _console(), lambda load: serve_record(served, load))


def aws(options: argparse.Namespace) -> int:
    from challenges.renting import rent

    if getattr(options, "like", ""):
        from benchmarks import published

        published.find(options.like, published.rows())  # which raises for one that there is not
    return rent(options, _console(), _measured_rates)


def _measured_rates(recipe: str) -> Mapping[str, float]:
    """Samples per second on each instance that records tell of, those of rented benchmarks among them."""
    from benchmarks.prices import PRICES, read
    from benchmarks.record import RESULTS, read_all
    from benchmarks.rent import Goal, predict

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
    return run(request, _console(), ("kit", *sys.argv[1:]))


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
        console=_console(),
    )


def completion(options: argparse.Namespace) -> None:
    import shtab

    from challenges.parser import build_parser

    print(shtab.complete(build_parser(), shell=options.shell))


def _request(options: argparse.Namespace, identifier: str, overrides: tuple[str, ...]) -> "Request | None":
    """What to train; None after help was printed. Everything a user can get wrong is found before torch is imported."""
    entry, name, recipe = find_recipe(identifier)
    from common.run.overrides import apply_overrides, print_overrides

    overrides = (*overrides, *_columns(options, entry))
    program = f"kit {options.verb_parser.prog.split()[-1]} {identifier}"
    if options.help:
        options.verb_parser.print_help()
        print(f"\n{identifier}: {recipe.summary}\nits fields:")
        print_overrides(recipe, program)
        return None
    recipe = apply_overrides(recipe, overrides, program)
    if options.data is not None:
        _require_data(entry, options.data)
    from common.stages.workflow import Request

    return Request(
        entry.load(),
        name,
        recipe,
        data=Path(options.data) if options.data is not None else None,
        run=Path(options.run) if options.run else None,
        device=options.device,
        overrides=overrides,
    )


def _columns(options: argparse.Namespace, entry: Entry) -> tuple[str, ...]:
    """--columns as the recipe's field."""
    if options.columns is None:
        return ()
    if entry.wing != HISTORIES:
        raise DataError(
            f"--columns was given to {entry.summary}.",
            "It says where the users, items, ratings and times of histories are.",
            "For a click log: kit prepare csv DATA --label NAME --out PREPARED" if entry.wing == CLICKS else "",
        )
    return "--history.columns", options.columns


def _require_data(entry: Entry, given: str) -> None:
    path = Path(given)
    if not path.is_dir() and not (entry.takes_files and path.is_file()):
        kind = "a file" if path.is_file() else "missing"
        allowed = "Data is a folder or a file." if entry.takes_files else "Data is a folder."
        raise DataError(f"{path} is {kind}.", allowed, "Check the path, or name a data set: kit data list")


def _question(options: argparse.Namespace) -> "Question":
    """What a verb was asked, by those fields that it has."""
    from common.question import Question

    given = {name: value for name, value in vars(options).items() if name in Question.__dataclass_fields__}
    return Question(**given | {"inputs": tuple(map(Path, options.inputs)), "history": tuple(options.history)})


def _open_run(given: str) -> "tuple[Challenge[Any, Any, Any], RunDirectory]":
    from common.run.run_directory import RunDirectory

    run = RunDirectory.open(Path(given))
    return find_model(run.description()["model"]).load(), run


def _search(challenge: "Challenge[Any, Any, Any]") -> "PictureSearch":
    """Raises KitError where the model has none."""
    if challenge.search is None:
        raise KitError(
            f"{challenge.model} finds no similar pictures.",
            "Classifiers do: their last layer but one tells pictures apart.",
        )
    return challenge.search


def _newest_runs() -> Sequence[str]:
    """The newest trained run of each model under runs/, in the models' order; KitError where there is none."""
    from common.run.run_directory import RunDirectory

    newest: dict[str, tuple[float, str]] = {}
    for path in Path("runs").glob("*/run.json"):
        run = RunDirectory(path.parent)
        with contextlib.suppress(KitError, OSError):
            found = run.weights_file.stat().st_mtime, str(run.path)
            model = run.description()["model"]
            newest[model] = max(found, newest.get(model, found))
    if not newest:
        raise KitError(
            "There is no trained run under runs/.", "A page is over trained runs.", "Train one: make challenge1"
        )
    return [newest[model][1] for model in MODELS if model in newest]


def _say(console: "Console", line: str) -> None:
    from common.terminal.console import say

    say(console, line)


def _console() -> "Console":
    from common.terminal.console import SafeConsole

    return SafeConsole()
