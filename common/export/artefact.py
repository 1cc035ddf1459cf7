"""The record beside every exported file: what it takes and gives, how it was made, and its checksum."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from common.errors import ServingError
from common.export.signature import BatchRange, Signature, SizeRange, TensorSpec
from common.export.weights import data_file, files_of, total_bytes
from common.files import read_json, sha256, write_json
from common.machine.environment import now

Precision = Literal["fp32", "fp16", "bf16", "int8"]

RECORDED_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nvidia-modelopt", "tensorrt")
REMEDY = "export the run again: kit export RUN"


@dataclass(frozen=True, kw_only=True)
class ArtefactSidecar:
    """What is known of one exported file.

    opset:         of the ONNX graph; a plan carries the number of the graph it was built from.
    preprocessing: the fields of the preprocessing contract, as JSON values.
    metrics:       the task's metrics of the weights in this file, by name.
    data_sha256:   of the second file with its weights, empty where there is none.
    target:        for a plan: gpu, compute_capability, tensorrt, onnx_sha256; empty for a portable graph.
    created:       UTC, ISO 8601.
    """

    file: str
    precision: Precision
    opset: int
    signature: Signature
    preprocessing: Mapping[str, Any]
    class_names: tuple[str, ...]
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    sha256: str
    size_bytes: int
    created: str
    target: Mapping[str, str] = field(default_factory=dict)
    data_sha256: str = ""


def sidecar_path(artefact: Path) -> Path:
    return artefact.with_name(artefact.name + ".json")


def write_sidecar(
    artefact: Path,
    *,
    precision: Precision,
    opset: int,
    signature: Signature,
    preprocessing: Mapping[str, Any],
    class_names: tuple[str, ...] = (),
    metrics: Mapping[str, float] | None = None,
    target: Mapping[str, str] | None = None,
) -> ArtefactSidecar:
    """Describe `artefact` in a JSON file beside it, with its checksum and the versions of the packages at work."""
    sidecar = ArtefactSidecar(
        file=artefact.name,
        precision=precision,
        opset=opset,
        signature=signature,
        preprocessing=dict(preprocessing),
        class_names=tuple(class_names),
        metrics=dict(metrics or {}),
        versions=_versions(),
        sha256=sha256(artefact),
        data_sha256=_data_sha256(artefact),
        size_bytes=total_bytes(artefact),
        created=now(),
        target=dict(target or {}),
    )
    write_json(sidecar_path(artefact), asdict(sidecar))
    return sidecar


def read_sidecar(artefact: Path) -> ArtefactSidecar:
    """Read the record of `artefact` and hold the file against its checksum.

    Raises ServingError where either file is missing, the record cannot be understood, or the checksum differs.
    """
    path = sidecar_path(artefact)
    for needed in (artefact, path):
        if not needed.is_file():
            raise ServingError(f"{needed} does not exist", "an exported file lies beside its record", REMEDY)
    try:
        sidecar = _parse(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise ServingError(f"{path} is no record of an export ({error!r})", remedy=REMEDY) from error
    found, data = sha256(artefact), _data_sha256(artefact)
    if (found, data) != (sidecar.sha256, sidecar.data_sha256):
        broken = artefact if found != sidecar.sha256 else data_file(artefact)
        told, wanted = (
            (found, sidecar.sha256) if broken == artefact else (data or "that of no file", sidecar.data_sha256)
        )
        raise ServingError(
            f"{broken} is damaged: its sha256 is {told[:16]}…",
            f"its record says {wanted[:16]}… ({sidecar.size_bytes} bytes, created {sidecar.created})",
            REMEDY,
        )
    return sidecar


def signature_from_json(value: Mapping[str, Any]) -> Signature:
    """Undo `dataclasses.asdict` of a Signature that went through JSON."""
    specs = {
        side: tuple(TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in value[side])
        for side in ("inputs", "outputs")
    }
    free = {name: SizeRange(**sizes) for name, sizes in value.get("free", {}).items()}
    plan_batch = value.get("plan_batch")
    return Signature(
        inputs=specs["inputs"],
        outputs=specs["outputs"],
        batch=BatchRange(**value["batch"]),
        free=free,
        plan_batch=BatchRange(**plan_batch) if plan_batch else None,
    )


def _parse(value: Mapping[str, Any]) -> ArtefactSidecar:
    plain = dict(value)
    plain["signature"] = signature_from_json(plain["signature"])
    plain["class_names"] = tuple(plain["class_names"])
    return ArtefactSidecar(**plain)


def _data_sha256(artefact: Path) -> str:
    return "".join(sha256(path) for path in files_of(artefact)[1:])


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
