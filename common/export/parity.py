"""Whether every engine answers as the trained module does: numbers, decisions and the task's own metric."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import ParityError, TrainingError
from common.export.runner import Arrays, Runner
from common.failures import explain
from common.files import write_json
from common.language.telling import english


@dataclass(frozen=True)
class Judged:
    """An engine's answers to the validation set.

    metric:    the task's own; higher is better.
    decisions: what it decided, in a form that the task's Comparison knows; by default (sample, ...) to be equal.
    """

    metric: float
    decisions: Any


Judge = Callable[[Runner], Judged]
"""Runs the validation set through an engine."""


@dataclass(frozen=True)
class Tolerance:
    """What one precision may differ by.

    absolute:     of any output value, in its own unit; None where only the relative error counts.
    relative:     of any output value, as a fraction of the reference outputs' range over all inputs.
    disagreement: fraction of samples with another decision, rounded up to whole samples.
    metric_loss:  fraction of the reference metric, and never less than one sample's worth or `metric_floor`.
    metric_floor: of the metric, in its own unit: a share of next to nothing is nothing (an AP of .007 fell by .0007).
    cosine:       of a direction with the reference's, at least; see `Comparison.directions`.
    """

    absolute: float | None
    relative: float
    disagreement: float
    metric_loss: float
    metric_floor: float = 0.0
    cosine: float = 0.9999

    def describe(self) -> str:
        return f"{self.absolute:g}" if self.absolute is not None else f"{self.relative:.0%} of range"


@dataclass(frozen=True)
class Tolerances:
    """What each precision may differ by.

    Seen on ResNet-50 against float32, trained and with random weights (which amplify errors most): relative errors of
    1e-5 in fp32, 0.0001 to 0.009 in fp16, 0.002 to 0.06 in bf16, 0.03 to 0.10 in INT8.
    """

    fp32: Tolerance = Tolerance(absolute=1e-3, relative=1e-3, disagreement=0.0, metric_loss=0.0)
    fp16: Tolerance = Tolerance(
        absolute=None, relative=0.02, disagreement=0.005, metric_loss=0.005, metric_floor=0.002, cosine=0.999
    )
    bf16: Tolerance = Tolerance(
        absolute=None, relative=0.10, disagreement=0.005, metric_loss=0.01, metric_floor=0.002, cosine=0.99
    )
    int8: Tolerance = Tolerance(
        absolute=None, relative=0.20, disagreement=0.02, metric_loss=0.01, metric_floor=0.002, cosine=0.9
    )

    def of(self, precision: str) -> Tolerance:
        return {"fp32": self.fp32, "fp16": self.fp16, "bf16": self.bf16, "int8": self.int8}[precision]


class Comparison:
    """How answers are held against the reference's; as it stands, for one answer per sample.

    directions: outputs (batch, width) of which only the direction counts, held against the reference's by the cosine.
    """

    def __init__(self, tolerances: Tolerances | None = None, directions: Collection[str] = ()) -> None:
        self.tolerances = tolerances or Tolerances()
        self.directions = frozenset(directions)

    def align(self, expected: Arrays, answers: Arrays, precision: str) -> Arrays:
        """The answers in the order of the expected ones, so that their numbers can be compared."""
        return answers

    def same_answers(self, expected: Arrays, answers: Arrays, precision: str) -> np.ndarray:
        """Per answer, (answer,) bool: whether it is the expected one; here the first output's largest entry decides."""
        name = next(iter(expected))
        return np.asarray(expected[name].argmax(1) == answers[name].argmax(1))

    def same_decisions(self, baseline: Judged, judged: Judged, precision: str) -> np.ndarray:
        """Per decision on the validation set, (decision,) bool."""
        same = baseline.decisions == judged.decisions
        return np.asarray(same.reshape(len(same), -1).all(1))

    def further_failures(self, baseline: Judged, judged: Judged, precision: str) -> list[str]:
        """What else fails an engine by its answers to the validation set, each as the end of a sentence."""
        return []


ONE_ANSWER = Comparison()


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One engine at one batch size.

    agreement:      fraction of samples with the reference's decision, of the validation set where it was judged.
    relative_error: fraction of the reference outputs' range over all inputs.
    metric:         None where the task's metric was not measured.
    cosine:         the smallest of the directions with the reference's; None where there are none.
    """

    engine: str
    precision: str
    batch: int
    absolute_error: float
    relative_error: float
    agreement: float
    metric: float | None
    metric_delta: float | None
    tolerance: str
    failures: tuple[str, ...]
    cosine: float | None = None

    @property
    def label(self) -> str:
        return f"{self.engine} {self.precision}"

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True)
class ParityTable:
    """Every engine at every batch size, against the reference.

    left_out: label -> why, of engines that could not be compared at all.
    """

    reference: str
    reference_metric: float | None
    rows: tuple[ParityRow, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def passing(self) -> list[str]:
        """Labels of the engines that passed at every batch size."""
        return [label for label in self._labels() if not self.reasons(label)]

    def reasons(self, label: str) -> list[str]:
        """What an engine failed by at any batch size, each said once."""
        rows = [row for row in self.rows if row.label == label]
        return list(dict.fromkeys(failure for row in rows for failure in row.failures))

    def _labels(self) -> list[str]:
        return list(dict.fromkeys(row.label for row in self.rows))

    def require(self) -> None:
        """Raise ParityError, naming every failed row, unless all passed."""
        failed = [f"{row.label}, batch {row.batch}: {'; '.join(row.failures)}" for row in self.rows if not row.passed]
        if failed:
            raise ParityError(
                f"{len(failed)} of {len(self.rows)} comparisons with {self.reference} failed: {' | '.join(failed)}.",
                "an exported model is served only where it answers as the trained one does",
                "compare with another version of that engine, or with the plain module: kit evaluate",
            )

    def write_record(self, path: Path) -> None:
        rows = [{**asdict(row), "failures": list(row.failures), "passed": row.passed} for row in self.rows]
        record = {
            "reference": self.reference,
            "reference_metric": self.reference_metric,
            "passed": self.passed,
            "left_out": dict(self.left_out),
        }
        write_json(path, {**record, "rows": [_finite(row) for row in rows]})

    def print(self, console: Console) -> None:
        """One line per engine: the worst over all batch sizes, and why it failed or was left out."""
        with_cosines = any(row.cosine is not None for row in self.rows)
        table = Table(title=f"Parity with {self.reference}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("engine", no_wrap=True)
        for column in ("error", "of range", "same", "metric", *(("cosine",) if with_cosines else ()), "allowed"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("", min_width=len("passed"))
        for label in self._labels():
            rows = [row for row in self.rows if row.label == label]
            table.add_row(
                label,
                f"{max(row.absolute_error for row in rows):.2g}",
                f"{max(row.relative_error for row in rows):.2%}",
                f"{min(row.agreement for row in rows):.1%}",
                "" if rows[0].metric is None else f"{rows[0].metric:.4f}",
                *([f"{min(row.cosine or 0.0 for row in rows):.5f}"] if with_cosines else []),
                rows[0].tolerance.removesuffix(" of range"),
                _verdict("failed", "; ".join(reasons)) if (reasons := self.reasons(label)) else "[green]passed[/]",
            )
        for label, reason in self.left_out.items():
            table.add_row(label, *[""] * (5 + with_cosines), _verdict("left out", reason))
        console.print(table)


def compare(
    reference: Runner,
    candidates: Iterable[Runner],
    inputs: Mapping[int, Arrays],
    *,
    judge: Judge | None = None,
    comparison: Comparison = ONE_ANSWER,
) -> ParityTable:
    """Run every candidate on `inputs` (batch size -> arrays by name) and on the validation set.

    What differs is recorded and not raised; so is why an engine in a reduced precision cannot answer at all.
    """
    expected = {batch: reference(arrays) for batch, arrays in inputs.items()}
    ranges = _ranges(expected.values(), comparison.directions)
    baseline = judge(reference) if judge else None
    rows: list[ParityRow] = []
    left_out = {}
    for runner in candidates:
        try:
            rows += _held_against(runner, expected, ranges, baseline, inputs, judge, comparison)
        except Exception as error:  # engines raise families of their own
            if runner.precision == "fp32" or isinstance(explain(error), TrainingError):  # no memory for it
                raise
            left_out[runner.label] = f"it cannot answer: {(str(error).strip() or repr(error)).splitlines()[0]}"
    return ParityTable(reference.label, baseline.metric if baseline else None, tuple(rows), left_out)


def _held_against(
    runner: Runner,
    expected: Mapping[int, Arrays],
    ranges: Mapping[str, float],
    baseline: Judged | None,
    inputs: Mapping[int, Arrays],
    judge: Judge | None,
    comparison: Comparison,
) -> list[ParityRow]:
    """One engine's rows, a row for each batch size."""
    precision = runner.precision
    allowed = comparison.tolerances.of(precision)
    judged = judge(runner) if judge else None
    rows = []
    for batch, arrays in inputs.items():
        answers = runner(arrays)
        aligned = comparison.align(expected[batch], answers, precision)
        absolute, relative = _errors(expected[batch], aligned, ranges)
        same = comparison.same_answers(expected[batch], answers, precision)
        cosine = _smallest_cosine(expected[batch], aligned, comparison.directions)
        failures = [
            *_number_failures(absolute, relative, allowed),
            *_direction_failure(cosine, allowed),
            *_agreement_failure(same, allowed),
        ]
        if baseline and judged:
            same = comparison.same_decisions(baseline, judged, precision)
            failures += [
                *_agreement_failure(same, allowed),
                *_metric_failure(baseline, judged, allowed, decisions=len(same)),
                *comparison.further_failures(baseline, judged, precision),
            ]
        rows.append(
            ParityRow(
                engine=runner.name,
                precision=precision,
                batch=batch,
                absolute_error=absolute,
                relative_error=relative,
                agreement=float(same.mean()) if len(same) else 1.0,
                metric=judged.metric if judged else None,
                metric_delta=judged.metric - baseline.metric if judged and baseline else None,
                tolerance=allowed.describe(),
                failures=tuple(dict.fromkeys(failures)),
                cosine=cosine,
            )
        )
    return rows


def _verdict(word: str, reason: str) -> str:
    return f"[red]{word}[/]: {escape(reason)}"


def _ranges(expected: Iterable[Arrays], directions: Collection[str]) -> dict[str, float]:
    """Largest minus smallest value of each float output over all inputs, directions apart; others must be equal."""
    collected: dict[str, list[np.ndarray]] = {}
    for outputs in expected:
        for name, values in outputs.items():
            collected.setdefault(name, []).append(values.ravel())
    return {
        name: float(np.ptp(np.concatenate(parts).astype(np.float64))) or 1.0
        for name, parts in collected.items()
        if np.issubdtype(parts[0].dtype, np.floating) and name not in directions
    }


def _smallest_cosine(expected: Arrays, answers: Arrays, directions: AbstractSet[str]) -> float | None:
    """Over all rows of the outputs that are directions; -1 for a wrong shape or no number, None where none is there."""
    smallest = []
    for name in directions & expected.keys():
        ours = answers.get(name)
        if ours is None or ours.shape != expected[name].shape or not np.isfinite(ours).all():
            return -1.0
        pairs = [rows.astype(np.float64) for rows in (ours, expected[name])]
        lengths = np.maximum(np.prod([np.linalg.norm(rows, axis=1) for rows in pairs], axis=0), 1e-12)
        smallest.append(float(((pairs[0] * pairs[1]).sum(1) / lengths).min(initial=1.0)))
    return min(smallest, default=None)


def _errors(expected: Arrays, answers: Arrays, ranges: Mapping[str, float]) -> tuple[float, float]:
    """The worst absolute and relative error over all float outputs; infinite for a wrong shape or no number."""
    absolute = relative = 0.0
    for name, span in ranges.items():
        ours = answers.get(name)
        if ours is None or ours.shape != expected[name].shape or not np.isfinite(ours).all():
            return math.inf, math.inf
        worst = float(np.abs(ours.astype(np.float64) - expected[name]).max(initial=0.0))
        absolute, relative = max(absolute, worst), max(relative, worst / span)
    return absolute, relative


def _number_failures(absolute: float, relative: float, allowed: Tolerance) -> list[str]:
    if allowed.absolute is not None:
        return (
            []
            if absolute <= allowed.absolute
            else [english("error {absolute:.3g}, allowed {allowed:g}", absolute=absolute, allowed=allowed.absolute)]
        )
    if relative <= allowed.relative:
        return []
    return [
        english(
            "error {relative:.1%} of the outputs' range, allowed {allowed:.0%}",
            relative=relative,
            allowed=allowed.relative,
        )
    ]


def _direction_failure(cosine: float | None, allowed: Tolerance) -> list[str]:
    if cosine is None or cosine >= allowed.cosine:
        return []
    return [f"an embedding has a cosine of {cosine:.4f} with the trained module's, allowed {allowed.cosine:g}"]


def _agreement_failure(same: np.ndarray, allowed: Tolerance) -> list[str]:
    different = int((~same).sum())
    limit = math.ceil(allowed.disagreement * len(same))
    return (
        []
        if different <= limit
        else [
            english(
                "{different} of {same} answers differ, allowed {limit}",
                different=different,
                same=len(same),
                limit=limit,
            )
        ]
    )


def _metric_failure(baseline: Judged, judged: Judged, allowed: Tolerance, *, decisions: int) -> list[str]:
    """A loss of one decision's worth, or of the floor, is never held against an engine that may lose any."""
    one_decision = 1 / max(1, decisions) if allowed.metric_loss else 0.0
    limit = max(allowed.metric_loss * abs(baseline.metric), one_decision, allowed.metric_floor)
    loss = baseline.metric - judged.metric
    if loss <= limit + 1e-9:  # rounding of means
        return []
    return [english("the metric fell by {loss:.4f}, allowed {limit:.4f}", loss=loss, limit=limit)]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: such values become null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
