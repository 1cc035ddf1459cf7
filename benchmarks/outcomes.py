"""What finished runs reached, kept as files beside the speeds: a metric, its protocol, and the time it took.

python -m benchmarks.outcomes RUN [RUN ...]     one file each under benchmarks/outcomes/<device>
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks.command import run_command
from benchmarks.compare import markdown_table
from benchmarks.record import RecordError, add_file, device_slug, short_commit, slug, without_paths
from common.errors import KitError
from common.files import read_json
from common.machine.environment import told_processor
from common.run.result import read_result
from common.run.run_directory import RunDirectory

SCHEMA: Literal["kit.outcome/1"] = "kit.outcome/1"
OUTCOMES = Path(__file__).with_name("outcomes")
HEADER = ("recipe", "metric", "reached", "95 % interval", "target", "baseline", "training", "hardware", "measured")
BRIEF = tuple(
    HEADER.index(name) for name in ("recipe", "metric", "reached", "target", "baseline", "training", "hardware")
)
SEED = "--training.seed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run: what it was, what came out, where.

    overrides: the flags that the recipe was changed by, as typed; paths are cut down to their last part.
    data:      protocol and counts, as the run describes them.
    baseline:  name and value of the metric's floor.
    seconds:   of the training alone.
    """

    model: str
    recipe: str
    overrides: tuple[str, ...]
    dataset: str
    data: dict[str, Any]
    metric: str
    value: float
    interval: tuple[float, float] | None
    interval_method: str | None
    metrics: dict[str, float]
    target: dict[str, Any] | None
    verdict: str
    baseline: dict[str, Any] | None
    steps: int
    epochs: float
    seconds: float
    kit: dict[str, Any]
    system: dict[str, Any]
    created: str
    schema: Literal["kit.outcome/1"] = SCHEMA

    @property
    def series(self) -> tuple[object, ...]:
        """Equal for runs that differ in nothing but their seed."""
        others = [flag for flag in _pairs(self.overrides) if flag[0] != SEED]
        return (self.model, self.recipe, tuple(others), self.dataset, device_slug(self.system))


def of_run(path: Path) -> Outcome:
    """Raises KitError where the run is not evaluated."""
    run = RunDirectory.open(path)
    if not run.result_file.is_file():
        raise KitError(f"{path} has no result yet.", remedy=f"kit evaluate {path}")
    result, description, environment = read_result(run.result_file), run.description(), read_json(run.environment_file)
    data = {name: value for name, value in description["data"].items() if name != "root"}
    return Outcome(
        model=result.model,
        recipe=result.recipe,
        overrides=tuple(without_paths([part]) for part in description["overrides"]),
        dataset=Path(description["data"]["root"]).name,
        data=data,
        metric=result.metric,
        value=result.value,
        interval=(result.interval.low, result.interval.high) if result.interval else None,
        interval_method=result.interval.method if result.interval else None,
        metrics=dict(result.metrics),
        target=dataclasses.asdict(result.target) if result.target else None,
        verdict=result.verdict,
        baseline=dataclasses.asdict(result.baseline) if result.baseline else None,
        steps=result.steps,
        epochs=result.epochs,
        seconds=result.wall_seconds,
        kit=environment["kit"],
        system={name: value for name, value in environment.items() if name != "kit"},
        created=result.created,
    )


def write(outcome: Outcome, folder: Path | None = None) -> Path:
    """Write the outcome as a new file of `folder` (outcomes/<device> where none is given) and return its path.

    Raises RecordError where the very same one is there.
    """
    text = json.dumps(dataclasses.asdict(outcome), indent=2, allow_nan=False) + "\n"
    parts = (outcome.created[:10], outcome.model, outcome.recipe, hashlib.sha256(text.encode()).hexdigest()[:8])
    path = (folder or OUTCOMES / device_slug(outcome.system)) / ("_".join(map(slug, parts)) + ".json")
    add_file(path, text)
    return path


def read_all(folder: Path = OUTCOMES) -> list[Outcome]:
    """Oldest first. Raises RecordError where a file is no outcome of this version."""
    from pydantic import TypeAdapter, ValidationError

    found = []
    for file in sorted(folder.rglob("*.json")):
        try:
            found.append(TypeAdapter(Outcome).validate_json(file.read_bytes()))
        except ValidationError as error:
            raise RecordError(f"{file} is no {SCHEMA} file: {error.errors()[0]['msg']}.") from None
    return sorted(found, key=lambda outcome: outcome.created)


def table(outcomes: Iterable[Outcome]) -> str:
    """One row per recipe and machine: its newest run, or the mean of runs that differ in their seed alone."""
    return "\n".join(markdown_table(HEADER, map(_row, _series(outcomes)))) + "\n"


def brief_table(outcomes: Iterable[Outcome], recipes: Sequence[str], where: str) -> str:
    """The newest row of each of the recipes, given as model/recipe, in their order, without what a stranger can spare.

    Raises KitError for a recipe that no outcome is of.
    """
    newest = {f"{runs[-1].model}/{runs[-1].recipe}": _row(runs) for runs in _series(outcomes)}
    for recipe in recipes:
        if recipe not in newest:
            raise KitError(
                f"{where} asks for outcomes:{recipe}, and no run of it was kept.", f"Kept: {', '.join(sorted(newest))}."
            )
    header, *rows = ([row[column] for column in BRIEF] for row in (HEADER, *(newest[recipe] for recipe in recipes)))
    return "\n".join(markdown_table(header, rows)) + "\n"


def _series(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    """Runs that differ in nothing but their seed, the newest of each seed."""
    series: dict[tuple[object, ...], dict[str, Outcome]] = {}
    for outcome in outcomes:
        seed = dict(_pairs(outcome.overrides)).get(SEED, "")
        series.setdefault(outcome.series, {})[seed] = outcome  # a newer one of the same seed takes the place
    return [list(runs.values()) for runs in series.values()]


def _row(runs: Sequence[Outcome]) -> tuple[str, ...]:
    newest = runs[-1]
    values = [run.value for run in runs]
    flags = " ".join(f"{flag} {value}".rstrip() for flag, value in _pairs(newest.overrides) if flag != SEED)
    return (
        f"`{newest.model}/{newest.recipe}`" + (f" `{flags}`" if flags else "") + f" on {newest.dataset}",
        newest.metric,
        f"{sum(values) / len(values):.4f}" + (f", mean of {len(runs)} seeds" if len(runs) > 1 else ""),
        f"{min(values):.4f} – {max(values):.4f}, the seeds"
        if len(runs) > 1
        else "{:.4f} – {:.4f}".format(*newest.interval)
        if newest.interval
        else "",
        f"{newest.target['value']:g}: {newest.verdict}" if newest.target else "none",
        f"{newest.baseline['name']} {newest.baseline['value']:.4f}" if newest.baseline else "",
        f"{newest.epochs:.0f} epochs, {max(run.seconds for run in runs):,.0f} s",
        f"{_hardware(newest.system)}, {newest.system['precision']}",
        f"{newest.created[:10]}, {short_commit(newest.kit['commit'])}" + _changed(newest.kit),
    )


def _changed(kit: Mapping[str, Any]) -> str:
    return " with changes" if kit.get("dirty") else ""


def _hardware(system: Mapping[str, Any]) -> str:
    if str(system["device"]).startswith("cuda") and system["gpus"]:
        return f"{system['gpus'][0]['name']} × {system.get('world_size') or 1}"
    return told_processor(system["cpu"])


def _pairs(flags: Sequence[str]) -> list[tuple[str, str]]:
    """Flags, each with its values."""
    pairs: list[tuple[str, str]] = []
    for part in flags:
        if part.startswith("--") or not pairs:
            pairs.append((part, ""))
        else:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {part}".lstrip())
    return pairs


def main(runs: Annotated[tuple[Path, ...], tyro.conf.Positional], output: Path | None = None) -> int:
    """Keep what runs reached.

    Args:
        runs: Evaluated run directories.
        output: Folder of the files; by default benchmarks/outcomes/<device>.
    """
    for outcome in [of_run(run) for run in runs]:
        print(f"OUTCOME {outcome.metric}={outcome.value:.4f} {write(outcome, output)}")
    return 0


if __name__ == "__main__":
    run_command(main)
