"""Figures that others have published, and what it takes to measure as they did: the protocol behind a row.

A row has an identifier of its source, its model and what else tells it from others: `dle/resnet50-a100-sxm4-80gb-amp`.
A part of it will do where the rest is clear: `dle/resnet50-a100-amp`.
"""

import csv
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import KitError

PUBLISHED = Path(__file__).with_name("published.csv")
RECIPES = {
    "resnet50": "resnet50/imagenet-90e",
    "ssd300-r50": "ssd300/coco",
    "ncf": "ncf/ml-20m",
    "vae-cf": "vae_cf/ml-20m-large-batch",
    "dlrm": "dlrm/criteo-1tb",
    "wide-deep": "wide_and_deep/criteo-kaggle",
}
"""What is trained here beside each published model; others are networks that the kit has not got."""
PRECISIONS = {"amp_fp16": "fp16", "fp16": "fp16", "tf32": "tf32", "fp32": "fp32", "int8": "int8"}
NCHW = re.compile(r"\bNCHW\b|no memory-format flag|\(config_v2/", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of published.csv; batch: of all GPUs together, None where it is not printed."""

    identifier: str
    model: str
    task: str
    metric: str
    value: float
    unit: str
    gpu: str
    num_gpus: int
    precision: str
    batch: int | None
    software: str
    source: str
    date: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A row's conditions in the kit's words.

    recipe:    the model and the recipe that it stands beside.
    batch:     of one GPU; None: the recipe's own, since none is printed.
    synthetic: whether inputs were made up; channels_last: the layout of images.
    unknown:   what the source does not print, and is therefore as the kit has it.
    """

    recipe: str
    task: str
    precision: str
    ranks: int
    batch: int | None
    synthetic: bool
    channels_last: bool
    compile: bool
    cuda_graphs: bool
    unknown: tuple[str, ...]

    def overrides(self, precision: str) -> tuple[str, ...]:
        """Fields of the recipe; precision: the nearest to the row's that this device has."""
        flags = ["--training.precision", precision]
        for name, wanted in (
            ("channels-last", self.channels_last), ("compile", self.compile), ("cuda-graphs", self.cuda_graphs),
        ):  # fmt: skip
            flags.append(f"--training.{'' if wanted else 'no-'}{name}")
        return tuple(flags)


def rows(path: Path = PUBLISHED) -> list[Row]:
    """Every published row."""
    from pydantic import TypeAdapter

    row = TypeAdapter(Row)
    with path.open(newline="") as stream:
        return [
            row.validate_python(line | {
                "batch": line["batch"] or None,
                "source": f"{line['source_repo_or_title']}: {line['source_path_or_section']}",
            })
            for line in csv.DictReader(stream)
        ]  # fmt: skip


def find(name: str, published: Sequence[Row]) -> Row:
    """The row of this identifier, or the one with the fewest further parts of those that have all of its parts.

    Raises KitError with the nearest spelling.
    """
    source, _, wanted = name.lower().partition("/")
    parts = set(wanted.split("-")) - {""}
    fitting: list[tuple[int, int, Row]] = []
    for row in published:
        of_row, _, rest = row.identifier.partition("/")
        has = set(rest.split("-"))
        if of_row == source and parts and parts <= has:
            fitting.append((len(has - parts), len(fitting), row))
    if fitting:
        return min(fitting)[2]
    names = [row.identifier for row in published]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.4)
    raise KitError(
        f"LIKE is {name!r}, and no published row is called so.",
        f"There are {len(names)}, such as {', '.join(names[:: len(names) // 3][:3])}: a source, a model, and more.",
        f"Did you mean {near[0]}?" if near else "See benchmarks/published.csv.",
    )


def protocol_of(row: Row) -> Protocol:
    """Raises KitError, with the reason, where the row's protocol cannot be followed."""
    reason = why_not(row)
    if reason:
        raise KitError(
            f"LIKE is {row.identifier}, whose protocol cannot be followed: {reason}.",
            "Rows of training and of inference on one machine can.",
            f"Another one: {find('dle/resnet50-a100-amp', rows()).identifier}",
        )
    timm, lambda_labs = row.identifier.startswith("timm/"), row.identifier.startswith("lambda/")
    synthetic = "synthetic" in row.note.lower()
    unknown = []
    if row.batch is None:
        unknown.append("its batch")
    if not synthetic and row.model in ("resnet50", "ssd300-r50"):
        unknown.append("how its data was read")
    if lambda_labs:
        unknown += ["its exact container"] if NCHW.search(row.note) else ["its exact container", "its memory layout"]
    return Protocol(
        recipe=RECIPES[row.model],
        task=row.task,
        precision=PRECISIONS[row.precision],
        ranks=row.num_gpus,
        batch=None if row.batch is None else max(1, row.batch // row.num_gpus),
        synthetic=synthetic or row.task == "infer",
        channels_last="NHWC" in row.software or not (timm or NCHW.search(row.note + row.software)),
        compile="torch.compile" in row.software,
        cuda_graphs=row.model == "dlrm" and "cuda graphs" in row.note.lower() and row.num_gpus == 1,
        unknown=tuple(unknown),
    )


def why_not(row: Row) -> str:
    """Why a row has no form that can be run here; empty where it has."""
    if row.model not in RECIPES:
        return f"{row.model} is a network that the kit has not got"
    if "IMPOSSIBLE" in row.note:
        return "its figure cannot be"
    if row.metric == "time_per_epoch":
        return "it counts the seconds of an epoch of a data set, not samples"
    if row.task == "serve":
        return "a server is loaded: kit serve RUN, then kit load"
    if row.num_gpus > 1 and row.task == "infer":
        return "it adds up several GPUs that do not work together"
    return ""


def differences(row: Row, protocol: Protocol, *, gpu: str | None, ranks: int, precision: str, data: str) -> list[str]:
    """In what a measurement on this machine differs from the row, in phrases; empty where the protocol is the same.

    gpu: the driver's name of the GPU here, None on a CPU; data: what was read, empty for made-up inputs.
    """
    found = []
    if gpu is None or not _same_gpu(row.gpu, gpu):
        found.append(f"{gpu or 'a CPU'} instead of {row.gpu}")
    if ranks != row.num_gpus:
        found.append(f"{ranks} instead of {row.num_gpus} GPUs")
    if precision != protocol.precision:
        found.append(f"{precision} instead of {protocol.precision}")
    if data and not protocol.synthetic:
        found.append(f"the data {data} instead of what was published")
    if "MLPerf" in row.metric:
        found.append("the engine is called with whole batches, without MLPerf's load generator")
    if row.task == "infer" and "TensorRT" in row.software:
        found.append("torch instead of TensorRT")
    found.append(f"other software than {row.software}")
    return found + [f"{what} is not printed" for what in protocol.unknown]


def _same_gpu(published: str, here: str) -> bool:
    """Whether the model's name, such as h200 or a10, is a word of the driver's name."""
    model = re.split(r"[-\s]", published.replace("RTX ", "RTX-"))[0].lower()
    return model in re.split(r"[-\s]", here.lower())
