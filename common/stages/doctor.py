"""`kit doctor`: what this machine offers, and what stands in the way."""

import os
import shutil
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from common.files import cache_folder
from common.machine.device import OLDEST_CAPABILITY, visible_nvidia_devices
from common.machine.environment import collect_environment, told_processor
from common.machine.precision import cpu_has_bfloat16
from common.stages.finding import Finding
from common.stages.gpu_findings import gpu_findings
from common.terminal.console import plain, say

FREE_GB = 5.0  # a demo run, its checkpoints and exports fit
SHARED_MEMORY_GB = 1.0  # DALI's and torch's worker processes; containers default to 64 MB


def examine(console: Console) -> bool:
    """Print what was found; returns whether nothing stands in the way."""
    findings = [*_packages(), *_processors(), *_gpus(), *gpu_findings(), *_storage()]
    table = Table("", "subject", "found", title="kit doctor", title_justify="left")
    for finding in findings:
        table.add_row("[red]mend[/]" if finding.remedy else "[green]ok[/]", finding.subject, plain(finding.found))
    console.print(table)
    for finding in findings:
        if finding.remedy:
            say(console, f"{finding.subject}: {finding.remedy}")
    return not any(finding.remedy for finding in findings)


def _packages() -> list[Finding]:
    environment = collect_environment()
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    kit = environment["kit"]
    return [
        Finding("kit", f"{kit['version']} {(kit['commit'] or '')[:12]}{' with local changes' if kit['dirty'] else ''}"),
        Finding("system", f"Python {environment['python']}, {environment['platform']}"),
        Finding("packages", versions),
    ]


def _processors() -> list[Finding]:
    cpu = collect_environment()["cpu"]
    speed = "bf16 in hardware" if cpu_has_bfloat16() else "no bf16 instructions: training runs in fp32"
    return [Finding("processor", f"{told_processor(cpu)}, {', '.join(cpu['features'])}: {speed}")]


def _gpus() -> list[Finding]:
    visible = visible_nvidia_devices()
    if not torch.cuda.is_available():
        if not visible:
            return [Finding("GPU", "none visible: everything runs on the CPU")]
        built = torch.version.cuda or "CPU only"
        return [
            Finding(
                "GPU",
                f"{', '.join(visible)} visible, but torch {torch.__version__} ({built}) cannot use it",
                "update the NVIDIA driver (R580 or newer for CUDA 13) or install a CUDA build of torch",
            )
        ]
    findings = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        memory = f"{properties.total_memory / 1e9:.0f} GB"
        text = f"{properties.name}, {memory}, compute capability {capability[0]}.{capability[1]}"
        remedy = "" if capability >= OLDEST_CAPABILITY else "too old for CUDA 13: use compute capability 7.5 or newer"
        findings.append(Finding(f"GPU {index}", text, remedy))
    return findings


def _folder(name: str, folder: Path) -> Finding:
    """Whether a folder can be made and written, with room in it; nothing is made."""
    other = "set CHALLENGE_KIT_CACHE to a folder" if name == "cache" else "work in a folder, or pass --run with one,"
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free / 1e9
    except OSError as error:
        return Finding(name, f"{folder}: {error.strerror}", f"{other} that can be read")
    remedy = ""
    if not existing.is_dir():
        remedy = f"{existing} is a file: {other} that can be written"
    elif not os.access(existing, os.W_OK | os.X_OK):
        remedy = f"{existing} is not writable: {other} that is"
    elif free < FREE_GB:
        remedy = f"less than {FREE_GB:.0f} GB free: delete something, or choose another disk"
    return Finding(name, f"{folder}, {free:.0f} GB free", remedy)


def _storage() -> list[Finding]:
    findings = [_folder("cache", cache_folder()), _folder("runs", Path("runs").absolute())]
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / 1e9
        small = size < SHARED_MEMORY_GB
        remedy = "start the container with --shm-size 8g or --ipc host" if small else ""
        findings.append(Finding("shared memory", f"{size:.1f} GB", remedy))
    return findings
