"""From an export to a served model: proof of parity, the engine to serve, and a repository for Triton."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console

from common.challenge import Challenge, Trained
from common.errors import DamagedFileError, ServingError, TrainingError
from common.export.artefact import Precision, read_sidecar
from common.export.exported import artefact, left_out_of, parity_stamp
from common.export.latency import Latency, fastest, measure_latencies
from common.export.lint import has_data_dependent_work
from common.export.parity import Judged, ParityTable, compare
from common.export.runner import Arrays, InParts, OnnxRunner, OpenVinoRunner, Runner, TensorRtRunner
from common.export.signature import Signature
from common.export.tensorrt import plan_target
from common.export.weights import fits_a_message, total_bytes
from common.failures import explain, first_line
from common.files import read_json, write_json
from common.language.telling import english
from common.machine.precision import cpu_has_bfloat16
from common.run.run_directory import RunDirectory
from common.serving.config import DEFAULT_BATCHING, GPU_BATCHING, Engine, EngineOptions
from common.serving.releases import Release
from common.serving.repository import Exported, ModelRepository
from common.stages.exporting import REQUIRED, first_inputs

BATCHES = (1, 7)  # batch sizes compared besides the largest: one, and an odd one
SERVED_AGREEMENT = 0.995  # same answers of an engine that is served unasked
BESIDE_PLANS = english("TensorRT serves on this GPU, and onnxruntime fp32 where it is missing")
LATENCY_SECONDS = 0.4  # measured per engine


@dataclass(frozen=True)
class Choice:
    """The engine and precision that a run is served with, and why."""

    engine: Engine
    precision: Precision
    why: str

    @property
    def label(self) -> str:
        return f"{self.engine} {self.precision}"


def parity(challenge: Challenge[Any, Any, Any], run: RunDirectory, console: Console) -> Choice:
    """Hold every engine against the trained module, measure their speed, and choose the one to serve.

    A reduced precision outside its tolerance is dropped, with its reason in the table: how well it does depends on the
    data. Raises ParityError, after the table was printed and recorded, where an engine in fp32 is outside its own.
    """
    run.require_weights()
    if run.parity_file.is_file() and (known := _parity_record(run))["stamp"] == parity_stamp(run):
        console.print("parity: nothing changed since the last comparison.")
        return Choice(**known["choice"])
    trained = Trained.load(challenge, run)
    signature = trained.task.signature()
    largest = (signature.of_plan() if plan_target() else signature).batch.maximum
    samples = first_inputs(trained, largest)
    count = len(next(iter(samples.values())))
    sizes = sorted({min(size, count) for size in (*BATCHES, largest)})
    inputs = {size: {name: array[:size] for name, array in samples.items()} for size in sizes}
    left_out: dict[str, str] = {}

    def judge(runner: Runner) -> Judged:
        return trained.judge(InParts(runner, largest), limit=challenge.served.judged_samples)

    hold = functools.partial(
        compare, trained.reference(_device()), inputs=inputs, judge=judge, comparison=challenge.served.comparison()
    )
    table, latencies = _compared(hold, run, inputs[sizes[0]], left_out)
    table = replace(table, left_out={**left_out, **table.left_out})
    table.print(console)
    choice = _choose(table, latencies)
    required = replace(table, rows=tuple(row for row in table.rows if row.precision == REQUIRED))
    table.write_record(run.parity_file)
    write_json(
        run.parity_file,
        {
            **read_json(run.parity_file),
            "latency_batch_1": {label: asdict(latency) for label, latency in latencies.items()},
            "choice": asdict(choice) if choice else None,
            "stamp": parity_stamp(run) if required.passed else None,
        },
    )
    required.require()
    dropped = sorted({row.label for row in table.rows if not row.passed} | table.left_out.keys())
    if dropped:
        console.print(f"parity: not served, as the table says: {', '.join(dropped)}", soft_wrap=True)
    assert choice is not None, "where float32 passed, an engine passed"
    console.print(f"parity: serving {choice.label}: {choice.why}", soft_wrap=True)
    return choice


def _compared(
    hold: Callable[[Iterable[Runner]], ParityTable], run: RunDirectory, inputs: Arrays, left_out: dict[str, str]
) -> tuple[ParityTable, dict[str, Latency]]:
    """What `hold` says of every engine that the run has here, and the latencies of those that answer."""
    graph = artefact(run, REQUIRED)
    if graph.is_file() and not fits_a_message(total_bytes(graph)):
        latencies: dict[str, Latency] = {}
        return hold(_one_by_one(engines(run, left_out), inputs, latencies)), latencies
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in engines(run, left_out)]
        table = hold(runners)
        answering = [runner for runner in runners if runner.label not in table.left_out]
        return table, measure_latencies(answering, inputs, seconds=LATENCY_SECONDS)


def _one_by_one(runners: Iterator[Runner], inputs: Arrays, latencies: dict[str, Latency]) -> Iterator[Runner]:
    """The engines, each measured once it was compared and let go before the next one is loaded.

    So memory holds one engine's tables of gigabytes, where those of small models are measured side by side.
    latencies: receives label -> latency of each engine that answers.
    """
    for runner in runners:
        with runner:
            yield runner
            with contextlib.suppress(Exception):  # the comparison tells why one cannot answer
                latencies |= measure_latencies([runner], inputs, seconds=LATENCY_SECONDS)


def engines(run: RunDirectory, left_out: dict[str, str] | None = None) -> Iterator[Runner]:
    """Every engine that this machine has for the run's artefacts, checked against their checksums.

    left_out: receives label -> why of each engine that is skipped: it has no graph or plan here, or does not load it.
    """
    absent = left_out_of(run)
    told = {} if left_out is None else left_out
    loaders = list(_loaders())
    if any(engine == "tensorrt" and artefact(run, precision, "plan").is_file() for engine, precision, _ in loaders):
        told |= {
            f"{engine} {precision}": BESIDE_PLANS for engine, precision, _ in loaders if not _counts(engine, precision)
        }
        loaders = [loader for loader in loaders if _counts(*loader[:2])]
    for engine, precision, load in loaders:
        label = f"{engine} {precision}"
        if reason := absent.get(label) or absent.get(precision):
            told[label] = reason
            continue
        path = artefact(run, precision, "plan" if engine == "tensorrt" else "onnx")
        read_sidecar(artefact(run, precision))
        try:
            if engine == "tensorrt" and not path.is_file():
                raise ServingError("no plan was built on this machine", remedy=f"kit export {run.path}")
            runner = load(path)
        except Exception as error:  # TensorRT's bindings raise what they like
            if (precision == REQUIRED and engine != "tensorrt") or isinstance(explain(error), TrainingError):
                raise
            told[label] = first_line(error)
            continue
        yield runner


def load_engine(run: RunDirectory, choice: Choice) -> Runner:
    """One engine of this machine with the run's artefact, checked against its checksum.

    Raises ServingError where the machine has no such engine, or it does not load the file.
    """
    loaders = {f"{engine} {precision}": load for engine, precision, load in _loaders()}
    if choice.label not in loaders:
        raise ServingError(
            f"{choice.label} was chosen for {run.path}, and this machine has no such engine.",
            f"It has {', '.join(loaders)}.",
            f"Choose anew: kit parity {run.path}",
        )
    read_sidecar(artefact(run, choice.precision))
    return loaders[choice.label](artefact(run, choice.precision, "plan" if choice.engine == "tensorrt" else "onnx"))


def _counts(engine: Engine, precision: Precision) -> bool:
    """Whether an engine may be served where there are plans: by TensorRT, or by a server that has none."""
    return engine == "tensorrt" or (engine, precision) == ("onnxruntime", REQUIRED)


def _device() -> torch.device:
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def _loaders() -> Iterator[tuple[Engine, Precision, Callable[[Path], Runner]]]:
    """The engines of this machine, each with what loads an artefact into it."""
    yield "onnxruntime", "fp32", OnnxRunner
    yield "onnxruntime", "int8", functools.partial(OnnxRunner, precision="int8")
    for precision in get_args(Precision):
        if precision != "bf16" or cpu_has_bfloat16():
            yield "openvino", precision, functools.partial(OpenVinoRunner, precision=precision)
    if plan_target():
        yield from (("tensorrt", precision, TensorRtRunner) for precision in get_args(Precision))


def withdraw(run: RunDirectory, choice: Choice, reason: str) -> Choice:
    """Record that a reduced precision failed once it was served, and return the fastest engine in fp32 instead."""
    record = _parity_record(run)
    rows = [
        {**row, "passed": False, "failures": [*row["failures"], reason]}
        if (row["engine"], row["precision"]) == (choice.engine, choice.precision)
        else row
        for row in record["rows"]
    ]
    write_json(run.parity_file, {**record, "rows": rows, "passed": False})
    chosen_instead = replace(
        chosen(run, REQUIRED), why=english("since {label} failed once it was served", label=choice.label)
    )
    write_json(run.parity_file, {**_parity_record(run), "choice": asdict(chosen_instead)})
    return chosen_instead


def write_repository(
    challenge: Challenge[Any, Any, Any], run: RunDirectory, choice: Choice, repository: ModelRepository, name: str
) -> None:
    """Add the run's model to a repository, with its preprocessing, labels and limits."""
    path = artefact(run, choice.precision, "plan" if choice.engine == "tensorrt" else "onnx")
    sidecar = read_sidecar(path)
    exported = Exported(
        artefact=path,
        signature=sidecar.signature,
        engine=choice.engine,
        options=_options(run, choice, sidecar.signature),
        batching=GPU_BATCHING if choice.engine == "tensorrt" else DEFAULT_BATCHING,
    )
    challenge.served.add_to_repository(repository, name, exported, sidecar.class_names, run)


def _options(run: RunDirectory, choice: Choice, signature: Signature) -> EngineOptions:
    """On a GPU two batches at a time, so that one is copied while the other is computed."""
    if choice.engine != "tensorrt":
        return EngineOptions(bfloat16=choice.precision == "bf16")
    varies = bool(signature.free) or has_data_dependent_work(artefact(run, choice.precision))
    return EngineOptions(instances=2, graphs=not varies)


def chosen(run: RunDirectory, precision: str, release: Release | None = None) -> Choice:
    """What to serve: the fastest engine that passed, or the fastest that passed in one precision.

    release: the server, which may not have every engine; the reason of the choice then names what it does not have.
    Raises ServingError where parity was not proven, or not in that precision, or by no engine that the server has.
    """
    if not run.parity_file.is_file() or _parity_record(run)["stamp"] is None:
        raise ServingError(
            f"{run.path} has no export that was proven equal to the trained model.", remedy=f"kit parity {run.path}"
        )
    record = _parity_record(run)
    recorded = Choice(**record["choice"])
    if precision == "auto" and not _refusal(run, recorded.label, release):
        return recorded
    passed = _speeds(record)
    wanted = [
        label for label in passed if precision in (label.split()[1], "auto") and _is_close(record, label, precision)
    ]
    refused = {label: reason for label in wanted if (reason := _refusal(run, label, release))}
    served = [label for label in wanted if label not in refused]
    if not served:
        raise ServingError(
            f"{run.path} has no engine in {precision} that passed parity on this machine"
            f"{' and that the server has' if refused else ''}.",
            "; ".join(dict.fromkeys(refused.values())) or f"There are: {', '.join(passed)}.",
        )
    engine, found = served[0].split()
    instead = f"; {wanted[0]} is faster, but {refused[wanted[0]]}" if wanted[0] in refused else ""
    return Choice(engine, found, f"the fastest in {found}{instead}")  # type: ignore[arg-type]


def _speeds(record: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds for one sample of every engine that passed, the fastest first."""
    failed = {f"{row['engine']} {row['precision']}" for row in record["rows"] if not row["passed"]}
    speeds = {label: latency["p50_ms"] for label, latency in record["latency_batch_1"].items() if label not in failed}
    return dict(sorted(speeds.items(), key=lambda item: item[1]))


def _is_close(record: Mapping[str, Any], label: str, precision: str) -> bool:
    """Whether an engine may serve unasked; one that was asked for by its precision may in any case."""
    agreement = {f"{row['engine']} {row['precision']}": row["agreement"] or 0.0 for row in record["rows"]}
    return precision != "auto" or label.endswith(REQUIRED) or agreement[label] >= SERVED_AGREEMENT


def _refusal(run: RunDirectory, label: str, release: Release | None) -> str:
    """Why the server does not run an engine; empty where it does, or where no server was named."""
    if release is None:
        return ""
    engine, precision = label.split()
    if engine == "tensorrt" and engine in release.engines:
        return release.refusal("tensorrt", read_sidecar(artefact(run, precision, "plan")).target["tensorrt"])
    return release.refusal(engine)  # type: ignore[arg-type]


def _choose(table: ParityTable, latencies: dict[str, Latency]) -> Choice | None:
    """The fastest engine that passed and hardly ever decides differently; a rougher one is served on request only."""
    agreement = {row.label: row.agreement for row in table.rows}
    passing = table.passing()
    close = [label for label in passing if agreement[label] >= SERVED_AGREEMENT]
    label = fastest(latencies, close or [label for label in passing if label.endswith(REQUIRED)])
    if label is None:
        return None
    engine, precision = label.split()
    rule = (
        english("the fastest with {served_agreement:.1%} same answers or more", served_agreement=SERVED_AGREEMENT)
        if close
        else english("the fastest in {required}", required=REQUIRED)
    )
    why = english("{p50_ms:.1f} ms for one sample, {rule}", p50_ms=latencies[label].p50_ms, rule=rule)
    return Choice(engine, precision, why)  # type: ignore[arg-type]


def _parity_record(run: RunDirectory) -> dict[str, Any]:
    """What `parity` wrote; raises DamagedFileError."""
    record = read_json(run.parity_file)
    if not isinstance(record, dict) or not {"stamp", "choice", "rows", "latency_batch_1"} <= record.keys():
        raise DamagedFileError(run.parity_file, "it lacks fields", f"Delete it, then: kit parity {run.path}")
    return record
