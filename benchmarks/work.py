"""How much work a step is, counted on the real step, and what share of a roof its throughput reaches."""

import csv
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.probe import Probe
from benchmarks.reads import Reads

PEAKS_FILE = Path(__file__).with_name("peaks.csv")
VIEWS = ("view", "t", "transpose", "expand", "permute", "detach", "alias", "slice", "select", "unsqueeze", "squeeze",
         "as_strided", "split", "unbind", "_unsafe_view", "unfold", "narrow", "diagonal")  # fmt: skip
"""Operators that give another view of a tensor: they move nothing."""
LOOKUPS = ("embedding", "_embedding_bag", "_embedding_bag_forward_only", "index_select", "index", "gather")
"""Operators that read as much of their first tensor as they write."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One step, counted operator by operator as eager execution runs it.

    flop_per_sample:  multiplications and additions of products, convolutions and attention.
    bytes_per_sample: what all operators read and write, each of its own: what eager execution moves.
    least_bytes_per_sample: every storage that the step touches, once: what no fusion saves.
    step_bytes:       the same for the step, which a cache may hold.
    operators, synchronisations, allocations: of a step: dispatched, reading a number back, and new storages.
    """

    flop_per_sample: float
    bytes_per_sample: float
    least_bytes_per_sample: float
    step_bytes: float
    operators: int
    synchronisations: int
    allocations: int


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A data sheet's dense figures for one precision of one GPU."""

    dense_tflops: float
    gb_s: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Utilisation:
    """What a throughput is of the roofs; null where a roof is unknown.

    mfu, bandwidth:           of the roof that the probe measured on this machine.
    mfu_of_peak, bandwidth_of_peak: of the data sheet, whose source is `peak_source`.
    Bandwidth counts the least bytes, and is null where a cache may hold a step.
    """

    tflops: float
    gb_s: float | None
    mfu: float | None = None
    bandwidth: float | None = None
    mfu_of_peak: float | None = None
    bandwidth_of_peak: float | None = None
    peak_source: str | None = None

    @property
    def highest(self) -> float:
        """The largest share of any roof."""
        return max((share for share in (self.mfu, self.bandwidth, self.mfu_of_peak, self.bandwidth_of_peak) if share),
                   default=0.0)  # fmt: skip


def count_work(step: Callable[[], int]) -> Work:
    """Run `step`, which returns its samples, once under the counters; it must not be compiled or captured."""
    ledger = _Ledger()
    with FlopCounterMode(display=False) as flops, ledger:
        samples = step()
    return Work(
        flop_per_sample=flops.get_total_flops() / samples,
        bytes_per_sample=ledger.moved / samples,
        least_bytes_per_sample=ledger.touched / samples,
        step_bytes=float(ledger.touched),
        operators=len(ledger.names),
        synchronisations=ledger.count,
        allocations=ledger.allocations,
    )


def utilisation(
    work: Work, samples_per_s: float, *, precision: str, probe: Probe | None, gpu: str | None, ranks: int = 1
) -> Utilisation:
    """The shares that `samples_per_s` over all ranks reach; gpu: the driver's name, None on a CPU."""
    tflops = work.flop_per_sample * samples_per_s / ranks / 1e12
    gb_s: float | None = work.least_bytes_per_sample * samples_per_s / ranks / 1e9
    if probe is not None and work.step_bytes / ranks <= probe.cache_bytes:
        gb_s = None
    roof = None if probe is None else probe.matmul_tflops.get(precision)
    peak = None if gpu is None else peak_of(gpu, precision)
    return Utilisation(
        tflops=tflops,
        gb_s=gb_s,
        mfu=tflops / roof if roof else None,
        bandwidth=gb_s / probe.copy_gb_s if probe is not None and gb_s is not None else None,
        mfu_of_peak=tflops / peak.dense_tflops if peak else None,
        bandwidth_of_peak=gb_s / peak.gb_s if peak and gb_s is not None else None,
        peak_source=peak.source if peak else None,
    )


def peak_of(gpu: str, precision: str) -> Peak | None:
    """The data sheet's figures of the GPU that the driver names so; None for one that is not listed.

    A pattern has to match the whole name: an A10G is no A10, and what is unknown has no default.
    """
    found = [row for row in _peaks() if row["precision"] == precision and re.fullmatch(row["name_pattern"], gpu)]
    if not found:
        return None
    (row,) = found
    return Peak(dense_tflops=float(row["dense_tflops"]), gb_s=float(row["gb_s"]), source=row["source"])


@functools.cache
def _peaks() -> list[dict[str, str]]:
    with PEAKS_FILE.open(newline="") as stream:
        return list(csv.DictReader(stream))


class _Ledger(Reads):
    """Counts what operators move and the storages that come to be, too."""

    def __init__(self) -> None:
        super().__init__()
        self.allocations, self.moved, self.looked_up = 0, 0, 0
        self.storages: dict[tuple[int, int], int] = {}
        self._kept: list[torch.Tensor] = []  # an address that is free again would be taken for the old storage

    @property
    def touched(self) -> int:
        return sum(self.storages.values()) + self.looked_up

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = super().__torch_dispatch__(func, types, args, kwargs)
        name = self.names[-1]
        if name in VIEWS:
            return answer
        given, made = tensors_of((args, kwargs or {})), tensors_of(answer)
        if name in LOOKUPS and given:
            given, looked_up = given[1:], made[0].numel() * made[0].element_size()
            self.moved, self.looked_up = self.moved + looked_up, self.looked_up + looked_up
        self.moved += sum(tensor.numel() * tensor.element_size() for tensor in (*given, *made))
        for tensor in given:
            self._touch(tensor)
        for tensor in made:
            self.allocations += self._touch(tensor)
        return answer

    def _touch(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor's storage is seen for the first time."""
        if tensor.layout is not torch.strided:
            return False
        storage = tensor.untyped_storage()
        key = (storage.data_ptr(), storage.nbytes())
        if key in self.storages:
            return False
        self.storages[key] = storage.nbytes()
        self._kept.append(tensor.detach())
        return True


def tensors_of(tree: Any) -> list[torch.Tensor]:
    """Those in nested tuples, lists and mappings."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
