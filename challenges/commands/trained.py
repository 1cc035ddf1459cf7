"""The verbs that use trained runs: to serve them, to ask them, to try and to search by them."""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenges.commands.asked import new_console, open_run, question_of
from challenges.registry import MODELS
from common.errors import DataError, KitError

if TYPE_CHECKING:
    from common.challenge import Challenge, PictureSearch


def serve(options: argparse.Namespace) -> None:
    runs = [open_run(given) for given in options.runs]
    from common.serving.server import Ports
    from common.stages.serving_stage import serve as serve_runs

    ports = Ports(http=options.http_port, grpc=options.grpc_port, metrics=options.metrics_port)
    folder = Path(options.repository) if options.repository else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("serve", shared=True))
        serve_runs(
            runs, new_console(), precision=options.precision, ports=ports, folder=folder, in_container=options.container
        )


def repository(options: argparse.Namespace) -> None:
    runs = [open_run(given) for given in options.runs]
    from common.serving.releases import container_release, find_release
    from common.stages.serving_stage import write_for

    release = find_release(options.server) if options.server else container_release()
    folder = Path(options.repository) if options.repository else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("repository", shared=True))
        write_for(runs, new_console(), release, precision=options.precision, folder=folder)


def client(options: argparse.Namespace) -> None:
    from challenges.asking import ask
    from common.serving.client import Client

    with Client(options.url, options.protocol, options.timeout) as connection:
        ask(connection, options.model, question_of(options), new_console())


def load(options: argparse.Namespace) -> None:
    from benchmarks.serving import LoadedModel, serve_record
    from challenges.asking import batches
    from common.serving.client import Client
    from common.serving.load import LoadGenerator, LoadPlan
    from common.stages.serving_stage import drive_load

    with Client(options.url, options.protocol, options.timeout) as connection:
        asked = batches(connection, options.model, question_of(options))
    generator = LoadGenerator(options.url, options.protocol, options.model, asked)
    plan = LoadPlan(concurrencies=tuple(options.concurrency), rates=tuple(options.rate), seconds=options.seconds)
    shapes = {name: array.shape[1:] for name, array in asked[0].items()}
    served = LoadedModel(options.model, options.url, options.protocol, plan.seconds, plan.warmup_seconds, shapes)
    drive_load(generator, plan, Path(options.output), new_console(), lambda load: serve_record(served, load))


def demo(options: argparse.Namespace) -> None:
    runs = [open_run(given) for given in options.runs or _newest_runs()]
    from common.language.telling import LANGUAGES
    from common.stages.demo import demo as show_page
    from common.stages.demo import require_gradio

    require_gradio()
    corrections = Path(options.corrections) if options.corrections else None
    with contextlib.ExitStack() as held:
        for _, run in runs:
            held.enter_context(run.lock("demo", shared=True))
        show_page(
            runs, new_console(), url=options.url, corrections=corrections, host=options.host, port=options.port,
            languages=(options.lang,) if options.lang else LANGUAGES,
        )  # fmt: skip


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


def index(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.challenge import Trained

    search = _search(challenge)
    folders = [Path(given) for given in options.folders]
    for folder in folders:
        if not folder.exists():
            raise DataError(f"There is no folder {folder}.", "Pictures are read from folders.", "Check the path.")
    with run.lock("index", shared=True):
        search.index(Trained.load(challenge, run), folders, new_console(), options.url)


def similar(options: argparse.Namespace) -> None:
    challenge, run = open_run(options.run)
    from common.challenge import Trained

    search = _search(challenge)
    page = Path(options.html) if options.html else None
    with run.lock("similar", shared=True):
        images = [Path(given) for given in options.images]
        search.similar(Trained.load(challenge, run), images, options.top_k, page, new_console(), options.url)


def _search(challenge: "Challenge[Any, Any, Any]") -> "PictureSearch":
    """Raises KitError where the model has none."""
    if challenge.search is None:
        raise KitError(
            f"{challenge.model} finds no similar pictures.",
            "Classifiers do: their last layer but one tells pictures apart.",
        )
    return challenge.search
