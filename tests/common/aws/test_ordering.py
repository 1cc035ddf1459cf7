"""A run is ordered with what the kit itself would take: all else is refused here, where it costs nothing."""

import datetime
import hashlib
import json
from dataclasses import replace

import pytest

from benchmarks.record import write
from challenges.__main__ import main
from challenges.commands.around import measured_rates
from challenges.ordering import order_of
from challenges.parser import build_parser
from common.aws import launch
from common.aws.lookup import OVERHEAD_HOURS, make_plan
from common.aws.plan import Order, rows
from common.errors import KitError
from common.machine.prices import read_prices
from common.storage.cloud import Cloud
from tests.benchmarks.builders import planted
from tests.common.aws.conftest import made

TABLE = read_prices()
ENDS = datetime.datetime(2026, 7, 20, tzinfo=datetime.UTC)
HELLO = hashlib.sha256(b"hello").hexdigest()


def order(*words, target="challenge1"):
    line = ["aws", "plan", target, "--instance", "g5.xlarge", *words]
    return order_of(build_parser().parse_args(line), TABLE, lambda recipe: {"g5.xlarge": float(len(recipe))})


@pytest.mark.parametrize(
    ("target", "words", "expected"),
    [
        ("challenge1", ["--model", "resnet5"], "There is no model 'resnet5'"),
        ("challenge1", ["--model", "ncf"], "ncf is not of challenge1"),
        ("challenge2", ["--recipe", "cocoa"], "There is no recipe 'ssd300/cocoa'"),
        ("challenge3", ["--model", "ncf dlrm", "--recipe", "ml-20m"], "There is no recipe 'dlrm/ml-20m'"),
        ("challenge1", ["--make-args=--training.epocs 5"], "training.epocs"),
        ("challenge1", ["--make-args=--weights ~/w.pth"], "The weights ~/w.pth lie here"),
        ("challenge1", ["--minutes", "5"], "MINUTES was given to challenge1"),
        ("challenge1", ["--gpus", "1"], "GPUS was given to challenge1"),
        ("benchmark", ["--gpus", "1,2"], "GPUS=1,2 asks for 2 GPUs, and g5.xlarge has 1"),
        ("benchmark", ["--model", "resnet50", "--recipe", "none"], "There is no recipe 'resnet50/none'"),
        ("benchmark", ["--make-args=--training.epochs 5"], "ARGS has --training.epochs"),
    ],
)
def test_what_the_instance_would_refuse_is_refused_here(target, words, expected):
    with pytest.raises(KitError) as refused:
        order(*words, target=target)
    assert expected in refused.value.given
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("words", [["--gpus", "0"], ["--gpus", "1,"], ["--minutes", "0"], ["--minutes", "nan"]])
def test_a_benchmarks_numbers_are_read_before_anything_is_asked(words, capsys):
    with pytest.raises(SystemExit):
        order(*words, target="benchmark")
    assert words[0] in capsys.readouterr().err


def test_a_published_row_that_there_is_not_is_refused(aws, capsys):
    assert main(["aws", "run", "benchmark", "--instance", "g5.xlarge", "--like", "lambda/resnet50-z9"]) == 2
    assert "lambda/resnet50-z9" in capsys.readouterr().err
    assert made() == {}


def test_a_challenge_takes_its_flags_as_make_does():
    given = order("--recipe", "photos", "--make-args=--training.epochs 5", "--data", "s3://b-b-b/photos")
    assert given.variables == (("RECIPE", "photos"), ("ARGS", "--training.epochs 5"))
    assert (given.epochs, given.told_hours) == (5, 0)
    assert given.rates == {"g5.xlarge": len("resnet50/photos")}
    by_minutes = order("--make-args=--training.minutes 30", "--data", "s3://b-b-b/photos")
    assert (by_minutes.epochs, by_minutes.told_hours) == (0, 0.5)
    assert order("--make-args=--weights /kit/data/w.pth").variables == (("ARGS", "--weights /kit/data/w.pth"),)


def test_a_benchmark_is_measured_once_in_a_container_and_expected_to_take_its_minutes(cloud):
    given = order("--model", "resnet50 ncf", "--gpus", "1", "--minutes", "30", "--quick", target="benchmark")
    plan = make_plan(cloud, given, TABLE, TABLE.date)
    assert plan.expected_hours == pytest.approx(OVERHEAD_HOURS + 0.5)
    told = dict(rows(plan))
    assert told["run"].endswith(": make benchmark")
    assert told["comes back"] == f"to runs/aws-{given.name}/, records for make compare"
    sent = launch.guest_config(plan, "", "c0ffee", ENDS)
    words = ["make", "benchmark", "MODEL=resnet50 ncf", "GPUS=1", "MINUTES=30", "QUICK=1", "COMMIT=c0ffee"]
    assert sent["command"] == [*words, "CONTAINER=1"]
    assert sent["attempts"] == 1
    assert made() == {}


def test_records_of_a_rented_benchmark_tell_how_long_a_training_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "aws-benchmark-1a2b3c" / "benchmark" / "results"
    write(planted("NVIDIA A10G", compute=500.0, data=800.0, cores=4, model="resnet50/photos"), folder)
    rates = measured_rates("resnet50/photos")
    assert rates["g5.xlarge"] == pytest.approx(500 * 0.98)
    assert "g6e.xlarge" not in rates  # no GPU stands in for another
    assert measured_rates("resnet50/small") == {}


def test_what_records_tell_is_expected_and_what_is_not_known_is_said(cloud, tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    given = Order(target="challenge1", instances=("g5.xlarge",), data=str(tmp_path), epochs=90, speeds={"A10G": 9.0})
    known = make_plan(cloud, replace(given, rates={"g5.xlarge": 0.5}), TABLE, TABLE.date)
    assert known.expected_hours == pytest.approx(OVERHEAD_HOURS + 4 * 90 / 0.5 / 3600)
    assert not any("how long it learns" in note for note in known.notes)
    unknown = make_plan(cloud, replace(given, speeds={}), TABLE, TABLE.date)
    assert unknown.expected_hours == pytest.approx(OVERHEAD_HOURS)
    assert any("how long it learns is not known" in note for note in unknown.notes)


def test_a_benchmark_longer_than_its_price_is_refused(cloud):
    given = order("--minutes", "1200", target="benchmark")
    with pytest.raises(KitError, match="MAX_USD=10 is less than what the run is expected to cost"):
        make_plan(cloud, given, TABLE, TABLE.date)


def test_records_that_came_back_are_told_how_to_be_compared(cloud, aws, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["aws", "run", "benchmark", "--instance", "g5.xlarge", "--name", "measured", "-y"]
    bucket, mark = "kit-123456789012-us-east-1", "ab" * 32

    def followed(cloud: Cloud, name, *_):
        """The guest's part: a record and a file of the cache are kept, and it is over."""
        facts = {"sha256": HELLO, "size": 5, "mtime_ns": 10**18}
        listed = {"benchmark/results/record.json": facts, ".cache/demo.bin": facts | {"sha256": mark}}
        for key, body in {
            "latest.json": json.dumps({"manifest": "manifests/1.json"}), "manifests/1.json": json.dumps(listed),
            f"blobs/{HELLO}": "hello",
        }.items():  # fmt: skip
            cloud.ask("s3", "put_object", Bucket=bucket, Key=f"runs/{name}/{key}", Body=body.encode())
        return {"state": "done"}

    monkeypatch.setattr(launch, "follow", followed)
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "Compare its records: make compare RECORDS=runs/aws-measured/benchmark/results" in told
    assert (tmp_path / "runs/aws-measured/benchmark/results/record.json").read_text() == "hello"
    assert not (tmp_path / "runs/aws-measured/.cache").exists()
    assert list(made()) == ["buckets"]
