"""From trained weights to a served model: export, proof of parity, and a repository for Triton."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console

from common.challenge import Challenge, Trained
from common.errors import DamagedFileError, KitError, ServingError, TrainingError
from common.export.artefact import Precision, read_sidecar, write_sidecar
from common.export.exported import (
    artefact,
    begin_export,
    finish_export,
    forget,
    forget_file,
    gives_embedding,
    has_graphs,
    is_exported,
    left_out_of,
    parity_stamp,
)
from common.export.latency import Latency, fastest, measure_latencies
from common.export.lint import has_data_dependent_work, lint
from common.export.muted_tools import scratch_folder
from common.export.onnx import OPSET, export_onnx
from common.export.parity import Judged, ParityTable, compare
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import Arrays, InParts, OnnxRunner, OpenVinoRunner, Runner, TensorRtRunner
from common.export.signature import Signature
from common.export.tensorrt import build_plan, plan_target
from common.export.weights import fits_a_message, total_bytes
from common.failures import explain
from common.files import read_json, write_json
from common.language.telling import english
from common.machine.precision import cpu_has_bfloat16
from common.run.run_directory import RunDirectory
from common.serving.config import DEFAULT_BATCHING, GPU_BATCHING, Engine, EngineOptions
from common.serving.releases import Release
from common.serving.repository import Exported, ModelRepository
from common.terminal.console import say

CALIBRATION_SAMPLES = 128  # training samples whose ranges INT8 is calibrated on
JUDGED_SAMPLES = 2000  # validation samples, at most, that every engine answers
BATCHES = (1, 7)  # batch sizes compared besides the largest: one, and an odd one
REQUIRED = "fp32"  # the precision that must answer as the trained module does; any other one may be left out
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


def export(
    challenge: Challenge[Any, Any, Any], run: RunDirectory, console: Console, *, embedding: bool | None = None
) -> None:
    """Write the run's ONNX graphs in every precision, and TensorRT plans where there is a GPU.

    A reduced precision that cannot be made of this model is left out and said so, and so is a plan that cannot be built
    of it here: another engine serves then.

    embedding: whether the graphs also give what tells samples apart; None: as the last export did, at first not.
    Raises KitError where the model has no such layer.
    """
    run.require_weights()
    gave = gives_embedding(run)
    gives = gave if embedding is None else embedding
    if is_exported(run) and gives == gave:
        console.print("export: nothing changed since the last export.")
        return
    if torch.cuda.is_available() and not plan_target():
        say(console, "export: there is a GPU and no TensorRT, so that the CPU will serve: kit doctor tells more.")
    trained = Trained.load(challenge, run)
    if gives and not trained.task.can_embed:
        raise KitError(
            f"{challenge.model} was asked for an embedding.", "Classifiers have one.", "Leave out --embedding."
        )
    trained.task.gives_embedding = gives
    left_before = (
        left_out_of(run) if has_graphs(run) and gives == gave else None
    )  # then plans alone are made anew, for this machine
    begin_export(run)
    left_out: dict[str, str] = {}
    for precision in get_args(Precision):
        if left_before is None:
            reason = _hindrance(_write_graph, trained, precision, required=precision == REQUIRED)
        else:
            reason = left_before.get(precision, "")
        if reason:
            left_out[precision] = reason
            forget(run, precision)
            say(console, f"export: {precision} is left out: {reason}")
            continue
        path = artefact(run, precision)
        say(console, f"export: {path} ({total_bytes(path) / 1e6:.1f} MB)")
        if plan_target() and (reason := _hindrance(_write_plan, trained, precision)):
            left_out[f"tensorrt {precision}"] = reason
            say(console, f"export: tensorrt {precision} is left out: {reason}")
    finish_export(run, left_out, embedding=gives)


def _hindrance(write: Callable[..., None], *arguments: Any, required: bool = False) -> str:
    """Call `write`; returns why it could not, or nothing. A lack of memory or of room on the disk is raised."""
    try:
        write(*arguments)
    except Exception as error:  # ModelOpt, TensorRT and what they call raise families of their own
        if required or isinstance(explain(error), TrainingError):
            raise
        return _first_line(error)
    return ""


def _write_graph(trained: Trained[Any, Any, Any], precision: Precision) -> None:
    run, signature = trained.run, trained.task.signature()
    path, fp32 = artefact(run, precision), artefact(run, "fp32")
    example = _example(trained)
    if precision == "fp32":
        export_onnx(trained.task.inference_module().eval(), signature, path, example=example)
    elif precision == "int8":
        quantize_int8(fp32, path, (arrays for arrays, _ in trained.inputs("train", CALIBRATION_SAMPLES)))
    else:
        convert_precision(fp32, path, precision, example=example)
    problems = lint(path)
    if problems:
        raise ServingError(f"{path.name} is not fit for TensorRT: {'; '.join(problems[:3])}.")
    preprocessing, class_names = trained.challenge.served.contract(trained.recipe, trained.data)
    write_sidecar(
        path, precision=precision, opset=OPSET, signature=signature, preprocessing=preprocessing,
        class_names=class_names, metrics=run.evaluation()["metrics"] if run.evaluation_file.is_file() else {},
    )  # fmt: skip


def _write_plan(trained: Trained[Any, Any, Any], precision: Precision) -> None:
    run = trained.run
    plan = artefact(run, precision, "plan")
    forget_file(plan)
    with scratch_folder() as folder:
        source = _fp16_remainder(trained, folder) if precision == "int8" else artefact(run, precision)
        build_plan(source, plan, timing_cache=run.export / "timing.cache")


def _fp16_remainder(trained: Trained[Any, Any, Any], folder: Path) -> Path:
    """The INT8 graph with float16 where it leaves float32, which tensor cores multiply; on a CPU it would be slower."""
    source = artefact(trained.run, "int8")
    sidecar = read_sidecar(source)
    path = convert_precision(source, folder / source.name, "fp16", example=_example(trained))
    write_sidecar(
        path, precision="int8", opset=sidecar.opset, signature=sidecar.signature, metrics=sidecar.metrics,
        preprocessing=sidecar.preprocessing, class_names=sidecar.class_names,
    )  # fmt: skip
    return path


def _example(trained: Trained[Any, Any, Any]) -> dict[str, torch.Tensor]:
    count = trained.task.signature().batch.optimum
    return {name: torch.from_numpy(array) for name, array in _first(trained, count).items()}


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
    samples = _first(trained, largest)
    count = len(next(iter(samples.values())))
    sizes = sorted({min(size, count) for size in (*BATCHES, largest)})
    inputs = {size: {name: array[:size] for name, array in samples.items()} for size in sizes}
    left_out: dict[str, str] = {}

    def judge(runner: Runner) -> Judged:
        return trained.judge(InParts(runner, largest), limit=JUDGED_SAMPLES)

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
            told[label] = _first_line(error)
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


def _first(trained: Trained[Any, Any, Any], count: int) -> Arrays:
    """The model inputs of the first `count` validation samples."""
    parts = [arrays for arrays, _ in trained.inputs("val", count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _first_line(error: Exception) -> str:
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return told or type(error).__name__


def _parity_record(run: RunDirectory) -> dict[str, Any]:
    """What `parity` wrote; raises DamagedFileError."""
    record = read_json(run.parity_file)
    if not isinstance(record, dict) or not {"stamp", "choice", "rows", "latency_batch_1"} <= record.keys():
        raise DamagedFileError(run.parity_file, "it lacks fields", f"Delete it, then: kit parity {run.path}")
    return record
