"""From trained weights to ONNX graphs and TensorRT plans."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console

from common.challenge import Challenge, Trained
from common.errors import KitError, ServingError, TrainingError
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
)
from common.export.lint import begin_lint
from common.export.muted_tools import scratch_folder
from common.export.onnx import OPSET, export_onnx
from common.export.precisions import convert_precision, quantize_int8
from common.export.runner import Arrays
from common.export.tensorrt import build_plan, plan_target
from common.export.weights import total_bytes
from common.failures import explain, first_line
from common.run.run_directory import RunDirectory
from common.terminal.console import say

CALIBRATION_SAMPLES = 128  # training samples whose ranges INT8 is calibrated on
REQUIRED = "fp32"  # the precision that must answer as the trained module does; any other one may be left out


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
    graphs = _written(trained) if left_before is None else _kept(left_before)
    for precision, reason in graphs:
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


def _kept(left_out: dict[str, str]) -> Iterator[tuple[Precision, str]]:
    """As `_written` gave it, of graphs that stay."""
    return ((precision, left_out.get(precision, "")) for precision in get_args(Precision))


def _written(trained: Trained[Any, Any, Any]) -> Iterator[tuple[Precision, str]]:
    """Write the graphs: each precision and why it cannot be had, or nothing.

    A graph is linted, mostly by a process of polygraphy's, while the next one is written.
    """
    before: tuple[Precision, Callable[[], str]] | None = None
    for precision in get_args(Precision):
        verdict = _begin_graph(trained, precision)
        if before is not None:
            yield before[0], before[1]()
        before = precision, verdict
    if before is not None:
        yield before[0], before[1]()


def _begin_graph(trained: Trained[Any, Any, Any], precision: Precision) -> Callable[[], str]:
    """Write a graph and begin to lint it; the call that is returned waits for the reason why it cannot be had."""
    path, required = artefact(trained.run, precision), precision == REQUIRED
    reason = _hindrance(_write_graph, trained, precision, required=required)
    if reason:
        return lambda: reason
    problems = begin_lint(path)
    return lambda: _hindrance(_require_none, path, problems, required=required)


def _require_none(path: Path, problems: Callable[[], list[str]]) -> None:
    found = problems()
    if found:
        raise ServingError(f"{path.name} is not fit for TensorRT: {'; '.join(found[:3])}.")


def _hindrance(write: Callable[..., None], *arguments: Any, required: bool = False) -> str:
    """Call `write`; returns why it could not, or nothing. A lack of memory or of room on the disk is raised."""
    try:
        write(*arguments)
    except Exception as error:  # ModelOpt, TensorRT and what they call raise families of their own
        if required or isinstance(explain(error), TrainingError):
            raise
        return first_line(error)
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
    return {name: torch.from_numpy(array) for name, array in first_inputs(trained, count).items()}


def first_inputs(trained: Trained[Any, Any, Any], count: int) -> Arrays:
    """The model inputs of the first `count` validation samples."""
    parts = [arrays for arrays, _ in trained.inputs("val", count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
