"""What to try next: at most three sentences from a run's own evidence, each with its command."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from common.files import cache_folder
from common.language.telling import retell, tell
from common.run.evidence import Evidence
from common.run.result import Result, is_better
from common.run.run_directory import Entry, RunDirectory

MOST = 3
FEW, FEW_SHARE = 30, 0.25  # samples of a class: fewer than so many, and than this share of the classes' median
MOVED = 0.01  # of a metric, as a share of it, that is more than the last steps' wobble
SMALL_SHARE = 0.2  # of a class's objects
WAITING = 0.3  # of the training's time


@dataclass(frozen=True)
class Facts:
    """What is known of a finished run.

    data: what it was trained with, empty for generated data. again: the words of its command.
    """

    result: Result
    log: Sequence[Entry]
    evidence: Evidence
    data: str
    again: tuple[str, ...]

    def command(self, *flags: str) -> str:
        """The run's command with other flags."""
        return shlex.join([*_without(self.again, flags[::2]), *flags])

    def evaluations(self) -> list[tuple[float, int, float]]:
        """Epoch, step and value of the result's metric, of every evaluation while training."""
        name = self.result.metric
        entries = [entry for entry in self.log if entry["kind"] == "validation" and entry.get(name) is not None]
        return [(float(entry["epoch"]), int(entry["step"]), float(entry[name])) for entry in entries]


def next_steps(run: RunDirectory, result: Result, evidence: Evidence) -> list[str]:
    """The sentences, the most telling first; none where nothing stands out."""
    log, _ = run.readable_metrics()
    description = run.description()
    root = Path(description["data"]["root"])
    data = "" if (cache_folder() / "demo").resolve() in root.parents else str(root)
    facts = Facts(result, log, evidence, data, again(description, data))
    return [told for rule in RULES if (told := rule(facts))][:MOST]


def again(description: Mapping[str, Any], data: str) -> tuple[str, ...]:
    """The words of the command that makes the same run anew, in a folder of its own."""
    asked = ("--data", data) if data else ()
    return (
        "kit",
        "challenge",
        description["model"],
        "--recipe",
        description["recipe"],
        *asked,
        *description["overrides"],
    )


def scarce_class(facts: Facts) -> str:
    counts = facts.evidence.counts
    if len(counts) < 2 or not facts.data:
        return ""
    name = min(counts, key=lambda one: counts[one])
    usual = median(counts.values())
    if counts[name] >= min(FEW, FEW_SHARE * usual):
        return ""
    return tell(
        "{name} has {count:,} training {unit} only, where half of the classes have {usual:,.0f} or more: add some, "
        "then {command}",
        name=name, count=counts[name], unit=retell(facts.evidence.unit), usual=usual,
        command=shlex.join(("kit", "check", facts.data)),
    )  # fmt: skip


def learnt_by_heart(facts: Facts) -> str:
    found = facts.evaluations()
    if len(found) < 3:
        return ""
    best = found[0]
    for one in found:
        if is_better(facts.result.target, one[2], best[2]):
            best = one
    last = found[-1]
    if best[1] == last[1] or abs(best[2] - last[2]) <= MOVED * abs(best[2]):
        return ""
    if is_better(facts.result.target, facts.result.value, best[2]):  # by what came after the training
        return ""
    interval = facts.result.interval
    if interval is not None and interval.low <= best[2] <= interval.high:  # the best of several is lucky, too
        return ""
    return tell(
        "{metric} was best at step {step:,} ({best:.4f}) and {last:.4f} at the end, which was learnt by heart: "
        "{command}",
        metric=facts.result.metric, step=best[1], best=best[2], last=last[2],
        command=facts.command("--training.epochs", f"{best[0]:.3g}"),
    )  # fmt: skip


def still_rising(facts: Facts) -> str:
    found = facts.evaluations()
    if len(found) < 2:
        return ""
    before, last = found[-2], found[-1]
    if any(is_better(facts.result.target, one[2], last[2]) for one in found):
        return ""
    gain = abs(last[2] - before[2])
    if not is_better(facts.result.target, last[2], before[2]) or gain <= MOVED * abs(before[2]):
        return ""
    target = facts.result.target
    missing = abs(target.value - last[2]) if target is not None and facts.result.verdict == "missed" else None
    values = {
        "metric": facts.result.metric, "before": before[2], "last": last[2],
        "command": facts.command("--training.epochs", f"{2 * last[0]:.3g}"),
    }  # fmt: skip
    if missing is not None and missing <= gain:
        return tell(
            "{metric} still moved from {before:.4f} to {last:.4f} with the last evaluation, and the target is that "
            "near: {command}",
            **values,
        )
    return tell("{metric} still moved from {before:.4f} to {last:.4f} with the last evaluation: {command}", **values)


def small_objects(facts: Facts) -> str:
    shares, flags = facts.evidence.too_small, facts.evidence.for_smaller
    if not shares or not flags:
        return ""
    name = max(shares, key=lambda one: shares[one])
    if shares[name] < SMALL_SHARE:
        return ""
    return tell(
        "{share:.0%} of {name} are smaller than what the network looks for: {command}",
        share=shares[name], name=name, command=facts.command(*flags),
    )  # fmt: skip


def waited_for_data(facts: Facts) -> str:
    shares = [float(entry["data_wait"]) for entry in facts.log if entry["kind"] == "train" and "data_wait" in entry]
    later = shares[len(shares) // 4 :]  # the first ones fill the pipeline
    if not later or sum(later) / len(later) < WAITING:
        return ""
    share = sum(later) / len(later)
    return tell(
        "The training waited for data {share:.0%} of its time, which more cores shorten: kit doctor shows what it has",
        share=share,
    )


RULES = (scarce_class, learnt_by_heart, still_rising, small_objects, waited_for_data)
"""In the order of what helps most."""


def _without(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """A command's words without these flags and the values after them."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in flags:
            skip = True
        elif not any(word.startswith(f"{flag}=") for flag in flags):
            kept.append(word)
    return kept
