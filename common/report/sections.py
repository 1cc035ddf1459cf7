"""The sections every run's page has: curves, throughput, environment, the command that reproduces it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.language.telling import english, grouped, retell, tell
from common.machine.environment import told_processor
from common.report.elements import Markup, Section, columns, details, facts, join, notice, paragraph
from common.report.history import History, column, foremost
from common.report.plots import Colour, Line, line_chart, share_chart
from common.run.recipe import Target

LIMITING, NOTICEABLE = 0.25, 0.10  # shares of the time waiting for data from which it is told as a problem, as a loss
LISTED = 20  # names of a list that are written out
UNITS = (
    english("clicks"),
    english("images"),
    english("interactions"),
    english("samples"),
    english("sequences"),
    english("users"),
)
"""What data are counted in."""
FACTS = (
    english("root"), english("fingerprint"), english("protocol"), english("users"), english("items"),
    english("classes"), english("images"), english("boxes"), english("name"), english("rows"),
)  # fmt: skip
"""What a run keeps of its data."""
COLOURS: tuple[Colour, ...] = ("accent", "second", "third", "bad", "good", "muted")


def curves(history: History, target: Target | None, metric: str | None = None) -> Section:
    """Losses, the foremost validation metrics, learning rate and gradient norm over the steps; other metrics folded.

    metric: the one that the run is judged by.
    """
    if history.last is None:
        return Section("Curves", paragraph(tell("Nothing has been logged yet.")))
    names = [name for name in history.validation_metrics() if name != "loss"]
    shown = foremost(names, metric or (target.metric if target else None))
    charts = [_losses(history), *_metrics(history, shown, target)]
    charts += [
        line_chart(title, [Line(title.lower(), column(history.train, "step"), values, "third")], from_zero=True)
        for title, name in ((tell("Learning rate"), "lr"), (tell("Gradient norm"), "gradient_norm"))
        if np.isfinite(values := column(history.train, name)).any()
    ]
    others = _others(history, [name for name in names if name not in shown])
    return Section("Curves", columns(*charts) + others)


def throughput(history: History, sample_unit: str) -> Section | None:
    """Samples per second, and where the time went; None before the first log point."""
    if history.samples_per_s() is None:
        return None
    steps, rate = column(history.train, "step"), column(history.train, "samples_per_s")
    speed = line_chart(
        tell("Training throughput, {unit}/s", unit=retell(f"{sample_unit}s")),
        [Line(tell("{unit} per second", unit=retell(f"{sample_unit}s")), steps, rate, "accent", smoothed=True)],
        from_zero=True,
    )
    wait = history.data_wait()
    if wait is None:
        return Section("Throughput", columns(speed))
    shares = column(history.train, "data_wait")
    split = share_chart(tell("Where the time went"), steps, shares, tell("waiting for data"), tell("compute"))
    return Section("Throughput", join([describe_wait(wait), columns(speed, split)]))


def describe_wait(wait: float) -> Markup:
    """Say in words what limits a run that spent the share `wait` of its time waiting for data."""
    spent = tell("{share:.0f} % of the time was spent waiting for data.", share=100 * wait)
    if wait >= LIMITING:
        return notice(tell("The input pipeline limits this run: {spent}", spent=spent), "warning")
    if wait >= NOTICEABLE:
        return notice(tell("The input pipeline slows this run: {spent}", spent=spent))
    return notice(tell("Compute limits this run, the input pipeline keeps up: {spent}", spent=spent), "good")


def environment(record: Mapping[str, Any]) -> Section:
    """Hardware and versions, from `environment.json`."""
    kit, cpu = record.get("kit", {}), record.get("cpu", {})
    commit = kit.get("commit") or tell("no commit")
    state = tell(", with uncommitted changes") if kit.get("dirty") else ""
    features = ", ".join(cpu.get("features", []))
    gpus = record.get("gpus") or []
    pairs: list[tuple[str, object]] = [
        (tell("Kit"), f"{kit.get('version', '?')} ({commit}{state})"),
        (tell("Device"), record.get("device")),
        (tell("Precision"), record.get("precision")),
        (tell("Processes"), record.get("world_size")),
        *(("GPU", tell("{name}, {memory_gb} GB, driver {driver}", **gpu)) for gpu in gpus),
        ("CPU", told_processor(cpu) + (f" ({features})" if features else "")),
        (tell("Memory"), f"{record.get('memory_gb')} GB"),
        (tell("Platform"), record.get("platform")),
        ("Python", record.get("python")),
    ]
    packages = sorted(record.get("packages", {}).items())
    listing = details(tell("{count} packages", count=len(packages)), facts(packages)) if packages else Markup("")
    return Section("Environment", facts((name, value) for name, value in pairs if value is not None) + listing)


def reproduction(run: Mapping[str, Any], recipe: Mapping[str, Any]) -> Section:
    """The command line, and what else has to be the same, from `run.json` and `recipe.json`."""
    name = f"{run.get('model')}/{run.get('recipe')}"
    command = run.get("command") or f"kit train {name}"
    text = command if isinstance(command, str) else shlex.join(command)
    overrides = run.get("overrides") or []
    pairs: list[tuple[str, object]] = [
        (
            tell("Recipe"),
            tell("{recipe}, digest {digest}", recipe=name, digest=run.get("recipe_digest", "?")),
        ),
        (tell("Overrides"), shlex.join(map(str, overrides)) if overrides else tell("none")),
        (tell("Seed"), recipe.get("training", {}).get("seed")),
        *((_data_told(key), _words(value)) for key, value in (run.get("data") or {}).items()),
        (tell("Started"), run.get("created")),
    ]
    block = Markup("<pre><code>{}</code></pre>").format(text)
    return Section("Reproduce", block + facts((name, value) for name, value in pairs if value is not None))


def _data_told(key: str) -> str:
    """What a fact of the data is called."""
    return tell("Data: {name}", name=retell(key.replace("_", " ")))


def _words(value: object) -> str:
    """A value of `run.json` as a person writes it; of a long list the beginning."""
    if isinstance(value, list):
        rest = [tell("and {count:,} more", count=len(value) - LISTED)] if len(value) > LISTED else []
        return ", ".join([*map(str, value[:LISTED]), *rest])
    if isinstance(value, bool):
        return tell("yes") if value else tell("no")
    return grouped(value) if isinstance(value, int) else str(value)


def _losses(history: History) -> Markup:
    lines, words = [], []
    if history.train:
        loss = column(history.train, "loss")
        lines.append(Line(tell("training"), column(history.train, "step"), loss, "accent", smoothed=True))
        words.append(tell("training {loss:.4g} at step {step:,}", loss=loss[-1], step=history.train[-1]["step"]))
    if "loss" in history.validation_metrics():
        loss = column(history.validation, "loss")
        lines.append(Line(tell("validation"), column(history.validation, "step"), loss, "second", markers=True))
        words.append(tell("validation {loss:.4g} at step {step:,}", loss=loss[-1], step=history.validation[-1]["step"]))
    return line_chart(tell("Loss"), lines, caption=tell("Latest: {figures}.", figures=", ".join(words)))


def _metrics(history: History, names: Sequence[str], target: Target | None = None, together: str = "") -> list[Markup]:
    """One chart for all metrics between 0 and 1, called `together`, one for each other metric."""
    values = {name: column(history.validation, name) for name in names}
    shares = [name for name in names if not ((values[name] < 0) | (values[name] > 1)).any()]
    groups = [shares] if shares else []
    groups += [[name] for name in names if name not in shares]
    return [_metric_chart(history, {name: values[name] for name in group}, target, together) for group in groups]


def _others(history: History, names: Sequence[str]) -> Markup:
    """The remaining metrics, folded away: a chart for each kind and protocol of kind@cutoff/protocol."""
    groups: dict[str, list[str]] = {}
    for name in names:
        kind, at, rest = name.partition("@")
        groups.setdefault(f"{kind}, {rest.partition('/')[2]}" if at else tell("other metrics"), []).append(name)
    charts = [chart for title, group in groups.items() for chart in _metrics(history, group, together=title)]
    return details(tell("Other metrics ({count})", count=len(names)), columns(*charts)) if names else Markup("")


def _metric_chart(history: History, values: Mapping[str, np.ndarray], target: Target | None, together: str) -> Markup:
    steps = column(history.validation, "step")
    lines = [
        Line(name, steps, series, COLOURS[number % len(COLOURS)], markers=True)
        for number, (name, series) in enumerate(values.items())
    ]
    level = (
        (tell("target {metric}", metric=target.metric), target.value) if target and target.metric in values else None
    )
    shown = (together or tell("metrics")) if len(values) > 1 else next(iter(values))
    title = tell("Validation {metrics}", metrics=shown)
    latest = ", ".join(f"{name} {series[-1]:.4f}" for name, series in values.items())
    return line_chart(title, lines, level=level, caption=tell("Latest: {figures}.", figures=latest))
