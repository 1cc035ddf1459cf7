import dataclasses
import json
import math

import jsonschema
import pytest
from scipy import stats

from common.errors import KitError, RecipeError
from common.run.recipe import Target
from common.run.result import (
    SCHEMA_FILE,
    Baseline,
    Interval,
    Kit,
    Result,
    decide,
    ranked,
    read_result,
    result_line,
    wilson,
)

TARGET = Target(metric="top1", value=0.95, source="a paper", protocol="val split, centre crop 224")
RESULT = Result(
    model="resnet50",
    recipe="demo",
    metric="top1",
    value=0.9625,
    interval=Interval(0.93921, 0.97711, "wilson"),
    target=TARGET,
    verdict="reached",
    reason="top1 0.9625 is 0.0125 above the target 0.9500.",
    metrics={"top1": 0.9625, "top5": 1.0, "loss": 0.17},
    baselines=(Baseline("colour k-NN", 0.4), Baseline("majority", 0.1)),
    steps=300,
    epochs=12.0,
    wall_seconds=210.5,
    samples_per_s=41.2,
    sample_unit="image",
    created="2026-01-02T03:04:05+00:00",
    report="runs/resnet50-demo/report/index.html",
    kit=Kit("0.1.0", "0123abc"),
)
BARE = dataclasses.replace(
    RESULT, interval=None, target=None, baselines=(), samples_per_s=None, verdict="not-comparable", kit=Kit("0.1.0")
)


def validate(text: str) -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("result", [RESULT, BARE], ids=["full", "bare"])
def test_a_result_is_read_as_it_was_written_and_follows_the_schema(result, tmp_path):
    path = tmp_path / "result.json"
    result.write(path)
    validate(path.read_text())
    assert read_result(path) == result


def test_a_metric_that_is_not_a_number_is_written_as_null(tmp_path):
    path = tmp_path / "result.json"
    dataclasses.replace(BARE, value=math.nan, metrics={"top1": math.nan, "loss": math.inf}).write(path)
    validate(path.read_text())
    assert json.loads(path.read_text())["value"] is None
    assert math.isnan(read_result(path).value)


@pytest.mark.parametrize(
    ("change", "wrong"), [("verdict", "perhaps"), ("steps", -1), ("interval", [0.1]), ("unknown", 1), ("target", {})]
)
def test_the_schema_refuses(change, wrong):
    with pytest.raises(jsonschema.ValidationError):
        validate(json.dumps(json.loads(RESULT.to_json()) | {change: wrong}))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "kit.result/9"}', '{"schema": "kit.result/1"}'])
def test_a_damaged_result_is_named(text, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(KitError, match=r"result\.json"):
        read_result(path)


def test_the_result_line_is_exact():
    assert result_line(RESULT) == (
        "RESULT resnet50/demo top1=0.9625 target=0.9500 baseline=colour-k-NN:0.4000 verdict=reached "
        "report=runs/resnet50-demo/report/index.html"
    )
    assert " target=none verdict=not-comparable " in result_line(BARE)


@pytest.mark.parametrize(
    ("value", "higher_is_better", "is_below"),
    [(0.41, True, False), (0.4, True, False), (0.39, True, True), (math.nan, True, True), (0.2, False, True)],
)
def test_a_run_that_something_simpler_beats_says_so(value, higher_is_better, is_below):
    figures = {"a": {"top1": 0.1}, "b": {"top1": 0.4}, "c": {"top5": 1.0}}
    target = dataclasses.replace(TARGET, higher_is_better=higher_is_better)
    baselines = ranked(figures, "top1", target)
    assert [baseline.name for baseline in baselines] == (["b", "a"] if higher_is_better else ["a", "b"])
    result = dataclasses.replace(RESULT, value=value, target=target, baselines=baselines)
    assert result.is_below_baseline == is_below
    assert (" verdict=reached,below-baseline " in result_line(result)) == is_below


@pytest.mark.parametrize(
    ("value", "verdict", "words"),
    [
        (0.95, "reached", "equal to the target 0.9500"),
        (0.96, "reached", "0.0100 above"),
        (0.90, "missed", "0.0500 below"),
        (math.nan, "missed", "top1 is nan"),
    ],
)
def test_a_comparable_run_reaches_or_misses(value, verdict, words):
    decision, reason = decide(TARGET, {"top1": value}, comparable=True, why="")
    assert decision == verdict
    assert words in reason


def test_lower_can_be_better():
    target = Target(metric="loss", value=0.5, source="a paper", protocol="val", higher_is_better=False)
    assert decide(target, {"loss": 0.4}, True, "")[0] == "reached"
    assert decide(target, {"loss": 0.6}, True, "")[0] == "missed"


def test_a_run_on_something_else_is_never_compared():
    assert decide(TARGET, {"top1": 0.99}, False, "Other data.") == ("not-comparable", "Other data.")
    assert decide(None, {"top1": 0.99}, True, "")[0] == "not-comparable"


def test_a_target_without_its_metric_is_the_recipes_fault():
    with pytest.raises(RecipeError, match="top5"):
        decide(TARGET, {"top5": 0.9}, True, "")


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (10, 10), (1, 1), (3, 7), (81, 263), (49_120, 50_000)])
def test_wilson_equals_scipy(successes, total):
    expected = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
    assert wilson(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_equals_the_published_example():
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_without_counts_knows_nothing_and_refuses_nonsense():
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and total"):
        wilson(3, 2)
