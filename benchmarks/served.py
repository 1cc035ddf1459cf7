"""A trained run behind a Triton server on this machine, loaded as `kit load` does and by MLPerf's generator."""

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import loadgen
from benchmarks.record import Record
from benchmarks.serving import LoadedModel, record_of_load
from benchmarks.validity import BY_NOISE, SHRUNK
from challenges.asking import batches
from challenges.commands.asked import question_of as of_options
from challenges.parser import build_parser
from challenges.registry import find_model
from common.errors import KitError
from common.question import Question
from common.run.run_directory import RunDirectory
from common.serving.load import LoadGenerator, LoadPlan
from common.serving.payload import Payload
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer
from common.stages.deployment import Choice, chosen, write_repository
from common.stages.serving_stage import payload_folder

CLIENTS = (1, 4, 16)
WARMUP_SECONDS = 1.0
START_SECONDS = 15.0  # of a server, until it is ready


def why_not(run: RunDirectory) -> str:
    """Why a run cannot be served to be measured; empty where it can."""
    model = run.description()["model"]
    served = find_model(model).load().served
    try:
        choice = chosen(run, "auto")
        words = tuple(served.example(run))
    except (KitError, OSError) as error:
        return str(error)
    unasked = words == tuple(served.dialogue.example.split())
    return no_server(choice) or (f"{model} has no question of its own data to ask" if unasked else "")


def no_server(choice: Choice) -> str:
    """Why this machine has no server for an engine; empty where it has."""
    if choice.engine == "tensorrt":
        return "the server for tests has no backend for TensorRT plans"
    return "" if Payload(payload_folder()).is_installed() else "this machine has not got a Triton server: make triton"


@contextlib.contextmanager
def serving(run: RunDirectory, choice: Choice) -> Iterator[LocalServer]:
    """A real Triton, ready, with the run's model under its own name, in a folder that goes with the block."""
    model = run.description()["model"]
    with tempfile.TemporaryDirectory(prefix="served-") as place:
        folder, payload = Path(place), Payload(payload_folder())
        repository = ModelRepository(folder / "models")
        write_repository(find_model(model).load(), run, choice, repository, model)
        with LocalServer(repository.path, payload, folder / "triton.log") as server:
            server.wait_ready()
            yield server


def measure_served(run: RunDirectory, seconds: float, *, smoke: bool, logs: Path) -> Iterator[Record]:
    """A record of a closed loop at several numbers of clients, and one of each scenario of MLPerf's generator, if any.

    logs: a folder for the generator's log files.
    """
    name = run.description()["model"]
    challenge = find_model(name).load()
    with serving(run, chosen(run, "auto")) as server:
        url, question = server.url("http"), question_of(tuple(challenge.served.example(run)))
        with server.client("http") as connection:
            asked = batches(connection, name, question)
            for request in asked:
                connection.infer(name, request)
        scenarios = ("SingleStream", "Offline") if importlib.util.find_spec("mlperf_loadgen") else ()
        each = max(1.0, (seconds - START_SECONDS) / (len(CLIENTS) + len(scenarios)) - WARMUP_SECONDS)
        shapes = {part: array.shape[1:] for part, array in asked[0].items()}
        plan = LoadPlan(concurrencies=CLIENTS, seconds=each, warmup_seconds=WARMUP_SECONDS)
        load = LoadGenerator(url, "http", name, asked, statistics_of=(name,)).run(plan)
        yield labelled(record_of_load(LoadedModel(name, url, "http", each, WARMUP_SECONDS, shapes), load), smoke)
        for scenario in scenarios:
            settings = loadgen.Settings(scenario=scenario, seconds=each, url=url, logs=logs / scenario)  # type: ignore[arg-type]
            with loadgen.asking(name, asked, settings) as ask:
                summary = loadgen.drive(ask, len(asked), settings)
            yield labelled(loadgen.record_of(name, settings, summary, next(iter(shapes.values()))), smoke)


def question_of(words: tuple[str, ...]) -> Question:
    """What `kit client` would ask with these arguments."""
    return of_options(build_parser().parse_args(["client", *words]))


def labelled(record: Record, smoke: bool) -> Record:
    """The record, and of a smoke run one that says so and is not judged by its length or its scatter."""
    if not smoke:
        return record
    found = record.validity
    reasons = tuple(reason for reason in found.reasons if reason.code not in ("TOO_SHORT", *BY_NOISE))
    return replace(
        record, validity=replace(found, valid=not reasons, reasons=reasons, warnings=(*found.warnings, SHRUNK))
    )
