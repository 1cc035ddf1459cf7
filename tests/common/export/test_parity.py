import io
import json
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from rich.console import Console

from common.errors import ParityError
from common.export.latency import fastest, measure_latencies
from common.export.parity import Comparison, Judged, ParityRow, ParityTable, Tolerance, Tolerances, compare
from common.export.runner import OnnxRunner, OpenVinoRunner, Runner, TorchRunner
from tests.common.export.conftest import SIGNATURE, batch_of

INPUTS = {size: batch_of(size, seed=size) for size in (1, 7, 32)}


class Fake(Runner):
    """Answers with `function` of the inputs, after `seconds`."""

    def __init__(self, function=lambda x: x, name="fake", precision="fp32", seconds=0.0):
        self.function, self.name, self.precision, self.seconds = function, name, precision, seconds
        self.calls = 0

    def __call__(self, inputs):
        import time

        self.calls += 1
        time.sleep(self.seconds)
        return {"logits": self.function(inputs["x"])}


LOGITS = np.array([[0.0, 10.0], [4.0, 3.0], [-2.0, 8.0], [1.0, 0.0]], np.float32)  # range 12
ONE = {4: {"x": LOGITS}}


def only_row(function, precision="fp32", **options):
    (row,) = compare(Fake(), [Fake(function, precision=precision)], ONE, **options).rows
    return row


def tampered(path, folder):
    """The same graph with one weight of the classifier moved a little."""
    model = onnx.load(path)
    weight = next(i for i in model.graph.initializer if i.name.endswith("fc.weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "tampered.onnx")
    return folder / "tampered.onnx"


def test_sound_exports_pass_and_a_tampered_weight_fails(exported, tmp_path):
    reference = TorchRunner(exported.module, SIGNATURE)
    sound = [
        OnnxRunner(exported.fp32, threads=1),
        OpenVinoRunner(exported.fp32, threads=1),
        OnnxRunner(exported.fp16, precision="fp16", threads=1),
        OpenVinoRunner(exported.int8, precision="int8", threads=1),
    ]
    table = compare(reference, sound, INPUTS)
    table.require()
    assert table.passing() == ["onnxruntime fp32", "openvino fp32", "onnxruntime fp16", "openvino int8"]
    assert [row.batch for row in table.rows] == [1, 7, 32] * 4
    broken = compare(reference, [OnnxRunner(tampered(exported.fp32, tmp_path), threads=1)], INPUTS)
    with pytest.raises(ParityError, match=r"onnxruntime fp32, batch 32: error .* allowed 0\.001"):
        broken.require()
    assert broken.passing() == []


def test_errors_by_hand():
    row = only_row(lambda x: x + np.float32([[0, 0.6]]), precision="int8")
    assert row.absolute_error == pytest.approx(0.6)
    assert row.relative_error == pytest.approx(0.05)
    assert row.agreement == 1.0
    assert row.passed


@pytest.mark.parametrize(("shift", "passed"), [(0.9e-3, True), (1.1e-3, False)])
def test_fp32_is_judged_by_the_absolute_error(shift, passed):
    assert only_row(lambda x: x.astype(np.float64) + shift).passed is passed


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), ("bf16", 0.10), ("int8", 0.20)])
def test_reduced_precisions_are_judged_by_the_range(precision, limit):
    push = np.float32([0, 1])  # towards the second class of rows that are of it, so that no answer changes
    first = LOGITS.argmax(1)[:, None] == 1
    assert only_row(lambda x: x + push * first * 12 * limit * 0.99, precision).passed
    assert not only_row(lambda x: x + push * first * 12 * limit * 1.01, precision).passed


def test_two_other_answers_of_four_fail_where_one_passes():
    def flip(rows):
        return lambda x: np.where(np.isin(np.arange(4), rows)[:, None], x[:, ::-1], x)

    wide = Tolerances(int8=Tolerance(absolute=None, relative=2.0, disagreement=0.02, metric_loss=0.01))
    assert only_row(flip([1]), "int8", comparison=Comparison(wide)).passed
    failed = only_row(flip([1, 3]), "int8", comparison=Comparison(wide))
    assert failed.failures == ("2 of 4 answers differ, allowed 1",)


@pytest.mark.parametrize("spoil", [lambda x: x * np.nan, lambda x: x + np.inf, lambda x: x[:, :1]])
def test_values_that_are_no_answer_fail(spoil):
    class Agreeable(Comparison):
        def same_answers(self, expected, answers, precision):
            return np.ones(4, bool)

    row = only_row(spoil, "int8", comparison=Agreeable())
    assert row.absolute_error == math.inf
    assert not row.passed


def judge_of(values, samples=1000, wrong=0):
    """Metrics by engine; every engine but torch decides differently in the first `wrong` samples."""

    def judge(runner):
        decisions = np.zeros(samples)
        decisions[: 0 if runner.name == "torch" else wrong] = 1
        return Judged(values[runner.name], decisions)

    return judge


@pytest.mark.parametrize(
    ("precision", "score", "samples", "passed"),
    [
        ("fp32", 0.90, 1000, True),
        ("fp32", 0.899, 1000, False),
        ("int8", 0.892, 1000, True),
        ("int8", 0.890, 1000, False),
        ("int8", 0.881, 50, True),  # one of 50 samples
        ("int8", 0.879, 50, False),
        ("bf16", 0.95, 1000, True),
    ],
)
def test_the_metric_may_fall_by_its_tolerance_or_one_sample(precision, score, samples, passed):
    table = compare(
        Fake(name="torch"),
        [Fake(name="engine", precision=precision)],
        ONE,
        judge=judge_of({"torch": 0.90, "engine": score}, samples),
    )
    assert table.passed is passed
    assert table.rows[0].metric_delta == pytest.approx(score - 0.90)


@pytest.mark.parametrize(("score", "passed"), [(0.0063, True), (0.0051, True), (0.0049, False)])
def test_a_share_of_next_to_nothing_is_not_held_against_a_precision(score, passed):
    judge = judge_of({"torch": 0.007, "engine": score}, samples=100_000)
    table = compare(Fake(name="torch"), [Fake(name="engine", precision="bf16")], ONE, judge=judge)
    assert table.passed is passed


def cannot(_):
    raise RuntimeError("no kernel\nfor it")


def test_a_reduced_precision_that_cannot_answer_is_left_out_with_its_reason(tmp_path):
    table = compare(Fake(), [Fake(name="good"), Fake(cannot, name="bad", precision="bf16")], ONE)
    assert table.passing() == ["good fp32"]
    assert table.left_out == {"bad bf16": "it cannot answer: no kernel"}
    table.write_record(tmp_path / "parity.json")
    assert json.loads((tmp_path / "parity.json").read_text())["left_out"] == table.left_out
    with pytest.raises(RuntimeError, match="no kernel"):
        compare(Fake(), [Fake(cannot)], ONE)


def test_the_table_says_why():
    candidates = [Fake(lambda x: x[:, ::-1], name="bad", precision="fp16"), Fake(cannot, name="sick", precision="int8")]
    console = Console(file=io.StringIO(), width=200)
    compare(Fake(), candidates, ONE).print(console)
    text = console.file.getvalue()
    assert "4 of 4 answers differ, allowed 1" in text
    assert "left out: it cannot answer: no kernel" in text


@pytest.mark.parametrize(("wrong", "passed"), [(0, True), (20, True), (21, False)])
def test_decisions_on_the_validation_set_count(wrong, passed):
    judge = judge_of({"torch": 0.9, "engine": 0.9}, samples=1000, wrong=wrong)
    table = compare(Fake(name="torch"), [Fake(name="engine", precision="int8")], ONE, judge=judge)
    assert table.passed is passed
    assert table.rows[0].agreement == 1 - wrong / 1000


def test_the_validation_set_is_answered_once_per_engine():
    seen = []
    compare(
        Fake(),
        [Fake(name="a")],
        {4: ONE[4], 2: {"x": LOGITS[:2]}},
        judge=lambda r: seen.append(r.name) or Judged(1.0, LOGITS),
    )
    assert seen == ["fake", "a"]


def test_record_and_table_tell_every_row(tmp_path):
    candidates = [Fake(name="good"), Fake(lambda x: x * np.nan, name="bad")]
    table = compare(Fake(name="torch"), candidates, ONE, judge=judge_of({"torch": 0.5, "good": 0.5, "bad": 0.5}))
    table.write_record(tmp_path / "parity.json")
    record = json.loads((tmp_path / "parity.json").read_text(), parse_constant=pytest.fail)
    assert record["reference"] == "torch fp32"
    assert record["passed"] is False
    assert [(row["engine"], row["passed"]) for row in record["rows"]] == [("good", True), ("bad", False)]
    assert record["rows"][1]["absolute_error"] is None
    console = Console(file=io.StringIO(), width=160)
    table.print(console)
    text = console.file.getvalue()
    assert "passed" in text
    assert "failed" in text
    assert "0.5000" in text


def test_eighty_columns_hold_every_verdict():
    row = ParityRow(
        engine="onnxruntime",
        precision="int8",
        batch=1,
        absolute_error=2.4e-6,
        relative_error=0.0309,
        agreement=1.0,
        metric=0.87,
        metric_delta=0.0,
        tolerance="20% of range",
        failures=(),
        cosine=0.99997,
    )
    console = Console(file=io.StringIO(), width=80)
    ParityTable(reference="torch fp32", reference_metric=0.87, rows=(row,)).print(console)
    told = console.file.getvalue()
    assert "…" not in told
    assert " 20%  passed " in told


def test_the_largest_entry_looks_at_the_first_output():
    reference = {"logits": LOGITS, "other": -LOGITS}
    candidate = {"logits": LOGITS, "other": LOGITS}
    assert Comparison().same_answers(reference, candidate, "fp32").all()


def test_latencies_are_taken_in_turns_and_ordered():
    slow, quick = Fake(name="slow", seconds=0.004), Fake(name="quick", seconds=0.001)
    found = measure_latencies([slow, quick], ONE[4], seconds=0.1)
    assert found["slow fp32"].p50_ms > 2 * found["quick fp32"].p50_ms
    for latency in found.values():
        assert latency.batch == 4
        assert latency.p50_ms <= latency.p90_ms <= latency.p99_ms
        assert latency.samples_per_s == pytest.approx(4e3 / latency.p50_ms)
    assert found["quick fp32"].calls < quick.calls  # warm-up is not counted
    assert fastest(found, ["slow fp32", "quick fp32"]) == "quick fp32"
    assert fastest(found, ["slow fp32", "unmeasured"]) == "slow fp32"
    assert fastest(found, []) is None


def test_engines_with_one_label_are_refused():
    with pytest.raises(ValueError, match="labels"):
        measure_latencies([Fake(), Fake()], ONE[4])


def test_tolerances_can_be_tightened():
    strict = replace(Tolerances(), int8=Tolerance(absolute=None, relative=1e-6, disagreement=0.0, metric_loss=0.0))
    assert not only_row(lambda x: x + np.float32(1e-3), "int8", comparison=Comparison(strict)).passed
