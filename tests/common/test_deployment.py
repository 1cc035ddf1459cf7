"""Which engine is served, and what a run must have proven before."""

import json

import pytest
from rich.console import Console

from common.deployment import Choice, chosen
from common.errors import ServingError
from common.report.deployment import deployment_sections
from common.run_directory import RunDirectory
from common.serving_stage import prove_served


def row(engine, precision, passed=True):
    return {
        "engine": engine, "precision": precision, "batch": 1, "absolute_error": 0.1, "relative_error": 0.01,
        "agreement": 1.0, "metric": 0.9, "passed": passed, "failures": [] if passed else ["3 answers differ"],
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run whose INT8 failed in one engine."""
    rows = [row("onnxruntime", "fp32"), row("openvino", "fp32"), row("openvino", "int8", passed=False)]
    rows.append(row("onnxruntime", "int8"))
    speeds = {"onnxruntime fp32": 9.0, "openvino fp32": 4.0, "openvino int8": 1.0, "onnxruntime int8": 12.0}
    record = {
        "rows": rows,
        "latency_batch_1": {label: {"p50_ms": speed} for label, speed in speeds.items()},
        "choice": {"engine": "openvino", "precision": "fp32", "why": "4.0 ms"},
        "stamp": {"weights": [1, 2]},
    }
    directory = RunDirectory(tmp_path / "run")
    directory.export.mkdir(parents=True)
    directory.parity_file.write_text(json.dumps(record))
    return directory


def test_the_recorded_choice_is_served(run):
    assert chosen(run, "auto").label == "openvino fp32"


def test_a_precision_is_served_by_the_fastest_engine_that_passed(run):
    assert chosen(run, "fp32").label == "openvino fp32"
    assert chosen(run, "int8").label == "onnxruntime int8"


def test_a_precision_without_a_passing_engine_is_refused(run):
    with pytest.raises(ServingError, match="no engine in bf16"):
        chosen(run, "bf16")


def test_a_run_without_proof_is_not_served(run):
    record = json.loads(run.parity_file.read_text())
    run.parity_file.write_text(json.dumps({**record, "stamp": None}))
    with pytest.raises(ServingError, match="kit parity"):
        chosen(run, "auto")
    with pytest.raises(ServingError, match="kit parity"):
        chosen(RunDirectory(run.path / "elsewhere"), "auto")


def test_the_page_tells_what_passed_and_what_is_served(run):
    run.serving_file.write_text(
        json.dumps(
            {"engine": "openvino", "precision": "fp32", "sent": 10, "sent_unit": "files", "compared": 10,
             "unit": "answers", "same": 10, "correct": 8,
             "p50_ms": 3.0, "start_seconds": 2.0, "examples": []}
        )
    )  # fmt: skip
    parity, served = deployment_sections(run)
    assert "3 answers differ" in parity.html
    assert "openvino in fp32" in parity.html
    assert "10 of 10 answers (100.0%)" in served.html


def test_a_run_without_export_has_no_such_sections(tmp_path):
    assert deployment_sections(RunDirectory(tmp_path)) == []


def test_a_plan_is_left_to_nvidias_image(run, capsys):
    prove_served(None, run, Choice("tensorrt", "fp16", "0.4 ms"), Console(width=200))
    assert "--container" in capsys.readouterr().out
    assert not run.serving.exists()
