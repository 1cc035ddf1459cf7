"""`report/index.html`: one file that needs nothing else, written whole again whenever the run has more to say."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import read_json, write_text
from common.language.telling import english, grouped, language, retell, tell
from common.report.deployment import deployment_sections
from common.report.elements import Key, Markup, Section, details, escape
from common.report.forecast import forecast_section
from common.report.held_out import held_out_section
from common.report.history import History, foremost
from common.report.sections import curves, environment, reproduction, throughput
from common.run.recipe import Target
from common.run.result import Result, read_result
from common.run.run_directory import RunDirectory
from common.terminal.duration import duration

REFRESH_SECONDS = 20
VERDICTS = {
    "reached": english("Target reached"),
    "missed": english("Target missed"),
    "not-comparable": english("Not comparable"),
}


@dataclass(frozen=True)
class Progress:
    """How far a run has come that has no result yet."""

    step: int
    epoch: float
    epochs: float
    seconds: float
    latest: str

    @property
    def share(self) -> float:
        return min(1.0, self.epoch / self.epochs) if self.epochs else 0.0

    @property
    def seconds_left(self) -> float | None:
        return self.seconds * (1 - self.share) / self.share if self.share > 0.01 else None


def write_report(run: RunDirectory, sections: Sequence[Section] = ()) -> Path:
    """Write the run's page, with the challenge's `sections` between the common ones, and return its path.

    Every file of the run may still be missing. While there is no `result.json` the page reloads itself.
    """
    history = History.of(run.metrics())
    record, recipe = _read(run.run_file), _read(run.recipe_file)
    result = read_result(run.result_file) if run.result_file.is_file() else None
    published = recipe.get("target")
    target = result.target if result else (Target(**published) if published else None)
    unit = result.sample_unit if result else record.get("sample_unit", "sample")
    surroundings = _read(run.environment_file)
    raw = (_read(run.training_file).get("raw_metrics") or {}).get(result.metric) if result else None
    parts = [
        held_out_section(run),
        curves(history, target, result.metric if result else None),
        throughput(history, unit),
        forecast_section(_read(run.forecast_file)),
        *sections,
        *deployment_sections(run),
        environment(surroundings) if surroundings else None,
        reproduction(record, recipe) if record else None,
    ]
    text = _template().render(
        name=f"{record['model']}/{record['recipe']}" if record else run.path.name,
        summary=retell(recipe.get("summary", "")),
        result=result,
        target=target,
        verdict=tell(VERDICTS[result.verdict]) if result else "",
        metrics=_metrics(result) if result else "",
        scale=_scale(result) if result else "",
        certainty=_certainty(result) if result else "",
        raw=raw,
        rate=_rate(result) if result else "",
        progress=None if result else _progress(history, recipe),
        refresh_seconds=None if result else REFRESH_SECONDS,
        sections=[part for part in parts if part is not None],
        created=record.get("created", ""),
        language=language(),
    )
    write_text(run.report_file, text)
    return run.report_file


@functools.cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.globals.update(tell=tell, retell=retell)
    return environment.get_template("page.html")


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _progress(history: History, recipe: Mapping[str, Any]) -> Progress | None:
    last = history.last
    if last is None:
        return None
    validation = history.validation[-1] if history.validation else {}
    told = [name for name in history.validation_metrics() if validation.get(name) is not None]
    target = recipe.get("target") or {}
    latest = [f"{name} {validation[name]:.4f}" for name in foremost(told, target.get("metric"))]
    epochs = float(recipe.get("training", {}).get("epochs", 0))
    return Progress(last["step"], float(last["epoch"]), epochs, float(last["seconds"]), ", ".join(latest))


def _metrics(result: Result) -> Markup:
    """The foremost metrics, and the others folded away."""
    shown = foremost(result.metrics, result.metric)
    others = [name for name in result.metrics if name not in shown]
    words = [", ".join(f"{name} {result.metrics[name]:.4f}" for name in names) for names in (shown, others)]
    return escape(words[0]) + (details(tell("{count:,} more", count=len(others)), words[1]) if others else Markup(""))


def _rate(result: Result) -> str:
    """How many samples a second; empty where it was not measured."""
    if result.samples_per_s is None:
        return ""
    shown = grouped(round(result.samples_per_s)) if result.samples_per_s >= 1000 else f"{result.samples_per_s:.4g}"
    return f"{shown} {retell(f'{result.sample_unit}s')}/s"


def _certainty(result: Result) -> str:
    """What the interval says about the verdict, where it says something."""
    if result.interval is None or result.target is None or result.verdict == "not-comparable":
        return ""
    if result.interval.low <= result.target.value <= result.interval.high:
        return tell("The target lies inside the interval: other validation samples could have turned the verdict.")
    return tell("The target lies outside the interval.")


def _scale(result: Result) -> Markup:
    """The value, its interval, the target and the baseline on one horizontal axis."""
    marks = [("value", result.value)]
    marks += [("target", result.target.value)] if result.target and result.verdict != "not-comparable" else []
    marks += [("baseline", result.baseline.value)] if result.baseline else []
    ends = [result.interval.low, result.interval.high] if result.interval else []
    values = [value for _, value in marks] + ends
    if len(values) < 2 or not all(abs(value) < float("inf") for value in values):
        return Markup("")
    low, high = _axis(values)

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    band = (
        Markup('<i class="band" style="left:{};width:{}"></i>').format(
            place(ends[0]), f"{100 * (ends[1] - ends[0]) / (high - low):.2f}%"
        )
        if ends
        else Markup("")
    )
    ticks = Markup("").join(
        Markup('<i class="{}" style="left:{}"></i>').format(name, place(value)) for name, value in reversed(marks)
    )
    return Markup('<div class="scale" aria-hidden="true"><span>{}</span><div>{}{}</div><span>{}</span></div>').format(
        f"{low:.3g}", band, ticks, f"{high:.3g}"
    )


def _axis(values: Sequence[float]) -> tuple[float, float]:
    """An axis around the values: 0 to 1 where all of them lie there, a little wider than them elsewhere."""
    if min(values) >= 0 and max(values) <= 1:
        return 0.0, 1.0
    margin = 0.1 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


__all__ = ["REFRESH_SECONDS", "Key", "Markup", "Section", "duration", "write_report"]
