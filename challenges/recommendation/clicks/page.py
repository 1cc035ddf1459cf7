"""What a click model's page shows: metrics by head, tail and unseen values, calibration, and what the rows are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from challenges.recommendation.clicks.data import ClickData
from challenges.recommendation.clicks.metrics import probabilities
from challenges.recommendation.clicks.recipes import ClickRecipe
from challenges.recommendation.clicks.spec import Categorical, FeatureSpec
from common.challenge import Page
from common.language.telling import english, grouped, retell, tell
from common.report.data import check_record, data_warnings
from common.report.elements import Section, facts, folded_table, join, paragraph, percentage, table
from common.report.plots import reliability_chart
from common.run.result import wilson
from common.run.run_directory import RunDirectory

BINS = 15  # of the calibration, each with as many rows
CHANCE = 0.5  # the AUC of no ranking at all
PARTS = {"head": english("head"), "tail": english("tail"), "unseen": english("unseen")}


class ClickPage(Page[ClickRecipe, ClickData]):
    """The rows, the figures by part, and how far probabilities can be believed."""

    def sections(self, run: RunDirectory, recipe: ClickRecipe) -> Sequence[Section]:
        """As far as the run has got: the data from the start, figures once it was evaluated."""
        spec, record = FeatureSpec.read(run.data), check_record(run)
        parts = [_data(run, spec, record)]
        if not (run.evaluation_file.is_file() and run.predictions_file.is_file()):
            return parts
        with np.load(run.predictions_file) as columns:
            label, logit = columns["label"], columns["logit"]
        return [_figures(run, record), _calibration(label, logit), *parts]


def _figures(run: RunDirectory, record: Mapping[str, Any]) -> Section:
    evaluation = run.evaluation()
    metrics, intervals = evaluation["metrics"], evaluation["intervals"]
    plain = [name for name in metrics if "/" not in name]
    rows = [(name, f"{metrics[name]:.4f}", _interval(intervals.get(name))) for name in plain]
    parts = [table((tell("metric"), tell("value"), tell("95 % interval")), rows, numeric=(1, 2))]
    best, split = record.get("facts", {}).get("bayes_auc", {}), record["judged"]
    if split in best:
        value = best[split]
        share = (metrics["auc"] - CHANCE) / (value - CHANCE)
        told = tell(
            "The rows were made up, so that the best is known: no model can rank {split} rows better than AUC "
            "{value:.4f}; {share} of the way from chance to there is gone.",
            split=retell(split), value=value, share=percentage(share),
        )  # fmt: skip
        parts.append(paragraph(told))
    by_part = [part for part in PARTS if f"auc/{part}" in metrics or f"log_loss/{part}" in metrics]
    if by_part:
        names = sorted({name.split("/")[0] for name in metrics if name.endswith(tuple(f"/{part}" for part in by_part))})
        lines = [(tell(PARTS[part]), *(_figure(metrics.get(f"{name}/{part}")) for name in names)) for part in by_part]
        parts.append(
            paragraph(
                tell(
                    "By the column with the most values: rows with one of its commonest tenth (head), with another one "
                    "(tail), and with one that training did not see."
                )
            )
        )
        parts.append(table((tell("rows"), *names), lines, numeric=range(1, len(names) + 1)))
    return Section("How well clicks are told", join(parts))


def _calibration(label: np.ndarray, logit: np.ndarray) -> Section:
    """Clicks over probability, in bins of equally many rows."""
    probability = probabilities(logit)
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 2:
        return Section("Calibration", paragraph(tell("Every row got the same probability.")))
    place = np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place, minlength=len(edges) - 1)
    clicks = np.bincount(place, label, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        rate = clicks / counts
    spans = [
        wilson(int(click), int(count)) if count else (np.nan, np.nan)
        for click, count in zip(clicks, counts, strict=True)
    ]
    chart = reliability_chart(tell("Clicks by probability"), edges, rate, np.array(spans, float), counts)
    told = tell("A calibrated model's bars end on the diagonal: of the rows with probability 0.2, a fifth are clicks.")
    return Section("Calibration", join([paragraph(told), chart]))


def _data(run: RunDirectory, spec: FeatureSpec, record: Mapping[str, Any]) -> Section:
    known = record.get("facts", {}).get("known_share", {})
    kinds = {"Dense": tell("number"), "Categorical": tell("value"), "MultiHot": tell("several values")}
    rows = []
    for feature in spec.features:
        ids = grouped(feature.cardinality) if isinstance(feature, Categorical) else ""
        share = percentage(known[feature.name]) if feature.name in known else ""
        rows.append((feature.name, kinds[type(feature).__name__], ids, share))
    counts = record.get("rows", {})
    clicks = record.get("positives", {})
    told = [
        (retell(split), tell("{count:,} rows, {share:.2%} of them clicks", count=count, share=clicks[split] / count))
        for split, count in counts.items()
    ]
    understood = [(retell(name), retell(sentence)) for name, sentence in record.get("understood", {}).items()]
    parts = [
        *data_warnings(run),
        facts([*understood, (tell("data"), record.get("name", "")), *told, (tell("label"), spec.label.name)]),
        folded_table(
            (tell("column"), tell("kind"), tell("ids"), tell("training cells with an id of their own")),
            rows,
            numeric=(2, 3),
        ),
    ]
    return Section("Data", join(parts))


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f}–{interval[1]:.4f}"


def _figure(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.4f}"
