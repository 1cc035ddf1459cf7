"""Who did the work: the GPUs by their UUID, never by their place in a list, their driver and libraries, and the cloud.

Under CUDA_VISIBLE_DEVICES the first GPU of the driver is another card than the first of CUDA; under MIG it is the whole
card instead of the slice. So a CUDA device is asked for its UUID, and the driver for that.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

METADATA = "http://169.254.169.254/latest"
METADATA_SECONDS = 0.2  # a cloud answers in a few milliseconds, and nothing else has to be waited for
LINKS = 18  # of NVLink, which a GPU has at most
GIGABYTE = 1e9
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, or one slice of it; what its driver does not tell is null.

    uuid:       the first twelve digits of the SHA-256 of its UUID: the same card can be told, and not looked up.
    capability: such as 9.0; memory_gb: 1e9 bytes, of the slice where it is one.
    mig:        the slice's profile, such as 1g.10gb; vgpu: whether a hypervisor shares the card out.
    pcie:       the generation and width that card and slot agree on, such as 5x16; nvlinks: those that are up.
    """

    name: str
    uuid: str
    capability: str | None = None
    memory_gb: float | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    maximum_sm_mhz: int | None = None
    maximum_memory_mhz: int | None = None
    ecc: bool | None = None
    mig: str | None = None
    vgpu: bool | None = None
    pcie: str | None = None
    nvlinks: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The instance as its cloud names it; lifecycle: on-demand or spot."""

    instance: str
    region: str | None
    lifecycle: str | None


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What the environment's list of GPUs does not tell: which of them worked, and with what.

    gpus:      those that worked, in the order of ranks; none on a CPU.
    container: digest of the image, where the variable KIT_IMAGE names it with one.
    strays:    what makes doubtful that these GPUs worked, in sentences.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    container: str | None = None
    cloud: Cloud | None = None
    strays: tuple[str, ...] = ()


def worker_of(uuids: Sequence[str], nvml: Any = None) -> Worker:
    """The worker whose CUDA devices have these UUIDs; `nvml` stands in for the driver's library in tests."""
    container = DIGEST.search(os.environ.get("KIT_IMAGE", ""))
    digest = container[0] if container else None
    if not uuids:
        return Worker(container=digest, cloud=cloud())
    import torch

    nccl = torch.cuda.nccl.version() if torch.cuda.is_available() else None
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    gpus, strays, driver = [], [], None
    with driver_library(nvml) as library:
        driver = None if library is None else library.nvmlSystemGetDriverVersion()
        for uuid in uuids:
            gpu, stray = _gpu(library, uuid)
            gpus.append(gpu)
            strays += stray
    twice = sorted({gpu.name for gpu in gpus if [other.uuid for other in gpus].count(gpu.uuid) > 1})
    strays += [f"several processes worked on one {name}" for name in twice]
    return Worker(
        gpus=tuple(gpus),
        driver=driver,
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
        nccl=None if nccl is None else ".".join(map(str, nccl)),
        container=digest,
        cloud=cloud(),
        strays=tuple(strays),
    )


def uuid_of(device: Any) -> str | None:
    """The UUID of a CUDA device as its driver writes it, without the kind before it; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def short(uuid: str) -> str:
    """A UUID as records keep it."""
    return hashlib.sha256(re.sub(r"^(GPU|MIG)-", "", uuid).lower().encode()).hexdigest()[:12]


@contextlib.contextmanager
def driver_library(nvml: Any = None) -> Iterator[Any]:
    """The driver's library, ready; None where there is none."""
    library = importlib.import_module("pynvml") if nvml is None else nvml
    try:
        library.nvmlInit()
    except library.NVMLError:
        yield None
        return
    try:
        yield library
    finally:
        library.nvmlShutdown()


def handle_of(nvml: Any, uuid: str) -> Any:
    """The driver's handle of a card or a slice; None where the driver does not know it."""
    bare = re.sub(r"^(GPU|MIG)-", "", uuid)
    for kind in ("GPU", "MIG"):
        with contextlib.suppress(nvml.NVMLError):
            return nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{bare}")
    return None


def card_of(nvml: Any, handle: Any) -> Any:
    """The card that a slice is cut from; a card itself."""
    return _told(nvml, lambda: nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)) or handle


def _gpu(nvml: Any, uuid: str) -> tuple[Gpu, list[str]]:
    """What the driver tells about a UUID, and what is doubtful about it."""
    handle = None if nvml is None else handle_of(nvml, uuid)
    if handle is None:
        return Gpu(name="unknown", uuid=short(uuid)), ["the driver knows no GPU of the UUID that CUDA worked on"]
    card = card_of(nvml, handle)

    def ask(function: str, *arguments: Any, of: Any = card) -> Any:
        return _told(nvml, lambda: getattr(nvml, function)(of, *arguments))

    name = str(ask("nvmlDeviceGetName", of=handle))
    memory, capability = ask("nvmlDeviceGetMemoryInfo", of=handle), ask("nvmlDeviceGetCudaComputeCapability")
    limit, default = ask("nvmlDeviceGetEnforcedPowerLimit"), ask("nvmlDeviceGetPowerManagementDefaultLimit")
    ecc, mode = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetVirtualizationMode")
    generation, width = ask("nvmlDeviceGetMaxPcieLinkGeneration"), ask("nvmlDeviceGetMaxPcieLinkWidth")
    links = [ask("nvmlDeviceGetNvLinkState", link) for link in range(LINKS)]
    profile = re.search(r"MIG (\S+)$", name)
    return Gpu(
        name=name,
        uuid=short(uuid),
        capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        memory_gb=None if memory is None else round(memory.total / GIGABYTE, 1),
        power_limit_w=None if limit is None else limit / 1000,
        default_power_limit_w=None if default is None else default / 1000,
        maximum_sm_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        maximum_memory_mhz=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
        ecc=None if ecc is None else bool(ecc[0]),
        mig=profile[1] if profile else None,
        vgpu=None if mode is None else mode == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU,
        pcie=f"{generation}x{width}" if generation and width else None,
        nvlinks=sum(map(bool, links)) if any(link is not None for link in links) else None,
    ), []


def _told(nvml: Any, ask: Callable[[], Any]) -> Any:
    """An answer of the driver; None where it refuses or its library is too old to be asked."""
    try:
        return ask()
    except (nvml.NVMLError, AttributeError):
        return None


@functools.cache
def cloud(base: str = METADATA) -> Cloud | None:
    """The instance, told by its cloud's service with a session token (IMDSv2); None elsewhere, after 0.2 s."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would be another machine

    def get(path: str, **options: Any) -> str:
        request = urllib.request.Request(f"{base}/{path}", **options)
        with opener.open(request, timeout=METADATA_SECONDS) as answer:
            return str(answer.read(256).decode())

    try:
        token = get("api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        names = ("instance-type", "placement/region", "instance-life-cycle")
        kind, region, lifecycle = (
            get(f"meta-data/{name}", headers={"X-aws-ec2-metadata-token": token}) for name in names
        )
    except (OSError, ValueError):
        return None
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", kind):
        return None
    return Cloud(
        instance=kind,
        region=region if re.fullmatch(r"[a-z0-9-]+", region) else None,
        lifecycle=lifecycle if lifecycle in ("on-demand", "spot", "scheduled", "capacity-block") else None,
    )
