"""Exact counts of what a training step and a graph are made of, so that a slower one is seen on any machine.

Times of a busy machine say nothing about a change of a few percent; these numbers are the same on every machine with
the locked packages. benchmarks/watch/counts.json holds them, each model's with the reason why they are what they are; a
change of them is committed there.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import onnx

from benchmarks.work import Work, tensors_of
from common.errors import DataError
from common.files import read_json

FILE = Path(__file__).with_suffix(".json")
SHOW_PACKAGES = """
import contextlib, io, sys
from challenges.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(*sys.modules)
"""


@dataclass(frozen=True)
class Counts:
    """What one model costs, apart from time.

    operators, synchronisations, allocations: of one training step, gradients and optimizer with it, as eager execution
    runs it (benchmarks/work.py). batch_bytes: of one training sample's tensors. nodes: of the fp32 ONNX graph.
    """

    operators: int
    synchronisations: int
    allocations: int
    batch_bytes: int
    nodes: int

    @classmethod
    def of(cls, work: Work, batch: Mapping[str, Any], samples: int, graph: Path) -> "Counts":
        """The counts of a step on `batch`, which has so many samples, and of an ONNX file."""
        return cls(
            operators=work.operators,
            synchronisations=work.synchronisations,
            allocations=work.allocations,
            batch_bytes=bytes_of(batch) // samples,
            nodes=nodes_of(graph),
        )


def bytes_of(batch: Mapping[str, Any]) -> int:
    """The bytes of a batch's tensors, in lists and mappings too."""
    return sum(each.numel() * each.element_size() for each in tensors_of(batch))


def nodes_of(graph: Path) -> int:
    """The nodes of an ONNX file's main graph and of its functions."""
    model = onnx.load(graph, load_external_data=False)
    return len(model.graph.node) + sum(len(each.node) for each in model.functions)


def packages_of_help() -> list[str]:
    """The packages, neither Python's nor the kit's, that `kit --help` imports."""
    command = [sys.executable, "-c", SHOW_PACKAGES]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    own = {"challenges", "common", "benchmarks", "__main__"}
    found = {name.partition(".")[0] for name in names} - own - sys.stdlib_module_names
    return sorted(name for name in found if not name.startswith(("_", "sitecustomize")))


def committed(model: str) -> Counts:
    """What the file holds of a model. Raises DataError where it has none, or none with a reason."""
    entry = read_json(FILE)["models"].get(model, {})
    if not entry.pop("because", "").strip():
        raise DataError(
            f"benchmarks/watch/counts.json has no counts of {model} with a reason.\n"
            f"Every model has {', '.join(each.name for each in fields(Counts))} and because.\nAdd them there."
        )
    return Counts(**entry)


def difference(model: str, now: Counts) -> str:
    """What changed since the file was committed; empty where nothing did."""
    before = asdict(committed(model))
    changed = [f"{name} {before[name]} -> {value}" for name, value in asdict(now).items() if value != before[name]]
    if not changed:
        return ""
    return (
        f"{model}: {'; '.join(changed)}.\nbenchmarks/watch/counts.json holds what a step and a graph are made of.\n"
        "Undo what made them change, or commit the new numbers there with the reason."
    )
