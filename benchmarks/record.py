"""A benchmark's result as one JSON file: what ran, on what, how it was measured, and whether it may be believed."""

import dataclasses
import datetime
import functools
import json
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.measure import Ratio, Windows
from benchmarks.probe import Probe
from benchmarks.telemetry import Telemetry
from benchmarks.work import Utilisation, Work
from benchmarks.worker import Worker
from common.errors import KitError
from common.machine.environment import collect_environment

SCHEMA: Literal["kit.bench/2"] = "kit.bench/2"
FIRST_SCHEMA = "kit.bench/1"
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
RESULTS = Path(__file__).with_name("results")
INTERLEAVED, INTERLEAVED_VERSION = "interleaved", 1

Kind = Literal["train", "data", "inference", "serve", "comparison"]
DataKind = Literal["real", "demo", "synthetic"]
ELSEWHERE = "elsewhere"
"""The device of what another machine served."""
BALANCED = 0.1  # data and compute within 10 % of each other limit a run together


class RecordError(KitError):
    """A record that cannot be written, read or understood."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What was measured; two records may be compared only where all of it but the precision and batch is equal.

    engine:      what runs the model or the data: torch, onnxruntime, openvino, tensorrt, triton, dali.
    batch:       samples per step or request over all devices.
    input_shape: one sample as the model takes it, channels first.
    workers:     threads or processes that prepare data; 0 where none do.
    precision:   unknown: of a served model, whose server does not tell it.
    concurrency: requests in flight; null where nothing is served.
    """

    challenge: str
    model: str
    engine: str
    batch: int
    input_shape: tuple[int, ...]
    precision: Literal["fp32", "tf32", "bf16", "fp16", "int8", "unknown"]
    sample_unit: str
    data: DataKind
    dataset: str
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    compile: bool = False
    cuda_graphs: bool = False
    workers: int = 0
    concurrency: int | None = None


class Rounds(Protocol):
    """For how long sides are measured in turns, as the settings of a benchmark have it."""

    @property
    def warmup_seconds(self) -> float: ...
    @property
    def rounds(self) -> int: ...
    @property
    def block_seconds(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class ProtocolUsed:
    """How it was measured; records of different protocols are never compared."""

    name: str
    version: int
    warmup_seconds: float
    windows: int
    window_seconds: float

    @staticmethod
    def interleaved(settings: Rounds, name: str = INTERLEAVED) -> "ProtocolUsed":
        """Sides in turns, a window in each round (benchmarks/measure.py)."""
        return ProtocolUsed(
            name=name, version=INTERLEAVED_VERSION, warmup_seconds=settings.warmup_seconds, windows=settings.rounds,
            window_seconds=settings.block_seconds,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Split:
    """Samples per second of a training step's parts, and what limits the whole.

    overlap_efficiency: end-to-end over the slower of data and compute; 1 means that data costs nothing.
    """

    data_only: float
    compute_only: float
    end_to_end: float
    bottleneck: Literal["data", "compute", "balanced"]
    overlap_efficiency: Ratio


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How several processes shared the work.

    scaling:    weak: each has as many samples as one alone; strong: all together have. Null for a single one.
    alone:      identifier of the record of one process.
    efficiency: throughput of all over that of one, over their number.
    """

    size: int = 1
    scaling: Literal["weak", "strong"] | None = None
    alone: str | None = None
    alone_samples_per_s: float | None = None
    together_samples_per_s: float | None = None
    efficiency: float | None = None


@dataclass(frozen=True, kw_only=True)
class Like:
    """The published row whose protocol was followed, and in what this measurement differs from it all the same."""

    row: str
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a figure is read with: who worked, what this machine can do at most, and what the step was.

    telemetry: measurement -> what its GPUs did; empty on a CPU.
    """

    worker: Worker = field(default_factory=Worker)
    probe: Probe | None = None
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    work: Work | None = None
    utilisation: Utilisation | None = None
    ranks: Ranks = field(default_factory=Ranks)
    like: Like | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A reason or a warning: a code to filter by, and the sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Validity:
    """valid: no reason speaks against the figures; warnings are to be known and do not invalidate."""

    valid: bool
    reasons: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measurement or one side-by-side comparison.

    name:         what was measured, in a file name's words: `train`, `loader`, `step`.
    measurements: one per side or stage, by name.
    ratios:       `first/second` -> throughput of the first over the second.
    details:      further figures, units in their names.
    evidence:     what version 1 did not keep: of its records nothing but null.
    """

    kind: Kind
    name: str
    workload: Workload
    protocol: ProtocolUsed
    measurements: dict[str, Windows]
    validity: Validity
    kit: dict[str, Any]
    system: dict[str, Any]
    command: str
    created: str
    id: str
    split: Split | None = None
    ratios: dict[str, Ratio] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    schema: Literal["kit.bench/2"] = SCHEMA

    @property
    def device(self) -> str:
        """The hardware that did the work, in a folder's name; of several GPUs the one that did, not the first."""
        worked = self.evidence.worker.gpus
        return device_slug(self.system, worked[0].name if worked else None)


def is_ranked(record: Record) -> bool:
    """Whether its figures may set a scale: valid, and not of a run that was shrunk to show that it works."""
    return record.validity.valid and all(warning.code != "SMOKE" for warning in record.validity.warnings)


def new_record(  # noqa: PLR0913  # a record's fields by name, as its schema has them
    *,
    kind: Kind,
    name: str,
    workload: Workload,
    protocol: ProtocolUsed,
    measurements: Mapping[str, Windows],
    validity: Validity,
    command: Sequence[str],
    environment: Mapping[str, Any],
    split: Split | None = None,
    ratios: Mapping[str, Ratio] | None = None,
    details: Mapping[str, float] | None = None,
    evidence: Evidence | None = None,
) -> Record:
    """A record of now; environment: `collect_environment()` with the device and precision that were measured."""
    return Record(
        kind=kind,
        name=name,
        workload=workload,
        protocol=protocol,
        measurements=dict(measurements),
        validity=validity,
        kit=dict(environment["kit"]),
        system={key: value for key, value in environment.items() if key != "kit"},
        command=without_paths(command),
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        id=secrets.token_hex(4),
        split=split,
        ratios=dict(ratios or {}),
        details=dict(details or {}),
        evidence=evidence or Evidence(),
    )


def split_of(data_only: Windows, compute_only: Windows, end_to_end: Windows, overlap_efficiency: Ratio) -> Split:
    """Name the bottleneck: the slower of data and compute, or both where they differ by less than 10 %."""
    data, compute = data_only.samples_per_s.median, compute_only.samples_per_s.median
    slower: Literal["data", "compute"] = "data" if data < compute else "compute"
    balanced = abs(data - compute) <= BALANCED * max(data, compute)
    return Split(
        data_only=data,
        compute_only=compute,
        end_to_end=end_to_end.samples_per_s.median,
        bottleneck="balanced" if balanced else slower,
        overlap_efficiency=overlap_efficiency,
    )


def write(record: Record, folder: Path | None = None) -> Path:
    """Write the record as a new file of `folder` (results/<device> where none is given) and return its path.

    Raises RecordError when the record does not fit the schema or the file is already there: records are only added.
    """
    folder = folder or RESULTS / record.device
    path = folder / file_name(record)
    add_file(path, json.dumps(as_json(record), indent=2) + "\n")
    return path


def as_json(record: Record) -> dict[str, Any]:
    """The record as its file holds it. Raises RecordError when it does not fit the schema."""
    value: dict[str, Any] = _rounded(dataclasses.asdict(record))
    _validate(value, "the new record")
    return value


def add_file(path: Path, text: str) -> None:
    """Write a new file at once, whole or not at all.

    Raises RecordError where there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.link(temporary, path)  # unlike a rename, this fails where the name is taken
    except FileExistsError:
        raise RecordError(f"{path} exists.", "A record is never overwritten.") from None
    finally:
        os.unlink(temporary)


def read(path: Path) -> Record:
    """A record of this version or the first, as one of this version.

    Raises RecordError when the file is neither.
    """
    from pydantic import TypeAdapter

    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read as JSON: {error}.") from None
    value = upgraded(value)
    _validate(value, str(path))
    return TypeAdapter(Record).validate_python(value)


def upgraded(value: Any) -> Any:
    """A record of version 1 as one of version 2, in memory: what was not kept then is null. Others as they are."""
    if not isinstance(value, dict) or value.get("schema") != FIRST_SCHEMA:
        return value
    ranks = {"size": value["system"].get("world_size") or 1} if isinstance(value.get("system"), dict) else {}
    nothing = json.loads(json.dumps(dataclasses.asdict(Evidence())))
    return value | {"schema": SCHEMA, "evidence": nothing | {"ranks": nothing["ranks"] | ranks}}


def read_all(places: Iterable[Path]) -> list[Record]:
    """Records of files and of folders (searched through), oldest first."""
    files: set[Path] = set()
    for place in places:
        if not place.exists():
            raise RecordError(f"{place} does not exist.", "Give record files, or folders of them.")
        files |= set(place.rglob("*.json")) if place.is_dir() else {place}
    return sorted((read(file) for file in files), key=lambda record: (record.created, record.id))


def file_name(record: Record) -> str:
    parts = (record.created[:10], record.workload.challenge, record.name, record.device, record.workload.precision)
    return "_".join([*map(slug, parts), record.id]) + ".json"


def device_slug(system: Mapping[str, Any], worked: str | None = None) -> str:
    """`nvidia-h200-x2` or `cpu-amd-epyc-2c`: the hardware that did the work, in a folder's name.

    worked: the name of the GPU that did, where it is known; else the machine's first is taken.
    """
    device, gpus = system.get("device") or "cpu", system["gpus"]
    if device == ELSEWHERE:
        return "another-machine"
    if not str(device).startswith("cuda") or not gpus:
        model = re.sub(r"\((?:R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", " ", system["cpu"]["model"], flags=re.IGNORECASE)
        return f"cpu-{slug(model)}-{system['cpu']['cores']}c"
    count = system.get("world_size") or 1
    return slug(worked or gpus[0]["name"]) + (f"-x{count}" if count > 1 else "")


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def without_paths(command: Sequence[str]) -> str:
    """The command as one would type it, absolute paths cut down to their last part."""
    return shlex.join(re.sub(r"(?<![\w.~-])/(?:[^/\s=,:]+/)*(?=[^/\s=,:]*)", "", part) for part in command)


def environment_of(*, device: str, precision: str, world_size: int = 1) -> dict[str, Any]:
    """The environment a benchmark on `device` records."""
    return collect_environment(device=device, precision=precision, world_size=world_size)


def short_commit(commit: str | None) -> str:
    """A commit as tables and sentences name it."""
    return (commit or "no commit")[:8]


def _rounded(value: Any) -> Any:
    """Six significant digits: no measurement here knows more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


def _validate(value: Any, what: str) -> None:
    from jsonschema.exceptions import best_match

    problem = best_match(_validator().iter_errors(value))
    if problem is not None:
        where = "/".join(str(part) for part in problem.absolute_path) or "the top level"
        told = value.get("schema") if isinstance(value, dict) else None
        raise RecordError(
            f"{what} is no {SCHEMA} record: {where}: {problem.message}.",
            f"Its schema is {told!r}; {FIRST_SCHEMA} and {SCHEMA} are read." if told != SCHEMA else "",
            "Read it with the version of the kit that wrote it." if told != SCHEMA else "",
        )
