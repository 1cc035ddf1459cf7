"""Whether figures may be believed: every code here stands for a way in which published ones have been wrong."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.measure import Ratio, Windows
from benchmarks.record import DataKind, Finding, Validity

MINIMUM_SECONDS, MINIMUM_STEPS = 10.0, 20
UNSTEADY_VARIATION = 0.05  # standard deviation over mean of the windows' throughput
UNSTEADY_RATIO = 0.2  # width of a ratio's interval over its median
BUSY_SHARE = 0.1  # part of all cores that other processes may use


def judge(
    measurements: Mapping[str, Windows],
    *,
    environment: Mapping[str, Any],
    data: DataKind,
    ratios: Mapping[str, Ratio] | None = None,
    losses_finite: bool = True,
) -> Validity:
    """Reasons that make a record invalid, and warnings that do not.

    With ratios given the record is a side-by-side comparison: noise hits both sides alike, so that only the ratios
    have to be steady, and a busy machine is a warning.
    """
    reasons: list[Finding] = []
    warnings: list[Finding] = []
    for name, windows in measurements.items():
        reasons += list(_timing(name, windows))
        if ratios is None:
            reasons += list(_steadiness(name, windows))
    busy = [finding for name, windows in measurements.items() for finding in _busy(name, windows)]
    (warnings if ratios else reasons).extend(busy)
    reasons += [finding for name, ratio in (ratios or {}).items() for finding in _ratio(name, ratio)]
    if environment["gpus"] and str(environment["device"]).startswith("cpu"):
        text = f"An NVIDIA GPU is present ({environment['gpus'][0]['name']}) and the work ran on the CPU."
        reasons.append(Finding(code="CPU_FALLBACK", text=text))
    if not losses_finite:
        reasons.append(Finding(code="LOSS_NOT_FINITE", text="A measured training step had a loss that is no number."))
    if environment["kit"]["dirty"]:
        warnings.append(Finding(code="DIRTY_TREE", text="Files differed from the commit named in the record."))
    if data == "synthetic":
        warnings.append(Finding(code="SYNTHETIC_DATA", text="The data was made up in memory: nothing was read."))
    return Validity(valid=not reasons, reasons=tuple(reasons), warnings=tuple(warnings))


def _timing(name: str, windows: Windows) -> Iterator[Finding]:
    if windows.warmup.seconds >= windows.seconds:
        text = f"{name}: warmed up for {windows.warmup.seconds:.1f} s and measured for {windows.seconds:.1f} s."
        yield Finding(code="WARMUP_GE_STEPS", text=text)
    if windows.seconds < MINIMUM_SECONDS or windows.steps < MINIMUM_STEPS:
        text = (
            f"{name}: measured {windows.steps} steps in {windows.seconds:.1f} s; "
            f"at least {MINIMUM_STEPS} steps and {MINIMUM_SECONDS:.0f} s are needed."
        )
        yield Finding(code="TOO_SHORT", text=text)


def _steadiness(name: str, windows: Windows) -> Iterator[Finding]:
    rates = [window.samples / window.seconds for window in windows.windows]
    mean = sum(rates) / len(rates)
    variation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates)) / mean
    if variation > UNSTEADY_VARIATION:
        text = f"{name}: throughput varied by {variation:.0%} between windows; {UNSTEADY_VARIATION:.0%} is allowed."
        yield Finding(code="UNSTEADY", text=text)


def _ratio(name: str, ratio: Ratio) -> Iterator[Finding]:
    width = (ratio.interval[1] - ratio.interval[0]) / ratio.median
    if width > UNSTEADY_RATIO:
        text = f"{name}: the ratio's interval is {width:.0%} of it wide; {UNSTEADY_RATIO:.0%} is allowed."
        yield Finding(code="UNSTEADY", text=text)


def _busy(name: str, windows: Windows) -> Iterator[Finding]:
    if windows.busy_share > BUSY_SHARE:
        text = f"{name}: other processes used {windows.busy_share:.0%} of the cores; {BUSY_SHARE:.0%} is allowed."
        yield Finding(code="BUSY_MACHINE", text=text)
