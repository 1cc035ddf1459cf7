"""What a run or a measurement ran on: kit, packages, processor, memory, GPUs; never a host or a user name."""

import datetime
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from common.language.telling import tell_count

ROOT = Path(__file__).resolve().parents[2]
COMMIT_FILE = "COMMIT"
"""Beside the packages in an image, which has no .git: the commit it was built from."""

PACKAGES = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "dali": ("nvidia-dali-cuda130", "nvidia-dali-cuda120"),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-cu13"),
    "modelopt": ("nvidia-modelopt",),
    "tritonclient": ("tritonclient",),
}
"""The name in a record, and the distributions that may carry it."""

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
"""Instruction sets that decide how fast fp32, bf16 and INT8 run."""

GIGABYTE = 1e9


def collect_environment(
    *, device: str | None = None, precision: str | None = None, world_size: int | None = None
) -> dict[str, Any]:
    """The content of `environment.json`; device, precision and world size are null where nothing has run yet."""
    return {
        "kit": kit_version(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "cpu": processor(),
        "memory_gb": round(psutil.virtual_memory().total / GIGABYTE, 1),
        "gpus": graphics_processors(),
        "platform": platform_name(),
        "device": device,
        "precision": precision,
        "world_size": world_size,
    }


def now() -> str:
    """The time in UTC as records have it: ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def kit_version() -> dict[str, Any]:
    """Version, commit and whether files differ from that commit; commit and dirty are null outside a checkout."""
    try:
        version = importlib.metadata.version("challenge-kit")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    commit, dirty = _checkout(ROOT)
    return {"version": version, "commit": commit, "dirty": dirty}


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a run's speed or numbers; absent ones are left out."""
    versions = {}
    for name, distributions in PACKAGES.items():
        for distribution in distributions:
            try:
                versions[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions


@functools.cache
def processor() -> dict[str, Any]:
    """The CPU's model, the cores this process may use, and its instruction sets of interest."""
    information = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", information, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", information, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "model": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "features": [feature for feature in CPU_FEATURES if feature in present],
    }


def told_processor(cpu: Mapping[str, Any]) -> str:
    """Such as `AMD EPYC, 2 cores`, of what `processor` found here or elsewhere; what is not known is left out."""
    cores = cpu.get("cores")
    counted = None if cores is None else tell_count("{count} core", "{count} cores", cores)
    return ", ".join(str(part) for part in (cpu.get("model"), counted) if part) or "unknown"


def graphics_processors() -> list[dict[str, Any]]:
    """Name, memory and driver of every NVIDIA GPU the driver shows; empty where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [
            {
                "name": pynvml.nvmlDeviceGetName(handle),
                "memory_gb": round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIGABYTE, 1),
                "driver": driver,
            }
            for handle in handles
        ]
    finally:
        pynvml.nvmlShutdown()


@functools.cache
def platform_name() -> str:
    """Distribution, kernel and machine, such as `Ubuntu 24.04 LTS, Linux 6.8.0, x86_64`."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    kernel = f"{platform.system()} {platform.release()}"
    return ", ".join(part for part in (distribution, kernel, platform.machine()) if part)


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """The commit at `root` and whether anything but benchmark records differs from it."""
    if not (root / ".git").exists():
        recorded = root / COMMIT_FILE
        return (recorded.read_text().strip() or None, False) if recorded.is_file() else (None, None)
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--", ".", ":!benchmarks/results"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = answer.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    dirty = any(not line.startswith("#") for line in lines)
    return (None if commit == "(initial)" else commit), dirty
