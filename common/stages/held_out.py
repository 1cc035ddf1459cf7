"""Judging a run on labelled data beside its validation split: a test folder of its own data, or any other one.

Each set has a folder under RUN/tests with its check, evaluation.json and predictions.npz; the run's own evaluation and
result are not touched.
"""

import hashlib
import math
import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from common.challenge import Challenge, CheckedData
from common.machine.device import DeviceChoice
from common.run.run_directory import RunDirectory
from common.slug import slug
from common.stages.judging import can_be_read, is_of_weights, judge, keep_evaluation
from common.terminal.console import say

OWN = "test"
"""The folder's name of the test part that a run's own data has; all others end in a digest."""


def judge_test(
    challenge: Challenge[Any, Any, Any],
    run: RunDirectory,
    root: Path,
    console: Console,
    *,
    precision: str = "fp32",
    device: DeviceChoice = "auto",
) -> str:
    """Judge the run's weights on the labelled data in `root`; returns the line that tells the outcome.

    Raises DataError where the data cannot be judged by what the run has learnt.
    """
    run.require_weights()
    resolved = root.resolve()
    name = f"{slug(resolved.name)}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}"
    folder = run.tests / name
    found = challenge.check_test(root, run, run.recipe(challenge.recipe_class), folder / "data", console)
    return _judged(challenge, run, folder, found, console, precision, device)


def judge_own_test(
    challenge: Challenge[Any, Any, Any],
    run: RunDirectory,
    console: Console,
    *,
    precision: str = "fp32",
    device: DeviceChoice = "auto",
) -> str | None:
    """The same for the test part of the run's own data; None where it has none."""
    folder = run.tests / OWN
    found = challenge.own_test(run, folder / "data")
    return None if found is None else _judged(challenge, run, folder, found, console, precision, device)


def _judged(
    challenge: Challenge[Any, Any, Any],
    run: RunDirectory,
    folder: Path,
    found: CheckedData,
    console: Console,
    precision: str,
    device: DeviceChoice,
) -> str:
    recipe = run.recipe(challenge.recipe_class)
    record = folder / "evaluation.json"
    kept = run.test_evaluation(record) if record.is_file() and can_be_read(folder / "predictions.npz") else None
    if kept and kept["test"]["fingerprint"] == found.fingerprint and is_of_weights(run, kept, precision):
        say(console, f"evaluate: {found.root} has been judged already, nothing changed since.")
    else:
        evaluation = judge(challenge, recipe, run, folder / "data", device, precision)
        facts = {"root": str(found.root.resolve()), "fingerprint": found.fingerprint, **found.summary}
        keep_evaluation(run, folder / "predictions.npz", record, evaluation, precision, test=facts)
    judged = run.test_evaluation(record)
    return _line(challenge.model, run, judged, challenge.judgement.main_metric(recipe, judged["metrics"]))


def _line(model: str, run: RunDirectory, evaluation: dict[str, Any], metric: str) -> str:
    """Like the RESULT line: what the run reached, on which data, beside its validation."""
    test = evaluation["test"]
    interval = evaluation["intervals"].get(metric)
    parts = [
        f"TEST {model}/{run.description()['recipe']} {metric}={_figure(evaluation, metric)}",
        f"interval={interval[0]:.4f}-{interval[1]:.4f}" if interval else "",
        f"validation={_figure(run.evaluation(), metric)}" if run.evaluation_file.is_file() else "",
        "split=test" if test["own"] else "",
        f"{test['unit']}s={test['samples']} data={shlex.quote(test['root'])} report={run.report_file}",
    ]
    return " ".join(filter(None, parts))


def _figure(evaluation: dict[str, Any], metric: str) -> str:
    value = evaluation["metrics"].get(metric)
    return f"{math.nan if value is None else value:.4f}"
