"""From trained weights to a served model: export, proof of parity, and a repository for Triton."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console

from common.challenge import Challenge
from common.console import say
from common.errors import DamagedFileError, ServingError
from common.export.artefact import Precision, read_sidecar, write_sidecar
from common.export.latency import Latency, fastest, measure_latencies
from common.export.lint import lint
from common.export.onnx import OPSET, convert_precision, export_onnx, quantize_int8
from common.export.parity import Judged, ParityTable, compare
from common.export.runner import Arrays, OnnxRunner, OpenVinoRunner, Runner, TensorRtRunner, TorchRunner
from common.export.tensorrt import build_plan
from common.files import read_json, write_json
from common.precision import cpu_has_bfloat16
from common.run_directory import RunDirectory
from common.serving.config import Engine, EngineOptions
from common.serving.repository import ModelRepository
from common.task import Task

CALIBRATION_SAMPLES = 256  # training samples whose ranges INT8 is calibrated on
JUDGED_SAMPLES = 2000  # validation samples, at most, that every engine answers
BATCHES = (1, 7)  # batch sizes compared besides the largest: one, and an odd one
OPTIONAL = ("int8",)  # precisions that may fail without ending the walk
SERVED_AGREEMENT = 0.995  # same answers of an engine that is served unasked
LATENCY_SECONDS = 1.0  # measured per engine


@dataclass(frozen=True)
class Choice:
    """The engine and precision that a run is served with, and why."""

    engine: Engine
    precision: Precision
    why: str

    @property
    def label(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Trained:
    """A run's weights in a task ready to answer, with its data."""

    challenge: Challenge[Any, Any]
    run: RunDirectory
    recipe: Any
    data: Any
    task: Task

    @classmethod
    def load(cls, challenge: Challenge[Any, Any], run: RunDirectory) -> "Trained":
        recipe = run.recipe(challenge.recipe_class)
        run.require_weights()
        data = challenge.open_data(recipe, run.data, torch.device("cpu"))
        task = challenge.build_task(recipe, data)
        challenge.load_weights(task, run.weights_file)
        return cls(challenge, run, recipe, data, task.eval())

    def reference(self) -> TorchRunner:
        return TorchRunner(self.task.inference_module(), self.task.signature())

    def inputs(self, split: str, limit: int) -> Iterator[tuple[Arrays, dict[str, np.ndarray]]]:
        """Model inputs and labels of the first samples of a split, in batches."""
        return self.challenge.labelled_inputs(self.data, split, limit)

    def judge(self, runner: Runner) -> Judged:
        return self.challenge.judge(runner, self.inputs("val", JUDGED_SAMPLES), self.data)


def artefact(run: RunDirectory, precision: str, kind: str = "onnx") -> Path:
    return run.export / f"model.{precision}.{kind}"


def export(challenge: Challenge[Any, Any], run: RunDirectory, console: Console) -> None:
    """Write the run's ONNX graphs in every precision, and TensorRT plans where there is a GPU."""
    run.require_weights()
    stamp = run.export / "export.json"
    if stamp.is_file() and read_json(stamp) == _stamp(run) and not _missing(run):
        console.print("export: nothing changed since the last export.")
        return
    trained = Trained.load(challenge, run)
    module, signature = trained.task.inference_module().eval(), trained.task.signature()
    example = {name: torch.from_numpy(array) for name, array in _first(trained, signature.batch.optimum).items()}
    preprocessing, class_names = challenge.contract(trained.recipe, trained.data)
    metrics = run.evaluation()["metrics"] if run.evaluation_file.is_file() else {}
    stamp.unlink(missing_ok=True)
    fp32 = artefact(run, "fp32")
    for precision in get_args(Precision):
        path = artefact(run, precision)
        if precision == "fp32":
            export_onnx(module, signature, path, example=example)
        elif precision == "int8":
            quantize_int8(fp32, path, (arrays for arrays, _ in trained.inputs("train", CALIBRATION_SAMPLES)))
        else:
            convert_precision(fp32, path, precision, example=example)
        problems = lint(path)
        if problems:
            raise ServingError(f"{path.name} is not fit for TensorRT: {'; '.join(problems[:3])}.")
        write_sidecar(
            path, precision=precision, opset=OPSET, signature=signature, preprocessing=preprocessing,
            class_names=class_names, metrics=metrics,
        )  # fmt: skip
        say(console, f"export: {path} ({path.stat().st_size / 1e6:.1f} MB)")
        if _can_build_plans():
            build_plan(path, artefact(run, precision, "plan"), timing_cache=run.export / "timing.cache")
    write_json(stamp, _stamp(run))


def parity(challenge: Challenge[Any, Any], run: RunDirectory, console: Console) -> Choice:
    """Hold every engine against the trained module, measure their speed, and choose the one to serve.

    An INT8 graph outside its tolerance is not served; how well INT8 does depends on the data.
    Raises ParityError, after the table was printed and recorded, where any other engine is outside its tolerance.
    """
    run.require_weights()
    if run.parity_file.is_file() and (known := _parity_record(run))["stamp"] == _stamp(run):
        console.print("parity: nothing changed since the last comparison.")
        return Choice(**known["choice"])
    trained = Trained.load(challenge, run)
    largest = trained.task.signature().batch.maximum
    samples = _first(trained, largest)
    count = len(next(iter(samples.values())))
    sizes = sorted({min(size, count) for size in (*BATCHES, largest)})
    inputs = {size: {name: array[:size] for name, array in samples.items()} for size in sizes}
    with contextlib.ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in engines(run)]
        table = compare(trained.reference(), runners, inputs, judge=trained.judge, comparison=challenge.comparison())
        latencies = measure_latencies(runners, inputs[sizes[0]], seconds=LATENCY_SECONDS)
    table.print(console)
    choice = _choose(table, latencies)
    required = replace(table, rows=tuple(row for row in table.rows if row.precision not in OPTIONAL))
    table.write_record(run.parity_file)
    write_json(
        run.parity_file,
        {
            **read_json(run.parity_file),
            "latency_batch_1": {label: asdict(latency) for label, latency in latencies.items()},
            "choice": asdict(choice) if choice else None,
            "stamp": _stamp(run) if required.passed else None,
        },
    )
    required.require()
    dropped = sorted({row.label for row in table.rows if not row.passed})
    if dropped:
        console.print(f"parity: not served, since they differ too much: {', '.join(dropped)}", soft_wrap=True)
    assert choice is not None, "where float32 passed, an engine passed"
    console.print(f"parity: serving {choice.label}: {choice.why}", soft_wrap=True)
    return choice


def engines(run: RunDirectory) -> Iterable[Runner]:
    """Every engine that this machine has for the run's artefacts, checked against their checksums."""
    for precision in get_args(Precision):
        read_sidecar(artefact(run, precision))
    yield OnnxRunner(artefact(run, "fp32"))
    yield OnnxRunner(artefact(run, "int8"), precision="int8")
    yield OpenVinoRunner(artefact(run, "fp32"))
    yield OpenVinoRunner(artefact(run, "fp16"), precision="fp16")
    if cpu_has_bfloat16():
        yield OpenVinoRunner(artefact(run, "bf16"), precision="bf16")
    yield OpenVinoRunner(artefact(run, "int8"), precision="int8")
    if _can_build_plans():
        yield from (TensorRtRunner(artefact(run, precision, "plan")) for precision in get_args(Precision))


def write_repository(
    challenge: Challenge[Any, Any], run: RunDirectory, choice: Choice, repository: ModelRepository, name: str
) -> None:
    """Add the run's model to a repository, with its preprocessing, labels and limits."""
    path = artefact(run, choice.precision, "plan" if choice.engine == "tensorrt" else "onnx")
    options = EngineOptions(bfloat16=choice.precision == "bf16")
    challenge.add_to_repository(repository, name, path, read_sidecar(path), choice.engine, options, run)


def chosen(run: RunDirectory, precision: str) -> Choice:
    """What to serve: the fastest engine that passed, or the fastest that passed in one precision.

    Raises ServingError where parity was not proven, or not in that precision.
    """
    if not run.parity_file.is_file() or _parity_record(run)["stamp"] is None:
        raise ServingError(
            f"{run.path} has no export that was proven equal to the trained model.", remedy=f"kit parity {run.path}"
        )
    record = _parity_record(run)
    if precision == "auto":
        return Choice(**record["choice"])
    failed = {f"{row['engine']} {row['precision']}" for row in record["rows"] if not row["passed"]}
    speeds = {
        label: latency["p50_ms"]
        for label, latency in record["latency_batch_1"].items()
        if label.split()[1] == precision and label not in failed
    }
    if not speeds:
        raise ServingError(
            f"{run.path} has no engine in {precision} that passed parity on this machine.",
            f"There are: {', '.join(label for label in record['latency_batch_1'] if label not in failed)}.",
        )
    engine, found = min(speeds, key=lambda label: speeds[label]).split()
    return Choice(engine, found, f"the fastest in {precision}")  # type: ignore[arg-type]


def _choose(table: ParityTable, latencies: dict[str, Latency]) -> Choice | None:
    """The fastest engine that passed and hardly ever decides differently; a rougher one is served on request only."""
    agreement = {row.label: row.agreement for row in table.rows}
    label = fastest(latencies, [label for label in table.passing() if agreement[label] >= SERVED_AGREEMENT])
    if label is None:
        return None
    engine, precision = label.split()
    why = (
        f"{latencies[label].p50_ms:.1f} ms for one sample, the fastest with {SERVED_AGREEMENT:.1%} same answers or more"
    )
    return Choice(engine, precision, why)  # type: ignore[arg-type]


def _first(trained: Trained, count: int) -> Arrays:
    """The model inputs of the first `count` validation samples."""
    parts = [arrays for arrays, _ in trained.inputs("val", count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _missing(run: RunDirectory) -> Sequence[Path]:
    return [path for precision in get_args(Precision) if not (path := artefact(run, precision)).is_file()]


def _parity_record(run: RunDirectory) -> dict[str, Any]:
    """What `parity` wrote; raises DamagedFileError."""
    record = read_json(run.parity_file)
    if not isinstance(record, dict) or not {"stamp", "choice", "rows", "latency_batch_1"} <= record.keys():
        raise DamagedFileError(run.parity_file, "it lacks fields", f"Delete it, then: kit parity {run.path}")
    return record


def _stamp(run: RunDirectory) -> dict[str, Any]:
    """What the exported files depend on."""
    facts = run.weights_file.stat()
    return {"weights": [facts.st_size, facts.st_mtime_ns]}


def _can_build_plans() -> bool:
    import importlib.util

    return torch.cuda.is_available() and importlib.util.find_spec("tensorrt") is not None
