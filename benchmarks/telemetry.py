"""What a GPU did while it was measured, read ten times a second by a thread of its own: the driver's word, not ours.

Nothing here waits for the GPU: the driver answers beside the work. What it refuses is null, and the reason is kept.
"""

import contextlib
import functools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, Self

import psutil

from benchmarks.worker import card_of, driver_library, handle_of, short

PERIOD = 0.1  # seconds between two readings
REASONS = {
    "power_cap": "SwPowerCap",
    "hardware": "HwSlowdown",
    "software_thermal": "SwThermalSlowdown",
    "hardware_thermal": "HwThermalSlowdown",
    "power_brake": "HwPowerBrakeSlowdown",
    "sync_boost": "SyncBoost",
}
"""Our names of why clocks are held down, and the ends of the driver's names of their bits."""
GIGABYTE = 1e9


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """One measurement's readings, over all GPUs that worked.

    gpus:            short UUIDs of the GPUs that were read.
    energy_j:        of all together, by the driver's counter.
    sm_mhz:          the median clock of the multiprocessors; lowest_sm_mhz: of any reading.
    temperature_c, memory_gb: the highest.
    throttled:       reason -> share of the readings, 0..1, of the GPU that was held down most.
    other_processes: most processes of others on a GPU at a time.
    absent:          field -> why it is null.
    """

    gpus: tuple[str, ...]
    readings: int
    energy_j: float | None = None
    sm_mhz: float | None = None
    lowest_sm_mhz: float | None = None
    temperature_c: float | None = None
    memory_gb: float | None = None
    throttled: dict[str, float] | None = None
    other_processes: int | None = None
    absent: dict[str, str] = field(default_factory=dict)


_NULLABLE = tuple(each.name for each in fields(Telemetry) if each.default is None)


class Telemeter:
    """Reads the GPUs of these UUIDs while the block runs; `watch` says which measurement a reading belongs to.

    nvml stands in for the driver's library in tests. Without a GPU, or without a driver, nothing is read.
    """

    def __init__(self, uuids: Sequence[str], nvml: Any = None, period: float = PERIOD) -> None:
        self._uuids, self._given, self._period = tuple(uuids), nvml, period
        self._handles: dict[str, Any] = {}
        self._seen: dict[tuple[str, str], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        self._absent: dict[str, dict[str, str]] = defaultdict(dict)
        self._name: str | None = None
        self._over, self._lock = threading.Event(), threading.Lock()
        self._open = contextlib.ExitStack()
        self._nvml: Any = None

    def __enter__(self) -> Self:
        if self._uuids:
            self._nvml = self._open.enter_context(driver_library(self._given))
        if self._nvml is not None:
            self._handles = {uuid: handle_of(self._nvml, uuid) for uuid in self._uuids}
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._nvml is not None:
            self._over.set()
            self._thread.join()
        self._open.close()

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[None]:
        """Readings made while the block runs belong to the measurement of this name; blocks of one name add up."""
        if self._nvml is None:
            yield
            return
        before = {uuid: self._energy(name, uuid) for uuid in self._uuids}
        with self._lock:
            self._name = name
        self._read(name)  # at least one, however short the block
        try:
            yield
        finally:
            with self._lock:
                self._name = None
            for uuid in self._uuids:
                first, after = before[uuid], self._energy(name, uuid)
                if after is not None and first is not None and after >= first:
                    self._seen[name, uuid]["energy_j"].append(after - first)

    def of(self, name: str) -> Telemetry | None:
        """What was read during a measurement; None where there was no GPU to read."""
        if not self._uuids:
            return None
        gpus = tuple(short(uuid) for uuid in self._uuids)
        if self._nvml is None:
            why = "the driver's library does not load"
            return Telemetry(gpus=gpus, readings=0, absent=dict.fromkeys(_NULLABLE, why))
        with self._lock:
            seen = [dict(self._seen[name, uuid]) for uuid in self._uuids]
            absent = dict(self._absent[name])

        def values(part: str) -> list[Any]:
            return [value for one in seen for value in one.get(part, ())]

        clocks, held = values("sm_mhz"), [one["throttled"] for one in seen if "throttled" in one]
        throttled = {
            reason: max(sum(bool(bits & self._bit(reason)) for bits in one) / len(one) for one in held)
            for reason in REASONS
            if held
        }
        return Telemetry(
            gpus=gpus,
            readings=len(values("at")),
            energy_j=sum(values("energy_j")) if all("energy_j" in one for one in seen) else None,
            sm_mhz=median(clocks) if clocks else None,
            lowest_sm_mhz=min(clocks, default=None),
            temperature_c=max(values("temperature_c"), default=None),
            memory_gb=max(values("memory_gb"), default=None),
            throttled=throttled or None,
            other_processes=max(values("other_processes"), default=None),
            absent=absent,
        )

    def _run(self) -> None:
        while not self._over.wait(self._period):
            with self._lock:
                name = self._name
            if name is not None:
                self._read(name)

    def _read(self, name: str) -> None:
        for uuid, handle in self._handles.items():
            found = {part: self._ask(name, part, ask) for part, ask in self._questions(handle).items()}
            with self._lock:
                for part, value in found.items():
                    if value is not None:
                        self._seen[name, uuid][part].append(value)

    def _questions(self, handle: Any) -> dict[str, Callable[[], Any]]:
        nvml = self._nvml
        card = None if handle is None else card_of(nvml, handle)
        return {
            "at": time.monotonic,
            "sm_mhz": lambda: float(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM)),
            "temperature_c": lambda: float(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
            "memory_gb": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / GIGABYTE,
            "throttled": lambda: int(nvml.nvmlDeviceGetCurrentClocksEventReasons(card)),
            "other_processes": lambda: _others(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        }

    def _energy(self, name: str, uuid: str) -> float | None:
        nvml, handle = self._nvml, self._handles[uuid]
        card = None if handle is None else card_of(nvml, handle)
        joules = self._ask(name, "energy_j", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000)
        return None if joules is None else float(joules)

    def _ask(self, name: str, part: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (self._nvml.NVMLError, AttributeError, TypeError) as error:
            with self._lock:
                self._absent[name][part] = str(error) or type(error).__name__
            return None

    def _bit(self, reason: str) -> int:
        return int(getattr(self._nvml, f"nvmlClocksEventReason{REASONS[reason]}"))


def _others(processes: Sequence[Any]) -> int:
    """Those on a GPU that are none of ours.

    Where none is known by its number, as in a container, as many count as ours as there are at least: this one, and of
    several ranks the command that started them.
    """
    ours = _family(int(time.monotonic()))
    foreign = [process for process in processes if process.pid not in ours]
    known = len(foreign) < len(processes)
    return len(foreign) if known else max(0, len(foreign) - 1 - _is_a_rank())


def _is_a_rank() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


@functools.lru_cache(maxsize=1)
def _family(_second: int) -> frozenset[int]:
    """This process, its children, and of several ranks all that one command started; asked for once a second."""
    process = psutil.Process()
    members = {os.getpid(), *(child.pid for child in process.children(recursive=True))}
    ancestors = process.parents()
    if ancestors and _is_a_rank():
        members |= {ancestor.pid for ancestor in ancestors}
        members |= {child.pid for child in ancestors[0].children(recursive=True)}  # torchrun's
    return frozenset(members)
