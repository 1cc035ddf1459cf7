"""What a machine with an NVIDIA GPU needs beside the GPU: driver, TensorRT, DALI's decoder, room for images."""

import importlib.metadata
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from common.errors import DeviceError
from common.export.tensorrt import load_tensorrt
from common.machine.device import visible_nvidia_devices
from common.machine.environment import PACKAGES, graphics_processors, platform_name
from common.serving.releases import container_release, read_versions
from common.stages.finding import Finding

INSTALL = "pip install --no-deps -r locked/gpu.txt"
"""TensorRT as the server has it."""
DECODER = "nvimgcodec"
IMAGES_GB = 50.0  # NVIDIA's training and serving image, unpacked
DOCKER_FOLDER = Path("/var/lib/docker")


def gpu_findings() -> Iterator[Finding]:
    """Nothing where no NVIDIA GPU is visible."""
    processors = graphics_processors()
    if not (processors or visible_nvidia_devices()):
        return
    if processors:
        yield _driver(processors[0]["driver"])
    yield _tensorrt()
    yield from _decoder()
    used = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if used > 1 or len(processors) > used:
        yield _idle(len(processors), used)
    if shutil.which("docker"):
        yield _images()
    if "microsoft" in platform_name().lower():
        yield Finding(
            "WSL", "the driver is Windows', and none is to be installed here; files under /mnt are read slowly"
        )


def _driver(version: str) -> Finding:
    versions = read_versions()
    floor = int(versions["DRIVER_FLOOR"])
    remedy = "" if int(version.split(".")[0]) >= floor else f"update the NVIDIA driver to R{floor} or newer"
    return Finding("driver", f"{version}, for CUDA {versions['CUDA_VERSION']} R{floor} or newer", remedy)


def _tensorrt() -> Finding:
    try:
        here = str(load_tensorrt().__version__)
    except DeviceError as error:
        return Finding(
            "TensorRT",
            f"none ({error.given}): what is trained here is served from the CPU",
            f"{INSTALL} in the kit's environment, or work in NVIDIA's image: make challenge1 CONTAINER=1",
        )
    release = container_release()
    if here == release.tensorrt:
        return Finding("TensorRT", f"{here}, as in Triton {release.name}")
    told = f"Triton {release.name} has {release.tensorrt}, which reads no plans of this one"
    return Finding("TensorRT", f"{here}; {told}: for make up1 {INSTALL}, or walk with CONTAINER=1")


def _decoder() -> Iterator[Finding]:
    """DALI and the image decoder that it asks for: of a pair that was not made for each other, decoding fails."""
    from packaging.requirements import Requirement

    for dali in PACKAGES["dali"]:
        try:
            wanted = [Requirement(line) for line in importlib.metadata.requires(dali) or () if DECODER in line]
            version = importlib.metadata.version(dali)
        except importlib.metadata.PackageNotFoundError:
            continue
        for decoder in wanted:
            try:
                here = importlib.metadata.version(decoder.name)
            except importlib.metadata.PackageNotFoundError:
                here = "absent"
            fits = here != "absent" and decoder.specifier.contains(here, prereleases=True)
            remedy = "" if fits else f"pip install '{decoder.name}{decoder.specifier}'"
            yield Finding("DALI", f"{version} with {decoder.name} {here}", remedy)


def _idle(all_gpus: int, visible: int) -> Finding:
    text = f"{all_gpus}, of which the kit sees {visible} and one process uses one"
    return Finding("GPUs", f"{text}: torchrun --nproc-per-node {visible} -m -- challenges train …" if visible else text)


def _images() -> Finding:
    existing = next(folder for folder in (DOCKER_FOLDER, *DOCKER_FOLDER.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free / 1e9
    short = "" if free >= IMAGES_GB else ": too little for make challenge1 CONTAINER=1"
    return Finding("images", f"{free:.0f} GB free for NVIDIA's containers, which take about {IMAGES_GB:.0f}{short}")
