"""Which device a run uses: a GPU where there is one, the CPU only where there is none."""

import os
from pathlib import Path
from typing import Literal

import torch

from common.errors import DeviceError

DeviceChoice = Literal["auto", "cpu", "cuda"]
OLDEST_CAPABILITY = (7, 5)  # CUDA 13 and its PyTorch wheels dropped everything before Turing (T4)

REPEATING_WORKSPACES = (":4096:8", ":16:8")  # the two that cuBLAS's documentation names
WSL_DRIVER = Path("/usr/lib/wsl/lib/libcuda.so.1")


def select_device(choice: DeviceChoice, local_rank: int = 0) -> torch.device:
    """The device for this process.

    Raises DeviceError instead of falling back to the CPU when an NVIDIA GPU is visible but unusable: a paid GPU that
    idles while the CPU works is the costliest silent failure there is.
    """
    if choice == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        _require_supported(local_rank)
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    if choice == "cuda":
        raise DeviceError(
            f"--device cuda was asked for, and torch {torch.__version__} finds no usable GPU ({_reason()}).",
            "A GPU needs an NVIDIA driver of R580 or newer and a CUDA build of torch.",
            "See `kit doctor`; or pass --device cpu.",
        )
    if visible_nvidia_devices():
        raise DeviceError(
            f"An NVIDIA GPU is visible, but torch {torch.__version__} cannot use it ({_reason()}).",
            "The kit never falls back to the CPU on such a machine by itself.",
            "Update the driver or install a CUDA build of torch (see `kit doctor`), or pass --device cpu.",
        )
    return torch.device("cpu")


def repeat_exactly(deterministic: bool) -> None:
    """Make operations give the same bits every time, or else let each take its quickest way.

    To be called before the first product on a GPU: cuBLAS reads its workspace's setting once.
    Raises DeviceError where the environment names a workspace with which cuBLAS does not repeat itself.
    """
    if deterministic:
        chosen = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", REPEATING_WORKSPACES[0])
        if chosen not in REPEATING_WORKSPACES:
            raise DeviceError(
                f"training.deterministic was chosen, and CUBLAS_WORKSPACE_CONFIG is {chosen}.",
                f"cuBLAS repeats itself with {' or '.join(REPEATING_WORKSPACES)}.",
                "Unset it: the kit sets the first of these.",
            )
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host's tensor on a device; a GPU copies it while the host goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def visible_nvidia_devices() -> list[str]:
    """NVIDIA devices that the operating system shows, whatever torch thinks; empty where the user hid them.

    Windows' subsystem for Linux shows none of them, and the driver's library instead.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return []
    return sorted(path.name for path in (*Path("/dev").glob("nvidia[0-9]*"), WSL_DRIVER) if path.exists())


def _reason() -> str:
    if torch.version.cuda is None:
        return "it is a CPU build"
    return f"it was built for CUDA {torch.version.cuda}; the driver may be older"


def _require_supported(local_rank: int) -> None:
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"Process {local_rank} of this machine has no GPU: {torch.cuda.device_count()} are visible.",
            remedy="Start as many processes as there are GPUs (torchrun --nproc-per-node).",
        )
    capability = torch.cuda.get_device_capability(local_rank)
    if capability < OLDEST_CAPABILITY:
        raise DeviceError(
            f"{torch.cuda.get_device_name(local_rank)} has compute capability {capability[0]}.{capability[1]}.",
            "The kit needs 7.5 or newer (T4, A10G, L4, A100, H100, ...).",
            "Pass --device cpu, or use a newer instance.",
        )
