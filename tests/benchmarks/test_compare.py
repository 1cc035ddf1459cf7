"""Comparing records: never across protocols or workloads, never by invalid ones, and regressions are told."""

import csv
import dataclasses
import io
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.compare import Settings, as_csv, group, how, main, markdown, percentage, regressions
from benchmarks.record import Finding, Validity, write
from common.errors import DataError, KitError
from tests.benchmarks.builders import ENVIRONMENT, GPU, PROTOCOL, planted, record

INVALID = Validity(valid=False, reasons=(Finding(code="UNSTEADY", text="It varied by 30 %."),))


def test_other_protocols_and_workloads_never_share_a_table():
    second = dataclasses.replace(PROTOCOL, version=2)
    records = [
        record(),
        record(protocol=second),
        record(dataset="photos"),
        record(input_shape=(3, 96, 96)),
        record(precision="fp32"),
        record(batch=8),
    ]
    assert [len(one.records) for one in group(records)] == [3, 1, 1, 1]


def test_an_invalid_record_is_shown_with_its_reason():
    text = markdown(group([record(valid=INVALID)]))
    assert "invalid: UNSTEADY" in text


def test_markdown_has_a_row_per_stage_and_escapes_bars():
    lines = markdown(group([record(kind="comparison", ratio=1.8)])).splitlines()
    assert sum("ours/peer: 1.80 ×" in line for line in lines) == 1
    assert compare.markdown_table(("a",), [("x|y",)])[-1] == "| x\\|y |"


def series(*rates: float, **options):
    return [record(rate, created=f"2026-11-{day:02d}T10:00:00Z", **options) for day, rate in enumerate(rates, start=1)]


def test_a_loss_beyond_what_is_allowed_is_a_regression():
    found = regressions(series(100.0, 90.0), allowed=0.05)
    assert [round(one.loss, 3) for one in found] == [0.1]
    assert "10.0% below" in str(found[0])


def test_smaller_losses_and_gains_are_none():
    assert not regressions(series(100.0, 96.0), allowed=0.05)
    assert not regressions(series(100.0, 120.0), allowed=0.05)


def test_only_the_newest_step_of_a_series_counts():
    assert not regressions(series(200.0, 100.0, 101.0), allowed=0.05)


def test_other_devices_and_invalid_records_are_no_series():
    on_gpu = ENVIRONMENT | {"gpus": [GPU], "device": "cuda:0"}
    assert not regressions([record(100.0, environment=on_gpu), record(10.0)], allowed=0.05)
    assert not regressions([record(100.0), record(10.0, valid=INVALID)], allowed=0.05)


def test_a_ratio_that_falls_is_a_regression():
    records = [record(kind="comparison", ratio=ratio) for ratio in (2.0, 1.5)]
    assert [one.figure for one in regressions(records, allowed=0.05)] == ["ours/peer"]


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("0%", 0.0)])
def test_shares_are_written_either_way(text, share):
    assert percentage(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "-1%", "five", "100%"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(KitError, match="fail-on-regression"):
        percentage(text)


def test_rows_that_differ_by_more_than_the_precision_are_told_apart():
    eager, compiled = record(), record(compile=True)
    assert how(eager) != how(compiled)
    assert "compiled" in how(compiled)


def test_the_command_line_writes_pages_and_fails_on_a_regression(tmp_path, capsys):
    records, pages = tmp_path / "records", tmp_path / "pages"
    for one in series(100.0, 80.0):
        write(one, records)
    assert main((records,), settings=Settings(output=pages)) == 0
    assert sorted(path.name for path in pages.glob("[!.]*")) == [f"comparison.{kind}" for kind in ("csv", "html", "md")]
    (pages / "comparison.md").write_text("My own notes.")
    with pytest.raises(DataError, match=r"comparison\.md"):
        main((records,), settings=Settings(output=pages))
    assert main((records,), settings=Settings(fail_on_regression="5%")) == compare.REGRESSION_EXIT_CODE
    assert "REGRESSION classification train" in capsys.readouterr().err
    assert main((records,), settings=Settings(fail_on_regression="30%")) == 0


def test_the_table_as_csv_has_every_figure_once(tmp_path):
    lines = list(csv.DictReader(io.StringIO(as_csv(group([record(100.0), record(50.0, dataset="a,b")])))))
    assert [line["result"].split(":")[0] for line in lines] == ["end_to_end", "end_to_end"]
    assert "(a,b)" in lines[1]["group"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Settings(goal="resnet50"), "90 epochs"),
        (Settings(goal="resnet50 0 epochs"), "90 epochs"),
        (Settings(goal="vgg16 3 epochs"), "Records are of resnet50"),
        (Settings(prices=Path("nowhere.csv")), "cannot be read"),
        (Settings(published=(Path("nowhere.txt"),)), "LoadGen"),
    ],
)
def test_bad_wishes_are_told_before_anything_is_written(options, words, tmp_path):
    write(planted("NVIDIA L4", 700.0, 900.0), tmp_path / "records")
    with pytest.raises(KitError, match=words):
        main((tmp_path / "records",), settings=dataclasses.replace(options, output=tmp_path / "pages"))
    assert not (tmp_path / "pages").exists()
