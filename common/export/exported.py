"""Which files a run's export has written, of which weights, for which GPU, and what it left out."""

from pathlib import Path
from typing import Any, get_args

from common.export.artefact import Precision, sidecar_path
from common.export.tensorrt import plan_target
from common.export.weights import data_file
from common.files import file_stamp, read_json, write_json
from common.machine.environment import package_versions
from common.machine.precision import cpu_has_bfloat16
from common.run.run_directory import RunDirectory

CPU_ENGINES = ("onnxruntime", "openvino")


def artefact(run: RunDirectory, precision: str, kind: str = "onnx") -> Path:
    return run.export / f"model.{precision}.{kind}"


def stamp(run: RunDirectory) -> dict[str, Any]:
    """What the exported files depend on: the weights and, for plans, GPU and TensorRT; {} where none can be built."""
    return {"weights": list(file_stamp(run.weights_file)), "plans": plan_target()}


def parity_stamp(run: RunDirectory) -> dict[str, Any]:
    """What a comparison of engines depends on: the exported files, and the engines of this machine."""
    record = _record_file(run)
    return {
        **stamp(run),
        "export": list(file_stamp(record)) if record.is_file() else None,
        "engines": {name: version for name, version in package_versions().items() if name in CPU_ENGINES},
        "cpu_bf16": cpu_has_bfloat16(),
    }


def begin_export(run: RunDirectory) -> None:
    """Say that the run's files are those of no weights until `finish_export`."""
    _record_file(run).unlink(missing_ok=True)


def finish_export(run: RunDirectory, left_out: dict[str, str], *, embedding: bool = False) -> None:
    """left_out: precision, or `tensorrt` and a precision -> why it was not written. embedding: see gives_embedding."""
    told = {"embedding": True} if embedding else {}
    write_json(_record_file(run), {**stamp(run), "left_out": left_out, **told})


def gives_embedding(run: RunDirectory) -> bool:
    """Whether the last export's graphs have the embedding as an output of their own."""
    return bool(_record(run).get("embedding", False))


def is_exported(run: RunDirectory) -> bool:
    """Whether the last export was of these weights, for this GPU and TensorRT, and all its files are there."""
    if not has_graphs(run) or _record(run).get("plans") != plan_target():
        return False
    absent = left_out_of(run)
    wanted = get_args(Precision) if plan_target() else ()
    return all(
        artefact(run, precision, "plan").is_file() or {precision, f"tensorrt {precision}"} & absent.keys()
        for precision in wanted
    )


def has_graphs(run: RunDirectory) -> bool:
    """Whether the last export was of these weights and its ONNX files, which any machine's engines read, are there."""
    if _record(run).get("weights") != stamp(run)["weights"]:
        return False
    absent = left_out_of(run)
    return all(artefact(run, precision).is_file() or precision in absent for precision in get_args(Precision))


def left_out_of(run: RunDirectory) -> dict[str, str]:
    """What the last export left out, and why: a precision, or a precision of TensorRT's, such as `tensorrt bf16`."""
    return dict(_record(run).get("left_out") or {})


def forget(run: RunDirectory, precision: Precision) -> None:
    """Remove what an earlier or a failed export wrote in this precision."""
    for path in (artefact(run, precision), artefact(run, precision, "plan")):
        forget_file(path)


def forget_file(path: Path) -> None:
    """Remove an exported file and its record."""
    path.unlink(missing_ok=True)
    data_file(path).unlink(missing_ok=True)
    sidecar_path(path).unlink(missing_ok=True)


def _record(run: RunDirectory) -> dict[str, Any]:
    """What the last export wrote; nothing where none ended."""
    found = read_json(_record_file(run)) if _record_file(run).is_file() else {}
    return found if isinstance(found, dict) else {}


def _record_file(run: RunDirectory) -> Path:
    return run.export / "export.json"
