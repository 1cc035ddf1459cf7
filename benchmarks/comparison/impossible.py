"""Published figures that cannot be, each with the code that would refuse it here."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.published import PRECISIONS, Row
from benchmarks.record import Finding
from benchmarks.validity import superlinear
from benchmarks.work import peak_of

NEWER = (("H200", "B200"),)
"""GPUs of which the second has twice the first's dense 16-bit peak: equal figures measured something else."""
EQUAL = 0.02


@dataclass(frozen=True)
class Impossible:
    """A row and what is wrong with it."""

    row: Row
    finding: Finding


def impossible(published: Sequence[Row], flop_per_sample: dict[str, float]) -> list[Impossible]:
    """Rows that no hardware makes, or that did not measure what they say.

    flop_per_sample: of a training step, by the model's name; models without one are not held against a peak.
    """
    found = []
    for row in published:
        alone = _like(row, published, num_gpus=1)
        if row.num_gpus > 1 and alone is not None and row.metric == "throughput":
            text = superlinear(row.num_gpus, row.value, alone.value)
            if text:
                found.append(Impossible(row, Finding(code="SUPERLINEAR", text=text)))
        text = _above_peak(row, flop_per_sample)
        if text:
            found.append(Impossible(row, Finding(code="ABOVE_ROOF", text=text)))
        text = _no_faster(row, published)
        if text:
            found.append(Impossible(row, Finding(code="NOT_THE_GPU", text=text)))
    return found


def _like(row: Row, published: Sequence[Row], *, num_gpus: int, gpu: str | None = None) -> Row | None:
    """The row of the same source, model, task and precision with another number of GPUs, or on another one."""
    for other in published:
        same = (other.source.partition(":")[0], other.model, other.task, other.precision, other.metric)
        wanted = (row.source.partition(":")[0], row.model, row.task, row.precision, row.metric)
        fits = other.gpu.startswith(gpu) if gpu else other.gpu == row.gpu
        if same == wanted and fits and other.num_gpus == num_gpus:
            return other
    return None


def _above_peak(row: Row, flop_per_sample: dict[str, float]) -> str:
    work = flop_per_sample.get(row.model)
    peak = peak_of(f"NVIDIA {row.gpu}", PRECISIONS.get(row.precision, row.precision))
    if work is None or peak is None or row.task != "train" or row.metric != "throughput":
        return ""
    share = row.value / row.num_gpus * work / 1e12 / peak.dense_tflops
    return f"Its products alone would take {share:.0%} of the data sheet's peak." if share > 1 else ""


def _no_faster(row: Row, published: Sequence[Row]) -> str:
    for older, newer in NEWER:
        other = _like(row, published, num_gpus=row.num_gpus, gpu=older) if row.gpu.startswith(newer) else None
        if other is not None and abs(row.value / other.value - 1) < EQUAL:
            return (
                f"{other.value:,.0f} {row.unit} on an {older} is the same figure; the {newer} has twice its peak: "
                "what both waited for was measured, not the GPU."
            )
    return ""
