"""Which files a run's export has written, of which weights, and which precisions it left out."""

from pathlib import Path
from typing import Any, get_args

from common.export.artefact import Precision, sidecar_path
from common.files import file_stamp, read_json, write_json
from common.run.run_directory import RunDirectory


def artefact(run: RunDirectory, precision: str, kind: str = "onnx") -> Path:
    return run.export / f"model.{precision}.{kind}"


def stamp(run: RunDirectory) -> dict[str, Any]:
    """What the exported files depend on."""
    return {"weights": list(file_stamp(run.weights_file))}


def begin_export(run: RunDirectory) -> None:
    """Say that the run's files are those of no weights until `finish_export`."""
    _record_file(run).unlink(missing_ok=True)


def finish_export(run: RunDirectory, left_out: dict[str, str]) -> None:
    """left_out: precision, or `tensorrt` and a precision -> why it was not written."""
    write_json(_record_file(run), {**stamp(run), "left_out": left_out})


def is_exported(run: RunDirectory) -> bool:
    """Whether the last export was of these weights and all its files are there."""
    if not _record_file(run).is_file():
        return False
    record = read_json(_record_file(run))
    if not isinstance(record, dict) or record != {**stamp(run), "left_out": record.get("left_out")}:
        return False
    absent = left_out_of(run)
    return all(artefact(run, precision).is_file() or precision in absent for precision in get_args(Precision))


def left_out_of(run: RunDirectory) -> dict[str, str]:
    """What the last export left out, and why: a precision, or a precision of TensorRT's, such as `tensorrt bf16`."""
    path = _record_file(run)
    return dict(read_json(path).get("left_out") or {}) if path.is_file() else {}


def forget(run: RunDirectory, precision: Precision) -> None:
    """Remove what an earlier or a failed export wrote in this precision."""
    for path in (artefact(run, precision), artefact(run, precision, "plan")):
        forget_file(path)


def forget_file(path: Path) -> None:
    """Remove an exported file and its record."""
    path.unlink(missing_ok=True)
    sidecar_path(path).unlink(missing_ok=True)


def _record_file(run: RunDirectory) -> Path:
    return run.export / "export.json"
