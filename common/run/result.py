"""What a run ends with: `result.json`, its verdict against the published figure, and the intervals around a metric."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

from common.errors import KitError, RecipeError
from common.files import read_json, write_text
from common.language.telling import english
from common.run.recipe import Target, Verdict

SCHEMA = "kit.result/2"
SCHEMA_FILE = Path(__file__).with_name("result.schema.json")


@dataclass(frozen=True)
class Interval:
    """Where a metric's true value lies with 95 % confidence, and how that was computed."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Baseline:
    """The same metric of something far simpler than the model, such as the commonest answer."""

    name: str
    value: float


@dataclass(frozen=True)
class Kit:
    """The version of the kit, and the commit where it ran from a checkout."""

    version: str
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run's outcome; `write` and `read_result` are each other's inverse.

    metric, value: the figure the verdict is about; `metrics` holds it and every other one.
    baselines:     the same metric of simpler things, the best first.
    created:       ISO 8601 with the time zone.
    report:        path of the HTML page, as it should be printed.
    """

    model: str
    recipe: str
    metric: str
    value: float
    interval: Interval | None
    target: Target | None
    verdict: Verdict
    reason: str
    metrics: Mapping[str, float]
    baselines: tuple[Baseline, ...] = ()
    steps: int
    epochs: float
    wall_seconds: float
    samples_per_s: float | None
    sample_unit: str
    created: str
    report: str
    kit: Kit
    other_rates: Mapping[str, float] = field(default_factory=dict)
    """unit -> how many a second, where others count a training's samples so: never compare unlike units."""

    @property
    def baseline(self) -> Baseline | None:
        """The best of the baselines."""
        return self.baselines[0] if self.baselines else None

    @property
    def is_below_baseline(self) -> bool:
        """Whether something simpler does better."""
        if self.baseline is None:
            return False
        return not is_better(self.target, self.value, self.baseline.value) and self.value != self.baseline.value

    def to_json(self) -> str:
        """The text of `result.json`; a metric that is not a finite number is written as null."""
        fields = {"schema": SCHEMA} | dataclasses.asdict(self)
        fields["interval"] = [self.interval.low, self.interval.high] if self.interval else None
        fields["interval_method"] = self.interval.method if self.interval else None
        if self.target:
            fields["target"].pop("metric")
        return json.dumps(_without_nonfinite(fields), indent=2, allow_nan=False) + "\n"

    def write(self, path: Path) -> None:
        write_text(path, self.to_json())


def read_result(path: Path) -> Result:
    """Read `result.json`. Raises KitError when it is damaged or another version of the kit wrote it."""
    try:
        fields: dict[str, Any] = read_json(path)
        schema = fields.pop("schema")
        if schema != SCHEMA:
            raise KitError(f"{path} follows {schema}.", f"This version of the kit reads {SCHEMA}.")
        interval, method = fields.pop("interval"), fields.pop("interval_method")
        target, baselines = fields.pop("target"), fields.pop("baselines")
        fields["value"] = _number(fields["value"])
        fields["metrics"] = {name: _number(value) for name, value in fields["metrics"].items()}
        return Result(
            interval=Interval(interval[0], interval[1], method) if interval else None,
            target=Target(metric=fields["metric"], **target) if target else None,
            baselines=tuple(Baseline(**baseline) for baseline in baselines),
            kit=Kit(**fields.pop("kit")),
            **fields,
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise KitError(
            f"{path} is not a result of this version of the kit: {error}.",
            remedy="Evaluate the run again to write it anew.",
        ) from None


def is_better(target: Target | None, value: float, other: float) -> bool:
    """Whether `value` is strictly the better one; without a target, higher is better."""
    return value > other if target is None or target.higher_is_better else value < other


def ranked(figures: Mapping[str, Mapping[str, float]], metric: str, target: Target | None) -> tuple[Baseline, ...]:
    """Every baseline that has the metric (name -> metric -> value), the best first."""
    known = [Baseline(name, values[metric]) for name, values in figures.items() if metric in values]
    descending = target is None or target.higher_is_better
    return tuple(sorted(known, key=lambda baseline: baseline.value, reverse=descending))


def decide(target: Target | None, metrics: Mapping[str, float], comparable: bool, why: str) -> tuple[Verdict, str]:
    """Compare a run's metrics with its target.

    comparable: the run followed the target's protocol; where it did not, `why` is the reason returned.
    Raises RecipeError when the evaluation of comparable data does not report the target's metric.
    """
    if target is None:
        return "not-comparable", why or english("Nothing is published for this data.")
    if not comparable:
        return "not-comparable", why
    if target.metric not in metrics:
        raise RecipeError(
            f"The recipe's target is a {target.metric}, which its evaluation does not report.",
            f"It reports {', '.join(sorted(metrics)) or 'nothing'}.",
        )
    value = metrics[target.metric]
    if not math.isfinite(value):
        return "missed", english("{metric} is {value}: no number to compare.", metric=target.metric, value=value)
    told = {"metric": target.metric, "value": value, "distance": abs(value - target.value), "target": target.value}
    if value == target.value:
        reason = english("{metric} {value:.4f} is equal to the target {target:.4f}.", **told)
    elif value > target.value:
        reason = english("{metric} {value:.4f} is {distance:.4f} above the target {target:.4f}.", **told)
    else:
        reason = english("{metric} {value:.4f} is {distance:.4f} below the target {target:.4f}.", **told)
    return "reached" if target.reached_by(value) else "missed", reason


def result_line(result: Result) -> str:
    """The one line with which every run ends, made to be read by people and by grep."""
    target = "none" if result.target is None else f"{result.target.value:.4f}"
    best = result.baseline
    baseline = f" baseline={best.name.replace(' ', '-')}:{best.value:.4f}" if best else ""
    verdict = f"{result.verdict},below-baseline" if result.is_below_baseline else result.verdict
    return (
        f"RESULT {result.model}/{result.recipe} {result.metric}={result.value:.4f} target={target}{baseline} "
        f"verdict={verdict} report={result.report}"
    )


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927, JASA 22), sound for small counts and near 0 and 1.

    returns: (low, high); (0, 1) where nothing was counted.
    """
    if not 0 <= successes <= total:
        raise ValueError(f"successes ({successes}) must lie between 0 and total ({total}).")
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.975)
    share, weight = successes / total, z * z / total
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return low, high


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nonfinite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
