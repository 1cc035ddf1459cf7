"""Serving runs: a repository, a real server, proof that files answered over the wire match the evaluation."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from common.challenge import Challenge, Trained
from common.errors import KitError, ParityError, ServingError
from common.export.artefact import read_sidecar
from common.export.exported import artefact
from common.export.parity import compare
from common.export.runner import TritonRunner
from common.files import read_json, write_json
from common.run.run_directory import RunDirectory
from common.serving import tethered
from common.serving.claim import claimed, seal
from common.serving.client import Client
from common.serving.container import container_command, unpinned_warning
from common.serving.front import Front
from common.serving.load import LOAD_RECORD, SERVE_RECORD, LoadGenerator, LoadPlan
from common.serving.payload import DEFAULT_FOLDER, WARNING, Payload
from common.serving.releases import LOCAL, Release, container_release, read_versions
from common.serving.repository import ModelRepository
from common.serving.server import LocalServer, Ports
from common.serving.supervisor import Supervisor
from common.serving.workspace import Workspace
from common.slug import model_slug
from common.stages.deployment import Choice, chosen, withdraw, write_repository
from common.stages.exporting import REQUIRED
from common.terminal.console import say

FILES = 200  # validation files, at most, sent to the server by the whole line; `kit parity --files N` sends others
Runs = Sequence[tuple[Challenge[Any, Any, Any], RunDirectory]]


def prove_served(
    challenge: Challenge[Any, Any, Any],
    run: RunDirectory,
    choice: Choice,
    console: Console,
    *,
    limit: int = FILES,
    falls_back: bool = True,
) -> None:
    """Start a real Triton on the run, compare its answers with the trained module's and the evaluation's, stop it.

    falls_back: take another engine where the server for tests does not have this one, and fp32 where a reduced
                precision answers too much differently.
    Raises ParityError where too many files are answered differently; writes serving.json for the report.
    """
    if refusal := LOCAL.refusal(choice.engine):
        if not falls_back:
            _say(
                console, f"serve: {choice.label} is left to NVIDIA's image, since {refusal}: kit repository {run.path}"
            )
            return
        choice = chosen(run, "auto", LOCAL)
        _say(console, f"serve: {choice.label} is proven: {choice.why}")
    try:
        _prove(challenge, run, choice, console, limit)
    except ParityError as error:
        if choice.precision == REQUIRED or not falls_back:
            raise
        instead = withdraw(run, choice, f"served: {error.given}")
        say(console, f"serve: {choice.label} is dropped: {error.given} Serving {instead.label}.")
        _prove(challenge, run, instead, console, limit)


def _prove(
    challenge: Challenge[Any, Any, Any], run: RunDirectory, choice: Choice, console: Console, limit: int
) -> None:
    run.require_evaluation()
    sidecar = read_sidecar(artefact(run, choice.precision))
    trained, comparison = Trained.load(challenge, run), challenge.served.comparison()
    with (
        _repository([(challenge, run)], {run.path: choice}, run.serving, LOCAL) as repository,
        LocalServer(repository.path, Payload(payload_folder()), run.logs / "triton.log") as server,
    ):
        seconds = server.wait_ready()
        console.print(f"serve: Triton answers after {seconds:.1f} s ({choice.label})")
        with TritonRunner(
            f"{challenge.model}_model", sidecar.signature, url=server.url("grpc"), precision=choice.precision
        ) as runner:
            samples = next(iter(trained.inputs("val", sidecar.signature.batch.maximum)))[0]
            sizes = {1, len(next(iter(samples.values())))}
            inputs = {size: {name: array[:size] for name, array in samples.items()} for size in sizes}
            table = compare(trained.reference(), [runner], inputs, comparison=comparison)
        served = challenge.served.compare_served(server.client(), challenge.model, run, limit)
    table.print(console)
    record = {
        **served,
        "engine": choice.engine,
        "precision": choice.precision,
        "start_seconds": seconds,
        "allowed_disagreement": comparison.tolerances.of(choice.precision).disagreement,
    }
    write_json(run.serving_file, record)
    console.print(
        f"serve: {served['same']} of {served['compared']} {served['unit']} are the evaluation's, "
        f"{served['sent']} {served['sent_unit']} over HTTP, median {served['p50_ms']:.0f} ms",
        soft_wrap=True,
    )
    table.require()
    different = served["compared"] - served["same"]
    allowed = int(np.ceil(record["allowed_disagreement"] * served["compared"]))
    if different > allowed:
        raise ParityError(
            f"Of Triton's answers {different} of {served['compared']} {served['unit']} differ from the evaluation's.",
            f"In {choice.precision} at most {allowed} may differ.",
            f"Serve a higher precision: kit serve {run.path} --precision fp32",
        )


def write_for(
    runs: Runs, console: Console, release: Release, *, precision: str = "auto", folder: Path | None = None
) -> None:
    """Write the runs' repository for a Triton release, and say which engine serves each, and why.

    folder: left out, the run's own, or runs/serving for several.
    """
    choices = _choices(runs, precision, release)
    with _repository(runs, choices, folder or _folder_of(runs), release) as repository:
        for name, (_, run) in zip(_names(runs), runs, strict=True):
            choice = choices[run.path]
            _say(console, f"repository: {name} by {choice.label}: {choice.why}")
        _say(console, f"repository: {repository.path} for Triton {release.name} ({release.version})")


def _choices(runs: Runs, precision: str, release: Release) -> dict[Path, Choice]:
    return {run.path: chosen(run, precision, release) for _, run in runs}


def _folder_of(runs: Runs) -> Path:
    return runs[0][1].serving if len(runs) == 1 else Path("runs") / "serving"


def serve(
    runs: Runs,
    console: Console,
    *,
    precision: str = "auto",
    ports: Ports,
    folder: Path | None = None,
    in_container: bool = False,
) -> None:
    """Serve runs on this machine's loopback address until SIGINT or SIGTERM, restarting the server when it fails.

    in_container: with NVIDIA's current Triton image under Docker instead of the server for tests.
    """
    release = container_release() if in_container else LOCAL
    choices = _choices(runs, precision, release)
    for choice in choices.values():
        _say(console, f"serve: {choice.label}: {choice.why}")
    ports = ports.chosen()  # a taken port is told before anything is written
    front = Front(ports)
    if in_container:
        inner = front.server_ports.chosen()
        with _repository(runs, choices, folder or _folder_of(runs), release) as repository, front.before(inner):
            _say(console, front.banner())
            _run_container(repository, inner)
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _say(console, WARNING)
    log = runs[0][1].logs / f"triton-{ports.http}.log"  # servers that run beside each other have different ports
    with (
        Workspace() as workspace,
        _repository(runs, choices, folder or workspace.open() / "repository", release) as repository,
        LocalServer(repository.path, Payload(payload_folder()), log, front.server_ports, workspace=workspace) as server,
        front.before(server.ports, workspace.open()),
    ):
        seconds = server.wait_ready()
        _say(console, f"Serving {', '.join(repository.served())}: ready after {seconds:.1f} s, Ctrl-C stops.")
        _say(console, front.banner())
        _say(
            console,
            f"HTTP {front.url('http')}  gRPC {front.url('grpc')}  metrics 127.0.0.1:{server.ports.metrics}/metrics",
        )
        for name, (challenge, run) in zip(_names(runs), runs, strict=True):
            _say(console, f"Try: {example_command(challenge, run, name, front.url('http'))}")
        Supervisor(server, lambda line: _say(console, line), mend=front.mend).run(stop)
    console.print("Stopped.")


def example_command(challenge: Challenge[Any, Any, Any], run: RunDirectory, name: str, url: str) -> str:
    """What to type to ask a run's model that is served under this name."""
    return shlex.join(["kit", "client", "--model", name, *challenge.served.example(run), "--url", url])


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def drive_load(
    generator: LoadGenerator,
    plan: LoadPlan,
    output: Path,
    console: Console,
    record_of: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
    """Send batches to a server at every concurrency and rate, print what came back, write the record.

    record_of: what is written of the generator's record, in the form that records are compared in.
    Raises ServingError, before anything is sent, where `output` is a file that is no such record.
    """
    _refuse_foreign(output)
    with Client(generator.url, generator.protocol) as client:
        client.infer(
            generator.model, generator.batches[0]
        )  # a server that is not there, or a question it refuses, is told before the load
    table = Table("load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "errors")

    def show(step: dict[str, Any]) -> None:
        name = f"{step['concurrency']} at a time" if step["mode"] == "closed" else f"{step['rate']:g}/s"
        latency = step["latency_ms"]
        figures = [f"{latency[name]:.1f}" if latency else "-" for name in ("p50", "p90", "p99")]
        table.add_row(name, f"{step['throughput']:.1f}", *figures, str(sum(step["errors"].values())))

    write_json(output, record_of(generator.run(plan, show)))
    console.print(table)
    _say(console, f"Record: {output}")


def _refuse_foreign(output: Path) -> None:
    """A record takes the place of nothing but an earlier record."""
    if not output.exists():
        return
    with contextlib.suppress(OSError, ValueError, KitError, AttributeError):
        if read_json(output).get("kind") in (LOAD_RECORD, SERVE_RECORD):
            return
    raise ServingError(
        f"{output} is there and is no record of a load.",
        "A record is written where nothing is, or over an earlier one.",
        "Name another file: --output FILE",
    )


def payload_folder() -> Path:
    """Where the server's files are: $CHALLENGE_KIT_TRITON, else .triton in the checkout."""
    return Path(os.environ.get("CHALLENGE_KIT_TRITON", DEFAULT_FOLDER))


def _run_container(repository: ModelRepository, ports: Ports) -> None:
    docker = shutil.which("docker")
    if docker is None:
        raise ServingError("There is no docker on this machine.", remedy="Install it, or leave out --container.")
    for model, packages in repository.needs().items():
        raise ServingError(
            f"{model} needs {packages}, which NVIDIA's image does not have.",
            "The image that the kit builds upon it has them.",
            f"make container3, then: make up3 MODELS={shlex.quote(str(repository.path))}",
        )
    image = read_versions()["TRITON_IMAGE"]
    if warning := unpinned_warning(image):
        print(warning, file=sys.stderr)
    gpus = "all" if repository.device == "gpu" else ""
    command = container_command(image, repository.path, ports=ports, gpus=gpus)
    command = [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), docker, *command[1:]]
    if subprocess.run(command).returncode not in (0, 130):
        raise ServingError("The container ended with an error.", "Its message stands above.", "Is Docker running?")


@contextlib.contextmanager
def _repository(runs: Runs, choices: dict[Path, Choice], folder: Path, release: Release) -> Iterator[ModelRepository]:
    """A fresh repository of the runs, in a folder that nobody else may write while it is served."""
    on_gpu = any(choice.engine == "tensorrt" for choice in choices.values())
    names = _names(runs)
    with claimed(folder, names):
        repository = ModelRepository(folder, "gpu" if on_gpu else "cpu", release)
        for name, (challenge, run) in zip(names, runs, strict=True):
            choice = choices[run.path]
            own = replace(repository, device="gpu" if choice.engine == "tensorrt" else "cpu")
            write_repository(challenge, run, choice, own, name)
        if not repository.models():
            raise ServingError("There is nothing to serve.", remedy="kit serve RUN")
        seal(folder)
        yield repository


def _names(runs: Runs) -> list[str]:
    return served_names([(challenge.model, run.path) for challenge, run in runs])


def served_names(runs: Sequence[tuple[str, Path]]) -> list[str]:
    """A name for each (model, run's folder): the model's, or one made of the folder's where two runs share a model."""
    models = [model for model, _ in runs]
    names: list[str] = []
    for model, path in runs:
        name = model if models.count(model) == 1 else model_slug(path.name) or model
        alike = sum(other == name or other.startswith(f"{name}-copy") for other in names)
        names.append(f"{name}-copy{alike + 1}" if alike else name)
    return names
