"""NVIDIA's management library as recorded sessions answer it: cards, slices, readings that follow each other."""

# ruff: noqa: N802, N815  # the names are the library's

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """What the library raises."""


@dataclass
class Card:
    """One GPU or one slice of it, by its UUID as the driver writes it.

    clocks, reasons, processes: one value per reading, the last one kept; an exception is raised instead of answered.
    """

    uuid: str
    name: str = "NVIDIA H200"
    clocks: list[Any] = field(default_factory=lambda: [1980])
    reasons: list[Any] = field(default_factory=lambda: [0])
    processes: list[list[int]] = field(default_factory=lambda: [[]])
    limit_w: float = 700.0
    default_limit_w: float = 700.0
    memory_gb: float = 150.1
    virtualization: int = 1
    watts: float = 500.0
    energy: bool = True
    parent: "Card | None" = None
    joules: float = 1000.0


class Session:
    """Stands in for `pynvml`."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_GPU_VIRTUALIZATION_MODE_VGPU = 1, 2, 0, 2
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSyncBoost = 0x10
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self, *cards: Card, starts: bool = True) -> None:
        self.cards, self.starts, self.open = cards, starts, 0

    def nvmlInit(self) -> None:
        if not self.starts:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        for card in self.cards:
            if card.uuid == uuid:
                return card
        raise NVMLError("Not Found")

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, card: Card) -> Card:
        if card.parent is None:
            raise NVMLError("Invalid Argument")
        return card.parent

    def nvmlDeviceGetName(self, card: Card) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(total=card.memory_gb * 1e9, used=12e9)

    def nvmlDeviceGetCudaComputeCapability(self, card: Card) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetEnforcedPowerLimit(self, card: Card) -> int:
        return int(card.limit_w * 1000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, card: Card) -> int:
        return int(card.default_limit_w * 1000)

    def nvmlDeviceGetEccMode(self, card: Card) -> tuple[int, int]:
        return 1, 1

    def nvmlDeviceGetVirtualizationMode(self, card: Card) -> int:
        return card.virtualization

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card: Card) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, card: Card) -> int:
        return 16

    def nvmlDeviceGetNvLinkState(self, card: Card, link: int) -> int:
        return 1

    def nvmlDeviceGetMaxClockInfo(self, card: Card, kind: int) -> int:
        return {1: 1980, 2: 3201}[kind]

    def nvmlDeviceGetClockInfo(self, card: Card, kind: int) -> Any:
        return _next(card.clocks)

    def nvmlDeviceGetTemperature(self, card: Card, kind: int) -> int:
        return 61

    def nvmlDeviceGetCurrentClocksEventReasons(self, card: Card) -> Any:
        return _next(card.reasons)

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in _next(card.processes)]

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Card) -> int:
        if not card.energy:
            raise NVMLError("Not Supported")
        card.joules += card.watts
        return int(card.joules * 1000)


def _next(values: list[Any]) -> Any:
    value = values.pop(0) if len(values) > 1 else values[0]
    if isinstance(value, Exception):
        raise value
    return value
