"""The roofs of this machine, measured: products, copies, launches, JPEG decoding, reading, and talking to other ranks.

A data sheet's peak is reached by nothing, and a CPU or a new GPU has none: what a product of matrices reaches here
is what a model can be held against anywhere.
"""

import functools
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.measure import MachineLoad, clock_of
from common.machine.precision import cpu_has_bfloat16, select_precision
from common.machine.processes import usable_cores

TYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDES = {"cuda": (2048, 4096, 8192), "cpu": (512, 1024, 2048)}  # of square matrices; the best counts
COPIED = {"cuda": 1 << 30, "cpu": 1 << 28}  # bytes: more than a cache holds
REDUCED = {"cuda": 1 << 28, "cpu": 1 << 24}
PHOTOGRAPH = (500, 375)  # ImageNet's commonest size
JPEGS = 16
READ, BLOCK = 1 << 27, 1 << 22  # bytes
LAUNCHES = 200


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What this machine reaches; null where there is nothing to measure.

    matmul_tflops: precision -> 1e12 floating-point operations per second of a product.
    copy_gb_s:     1e9 bytes read and written per second by a copy within the device's memory.
    host_to_device_gb_s: from pinned memory. launch_us: of an operator on one number.
    jpeg_per_s_core: decodes per second of one core, of a photograph of `jpeg_kilobytes`; cores: those there are.
    read_gb_s:     a file from the disk of temporary files, dropped from the system's cache before.
    all_reduce_gb_s: of the buffer's bytes, times 2 (ranks - 1) / ranks, as NVIDIA's nccl-tests count it.
    cache_bytes:   the last cache before the device's memory.
    busy_share:    the part of all cores that others used meanwhile, 0..1: the roofs are too low where it is high.
    """

    matmul_tflops: dict[str, float]
    copy_gb_s: float
    host_to_device_gb_s: float | None
    launch_us: float
    jpeg_per_s_core: float | None
    jpeg_kilobytes: float | None
    cores: int
    read_gb_s: float | None
    cache_bytes: int
    busy_share: float
    all_reduce_gb_s: float | None = None
    ranks: int = 1


def probe(device: torch.device, seconds: float = 0.5) -> Probe:
    """Measure this process's device and cores; `seconds` for each figure."""
    photograph, machine = _photograph(), MachineLoad()
    found = Probe(
        matmul_tflops={name: _matmul(device, name, seconds) for name in precisions_of(device)},
        copy_gb_s=_copy(device, seconds),
        host_to_device_gb_s=_to_device(device, seconds) if device.type == "cuda" else None,
        launch_us=_launch(device),
        jpeg_per_s_core=_decodes(photograph, seconds),
        jpeg_kilobytes=len(photograph) / 1000,
        cores=usable_cores(),
        read_gb_s=_reading(),
        cache_bytes=cache_bytes(device),
        busy_share=0.0,
    )
    return replace(found, busy_share=machine.busy_share())


def with_ranks(found: Probe, device: torch.device, seconds: float = 0.5) -> Probe:
    """The probe with what an all-reduce over the group that is joined reaches; all ranks call it."""
    ranks = dist.get_world_size()
    buffer = torch.ones(REDUCED[device.type] // 4, device=device)
    dist.all_reduce(buffer)  # connections are made
    repeats = torch.tensor(max(1, round(seconds / _timed(lambda: dist.all_reduce(buffer), device))), device=device)
    dist.all_reduce(repeats, dist.ReduceOp.MIN)
    each = _timed(lambda: dist.all_reduce(buffer), device, int(repeats))
    moved = buffer.numel() * 4 * 2 * (ranks - 1) / ranks
    return replace(found, all_reduce_gb_s=moved / each / 1e9, ranks=ranks)


def precisions_of(device: torch.device) -> Sequence[str]:
    """From the widest to the narrowest that the device computes in itself."""
    if device.type == "cpu":
        return ("fp32", "bf16") if cpu_has_bfloat16() else ("fp32",)
    return ("fp32", "tf32", "bf16", "fp16") if torch.cuda.get_device_capability(device) >= (8, 0) else ("fp32", "fp16")


def cache_bytes(device: torch.device) -> int:
    """The GPU's L2, or a CPU's last level; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [_size(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max(sizes, default=0)


def _size(path: Path) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", path.read_text().strip())
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else 0


def _matmul(device: torch.device, name: str, seconds: float) -> float:
    before = torch.get_float32_matmul_precision()
    select_precision(name, device)
    try:
        best = 0.0
        for side in SIDES[device.type]:
            first, second = (torch.randn(side, side, device=device).to(TYPES[name]) for _ in range(2))
            out = torch.empty(side, side, device=device, dtype=TYPES[name])
            each = _best(functools.partial(torch.mm, first, second, out=out), device, seconds / 3)
            best = max(best, 2 * side**3 / each / 1e12)
        return best
    finally:
        torch.set_float32_matmul_precision(before)


def _copy(device: torch.device, seconds: float) -> float:
    source = torch.ones(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _best(lambda: target.copy_(source), device, seconds) / 1e9


def _to_device(device: torch.device, seconds: float) -> float:
    source = torch.ones(COPIED["cpu"] // 4).pin_memory()
    target = torch.empty_like(source, device=device)
    return source.numel() * 4 / _best(lambda: target.copy_(source, non_blocking=True), device, seconds) / 1e9


def _launch(device: torch.device) -> float:
    number = torch.ones((), device=device)

    def launch() -> None:
        for _ in range(LAUNCHES):
            number.add_(1)

    launch()
    return _best(launch, device, 0.1) / LAUNCHES * 1e6


def _photograph() -> bytes:
    """A JPEG as large and as detailed as a photograph is: smooth shapes under a grain."""
    from PIL import Image

    random = np.random.default_rng(0)
    width, height = PHOTOGRAPH
    coarse = Image.fromarray(random.integers(0, 255, (height // 25, width // 25, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(PHOTOGRAPH, Image.Resampling.BICUBIC), dtype=np.float64)
    pixels = np.clip(smooth + random.normal(0, 8, (height, width, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _decodes(photograph: bytes, seconds: float) -> float | None:
    """Decodes per second of one thread of the decoder that training uses; None where DALI is not installed."""
    try:
        from nvidia.dali import fn, pipeline_def, types
    except ImportError:
        return None
    batch = [np.frombuffer(photograph, np.uint8)] * JPEGS

    @pipeline_def(batch_size=JPEGS, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def decoding() -> Any:
        return fn.decoders.image(fn.external_source(source=lambda: batch), device="cpu", output_type=types.RGB)

    pipeline: Any = decoding()
    pipeline.build()
    pipeline.run()
    return JPEGS / _best(pipeline.run, torch.device("cpu"), seconds)


def _reading() -> float | None:
    """None where the system cannot drop a file from its cache, so that memory would be measured."""
    if not hasattr(os, "posix_fadvise"):
        return None
    with tempfile.TemporaryFile() as file:
        block = np.random.default_rng(0).bytes(BLOCK)
        for _ in range(READ // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        started = time.perf_counter()
        while file.read(BLOCK):
            pass
        return READ / (time.perf_counter() - started) / 1e9


def _best(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call: the quickest of several blocks, since a roof is what nothing else held down."""
    work()
    each = max(_timed(work, device), 1e-7)
    repeats = max(1, round(seconds / 5 / each))
    return min(_timed(work, device, repeats) for _ in range(5 if each * repeats < seconds else 2))


def _timed(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    clock = clock_of(device)
    clock.wait()
    first = clock.mark()
    for _ in range(repeats):
        work()
    second = clock.mark()
    clock.wait()
    return clock.seconds(first, second) / repeats
