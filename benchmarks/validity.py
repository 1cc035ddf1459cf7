"""Whether figures may be believed: every code here stands for a way in which published ones have been wrong."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import Ratio, Windows, throughputs
from benchmarks.record import DataKind, Evidence, Finding, Validity

UNSTEADY_WIDTH = 0.1  # width of a throughput's interval over its median
UNSTEADY_DRIFT = 0.1  # change of a throughput from the first window to the last, on the straight line through them
UNSTEADY_RATIO = 0.2  # width of a ratio's interval over its median
DRIFT_WINDOWS = 6  # fewer make no line
BUSY_SHARE = 0.1  # part of all cores that other processes may use
THROTTLED_SHARE = 0.05  # part of the readings in which a GPU may be held down
SUPERLINEAR = 1.1  # times the ranks times one rank's throughput
ABOVE_ROOF = 1.0
OVERLAP_ABOVE_ONE = 1.02  # windows end after whole steps, of which a short one has a few hundred
HEAT_AND_FAULTS = ("hardware", "software_thermal", "hardware_thermal", "power_brake")


@dataclass(frozen=True, kw_only=True)
class Demands:
    """How long a measurement has to be."""

    seconds: float = 10.0
    steps: int = 20


SHRUNK = Finding(code="SMOKE", text="Everything was shrunk to show that it works: the figures are not to be compared.")
FULL = Demands()
SMOKE = Demands(seconds=0.5, steps=3)
"""Of a run that is to show that everything works: such a record carries the warning SMOKE and is never ranked."""
BY_NOISE = ("WARMUP_GE_STEPS", "UNSTEADY", "BUSY_MACHINE", "ABOVE_ROOF", "OVERLAP_ABOVE_ONE")
"""What a machine does that works for others, too: of a smoke run, whose figures nobody ranks, a warning."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What else is known of a measurement than its windows.

    mismatch:  how an engine's outputs differ from the trained model's; empty where they do not, or nothing is compared.
    cpu_asked: whether the user chose the CPU; smoke: whether everything was shrunk.
    """

    evidence: Evidence = field(default_factory=Evidence)
    overlap: Ratio | None = None
    mismatch: str = ""
    cpu_asked: bool = False
    smoke: bool = False


def judge(
    measurements: Mapping[str, Windows],
    *,
    environment: Mapping[str, Any],
    data: DataKind,
    ratios: Mapping[str, Ratio] | None = None,
    losses_finite: bool = True,
    seen: Seen | None = None,
) -> Validity:
    """Reasons that make a record invalid, and warnings that do not.

    With ratios given the record is a side-by-side comparison: noise hits both sides alike, so that only the ratios
    have to be steady, and a busy machine is a warning. In a smoke run all that noise brings about is one.
    """
    seen = seen or Seen()
    demands = SMOKE if seen.smoke else FULL
    reasons: list[Finding] = []
    warnings: list[Finding] = []
    for name, windows in measurements.items():
        reasons += _timing(name, windows, demands)
        if ratios is None:
            reasons += _steadiness(name, windows)
    busy = [finding for name, windows in measurements.items() for finding in _busy(name, windows)]
    (warnings if ratios else reasons).extend(busy)
    reasons += [finding for name, ratio in (ratios or {}).items() for finding in _ratio(name, ratio)]
    reasons += [*_place(environment, seen), *_impossible(seen), *_gpu(seen.evidence)]
    roofs = seen.evidence.probe
    (warnings if roofs is not None and roofs.busy_share > BUSY_SHARE else reasons).extend(_above_roof(seen.evidence))
    if not losses_finite:
        reasons.append(Finding(code="LOSS_NOT_FINITE", text="A measured training step had a loss that is no number."))
    if seen.mismatch:
        reasons.append(Finding(code="OUTPUT_MISMATCH", text=seen.mismatch))
    if seen.smoke:
        warnings += [finding for finding in reasons if finding.code in BY_NOISE]
        reasons = [finding for finding in reasons if finding.code not in BY_NOISE]
    warnings += _told(environment, data, seen)
    return Validity(valid=not reasons, reasons=tuple(reasons), warnings=tuple(warnings))


def is_steady(windows: Windows) -> bool:
    """Whether a throughput's interval is narrow enough, and does not drift: more windows are not needed."""
    return _width(windows) <= UNSTEADY_WIDTH and abs(drift(windows)) <= UNSTEADY_DRIFT


def drift(windows: Windows) -> float:
    """The change from the first window to the last on the straight line through all, over the median.

    0 where there are too few windows for a line, or where the line is within two standard errors of a level one.
    """
    rates = throughputs(windows.windows)
    if len(rates) < DRIFT_WINDOWS:
        return 0.0
    times = np.arange(len(rates)) - (len(rates) - 1) / 2
    slope = float(times @ rates / (times @ times))
    rest = rates - rates.mean() - slope * times
    error = math.sqrt(float(rest @ rest) / (len(rates) - 2) / float(times @ times))
    return slope * (len(rates) - 1) / windows.samples_per_s.median if abs(slope) > 2 * error else 0.0


def superlinear(ranks: int, together: float, alone: float) -> str:
    """What is impossible about `ranks` that reach `together` where one reaches `alone`; empty where nothing is."""
    if together <= SUPERLINEAR * ranks * alone:
        return ""
    return (
        f"{ranks} ranks reach {together / alone:.3g} times what one does; {ranks} times is the most there can be, "
        f"and {SUPERLINEAR - 1:.0%} is allowed for noise."
    )


def _timing(name: str, windows: Windows, demands: Demands) -> Iterator[Finding]:
    if windows.warmup.seconds >= windows.seconds:
        text = f"{name}: warmed up for {windows.warmup.seconds:.1f} s and measured for {windows.seconds:.1f} s."
        yield Finding(code="WARMUP_GE_STEPS", text=text)
    if windows.seconds < demands.seconds or windows.steps < demands.steps:
        text = (
            f"{name}: measured {windows.steps} steps in {windows.seconds:.1f} s; "
            f"at least {demands.steps} steps and {demands.seconds:g} s are needed."
        )
        yield Finding(code="TOO_SHORT", text=text)


def _steadiness(name: str, windows: Windows) -> Iterator[Finding]:
    width, change = _width(windows), drift(windows)
    count = len(windows.windows)
    if width > UNSTEADY_WIDTH:
        text = (
            f"{name}: after {count} windows the throughput's interval is still {width:.0%} of it wide; "
            f"{UNSTEADY_WIDTH:.0%} is allowed."
        )
        yield Finding(code="UNSTEADY", text=text)
    if abs(change) > UNSTEADY_DRIFT:
        text = f"{name}: the throughput drifted by {change:+.0%} over {count} windows; {UNSTEADY_DRIFT:.0%} is allowed."
        yield Finding(code="UNSTEADY", text=text)


def _width(windows: Windows) -> float:
    low, high = windows.samples_per_s.interval
    return (high - low) / windows.samples_per_s.median


def _ratio(name: str, ratio: Ratio) -> Iterator[Finding]:
    width = (ratio.interval[1] - ratio.interval[0]) / ratio.median
    if width > UNSTEADY_RATIO:
        text = f"{name}: the ratio's interval is {width:.0%} of it wide; {UNSTEADY_RATIO:.0%} is allowed."
        yield Finding(code="UNSTEADY", text=text)


def _busy(name: str, windows: Windows) -> Iterator[Finding]:
    if windows.busy_share > BUSY_SHARE:
        text = f"{name}: other processes used {windows.busy_share:.0%} of the cores; {BUSY_SHARE:.0%} is allowed."
        yield Finding(code="BUSY_MACHINE", text=text)


def _place(environment: Mapping[str, Any], seen: Seen) -> Iterator[Finding]:
    """Where the work ran instead of where it should have."""
    if environment["gpus"] and str(environment["device"]).startswith("cpu") and not seen.cpu_asked:
        text = f"An NVIDIA GPU is present ({environment['gpus'][0]['name']}) and the work ran on the CPU."
        yield Finding(code="CPU_FALLBACK", text=text)
    for stray in seen.evidence.worker.strays:
        yield Finding(code="WRONG_GPU", text=stray[:1].upper() + stray[1:] + ".")
    worked = {gpu.uuid for gpu in seen.evidence.worker.gpus}
    for name, telemetry in seen.evidence.telemetry.items():
        if set(telemetry.gpus) != worked:
            yield Finding(
                code="WRONG_GPU", text=f"{name}: telemetry was read from another GPU than the one that worked."
            )


def _gpu(evidence: Evidence) -> Iterator[Finding]:
    """What held a GPU down, and who shared it."""
    lowered = any(
        gpu.power_limit_w is not None
        and gpu.default_power_limit_w is not None
        and gpu.power_limit_w < gpu.default_power_limit_w
        for gpu in evidence.worker.gpus
    )
    reasons = HEAT_AND_FAULTS + (("power_cap",) if lowered else ())  # at its own limit a GPU does all that it can
    for name, telemetry in evidence.telemetry.items():
        held = {reason: (telemetry.throttled or {}).get(reason, 0.0) for reason in reasons}
        worst = {reason: share for reason, share in held.items() if share > THROTTLED_SHARE}
        if worst:
            told = ", ".join(f"{reason.replace('_', ' ')} {share:.0%}" for reason, share in worst.items())
            text = (
                f"{name}: the GPU's clocks were held down in {told} of the readings; {THROTTLED_SHARE:.0%} is allowed."
            )
            yield Finding(code="THROTTLED", text=text)
        if telemetry.other_processes:
            text = f"{name}: {telemetry.other_processes} other processes were on the GPU; it has to be ours alone."
            yield Finding(code="BUSY_GPU", text=text)


def _impossible(seen: Seen) -> Iterator[Finding]:
    """Figures that no machine reaches."""
    ranks, overlap = seen.evidence.ranks, seen.overlap
    if ranks.together_samples_per_s and ranks.alone_samples_per_s:
        text = superlinear(ranks.size, ranks.together_samples_per_s, ranks.alone_samples_per_s)
        if text:
            yield Finding(code="SUPERLINEAR", text=text)
    if overlap is not None and overlap.interval[0] > OVERLAP_ABOVE_ONE:
        text = (
            f"End-to-end is {overlap.median:.0%} of the slower part ({overlap.interval[0]:.0%} – "
            f"{overlap.interval[1]:.0%}): a whole cannot be quicker than its slower part."
        )
        yield Finding(code="OVERLAP_ABOVE_ONE", text=text)


def _above_roof(evidence: Evidence) -> Iterator[Finding]:
    if evidence.utilisation is not None and evidence.utilisation.highest > ABOVE_ROOF:
        text = (
            f"The work done is {evidence.utilisation.highest:.0%} of a roof: the work, the time or the roof is wrong, "
            "or something else ran while the roof was measured."
        )
        yield Finding(code="ABOVE_ROOF", text=text)


def _told(environment: Mapping[str, Any], data: DataKind, seen: Seen) -> Iterator[Finding]:
    if seen.smoke:
        yield SHRUNK
    if environment["kit"]["dirty"]:
        yield Finding(code="DIRTY_TREE", text="Files differed from the commit named in the record.")
    if data == "synthetic":
        yield Finding(code="SYNTHETIC_DATA", text="The data was made up in memory: nothing was read.")
