"""A load's record: what a server did under each number of clients, in the form that everything is compared in."""

import pytest

from benchmarks.compare import figures, group
from benchmarks.record import read
from benchmarks.serving import LoadedModel, serve_record
from common.errors import ServingError
from common.files import write_json


def step(answered=100, *, seconds=10.0, tenths=None, errors=None, **mode):
    counts = tenths or [int(answered * seconds / 10)] * 10
    return {
        "mode": "open" if "rate" in mode else "closed", **mode, "seconds": seconds, "requests": sum(counts),
        "answered_by_tenth": counts, "latency_ms": {"p50": 9.0, "p90": 12.0, "p99": 20.0, "maximum": 30.0},
        "errors": errors or {}, "models": {"resnet50": {"queue_ms": 1.5, "compute_ms": 7.0, "mean_batch": 2.0}},
    }  # fmt: skip


def served(url="127.0.0.1:8000"):
    return LoadedModel("resnet50", url, "http", 10.0, 1.0, {"encoded": (-1,)})


def load(*steps):
    return {"request_batch": [1], "steps": list(steps)}


def test_every_step_is_a_measurement(tmp_path):
    value = serve_record(served(), load(step(100, concurrency=1), step(180, concurrency=4), step(50, rate=50.0)))
    write_json(tmp_path / "load.json", value)
    record = read(tmp_path / "load.json")
    assert (record.kind, record.workload.challenge, record.workload.concurrency) == ("serve", "classification", 4)
    assert [figure.name for figure in figures(record)] == ["concurrency-1", "concurrency-4", "rate-50"]
    assert record.measurements["concurrency-4"].samples_per_s.median == pytest.approx(180)
    assert record.measurements["concurrency-1"].step_ms.p99 == 20.0
    assert record.details["concurrency-4_resnet50_queue_ms"] == 1.5
    assert record.validity.valid
    assert len(group([record])) == 1


def test_tenths_without_an_answer_are_time_all_the_same():
    value = serve_record(served(), load(step(concurrency=1, tenths=[0, 10, 0, 0, 10, 10, 10, 10, 10, 0])))
    windows = value["measurements"]["concurrency-1"]["windows"]
    assert sum(window["seconds"] for window in windows) == pytest.approx(10.0)
    assert sum(window["samples"] for window in windows) == 60
    assert "UNSTEADY" in [reason["code"] for reason in value["validity"]["reasons"]]


def test_a_server_elsewhere_is_not_filed_under_this_machine(tmp_path):
    value = serve_record(served("http://gpu.example:8000"), load(step(concurrency=1)))
    write_json(tmp_path / "load.json", value)
    assert read(tmp_path / "load.json").device == "another-machine"


def test_a_load_without_an_answer_is_told_and_not_recorded():
    refused = step(concurrency=8, tenths=[0] * 10, errors={"Timeout": 9})
    refused["answered_by_tenth"] = [0] * 10
    with pytest.raises(ServingError, match="Errors: Timeout"):
        serve_record(served(), load(refused))
