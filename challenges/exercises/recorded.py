"""Committed outcomes of runs, as far as an exercise shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from challenges.exercises.commanded import Commanded
from challenges.exercises.exercise import Recorded
from challenges.registry import find_model
from common.errors import DamagedFileError
from common.files import read_json
from common.machine.environment import ROOT

OUTCOMES = ROOT / "benchmarks" / "outcomes"
_SEED = "--training.seed"


@dataclass(frozen=True)
class Outcome:
    """One run: what was asked, on what, where, and what it reached."""

    asked: Commanded
    created: str
    device: str
    recorded: Recorded


def read_outcomes(folder: Path = OUTCOMES) -> tuple[Outcome, ...]:
    """The newest first; none where the kit was installed without its records. Raises DamagedFileError."""
    found = [_outcome(file) for file in sorted(folder.rglob("*.json"))]
    return tuple(sorted(found, key=lambda outcome: outcome.created, reverse=True))


def records_of(asked: Commanded, outcomes: Sequence[Outcome]) -> tuple[Recorded, ...]:
    """The newest record of the very training on each kind of device, those of CPUs first.

    A recipe for data of one's own says nothing of the data, so that the data set has to be the same, too.
    """
    entry = find_model(asked.model)
    is_own = asked.recipe in (entry.recipe_for_data, entry.recipe_for_weights)
    newest: dict[str, Recorded] = {}
    for outcome in outcomes:
        one = outcome.asked
        same = (one.model, one.recipe, one.overrides) == (asked.model, asked.recipe, asked.overrides)
        if same and (one.data == asked.data or not is_own):
            newest.setdefault(outcome.device, outcome.recorded)
    return tuple(newest[device] for device in sorted(newest, key=lambda device: (device != "cpu", device)))


def _outcome(file: Path) -> Outcome:
    record: dict[str, Any] = read_json(file)
    try:
        system = record["system"]
        is_cpu = system["device"] == "cpu"
        hardware = f"{system['cpu']['model']}, {system['cpu']['cores']} cores" if is_cpu else system["gpus"][0]["name"]
        interval = record["interval"]
        return Outcome(
            Commanded(record["model"], record["recipe"], record["dataset"], _without_seed(tuple(record["overrides"]))),
            record["created"],
            "cpu" if is_cpu else hardware,
            Recorded(
                metric=record["metric"],
                value=record["value"],
                interval=None if interval is None else (interval[0], interval[1]),
                seconds=record["seconds"],
                hardware=hardware,
            ),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise DamagedFileError(file, f"it lacks {error}") from None


def _without_seed(overrides: tuple[str, ...]) -> tuple[str, ...]:
    if _SEED not in overrides:
        return overrides
    place = overrides.index(_SEED)
    return overrides[:place] + overrides[place + 2 :]
