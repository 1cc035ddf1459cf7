"""Comparing records: never across protocols or workloads, never by invalid ones, and regressions are told."""

import dataclasses

import pytest

from benchmarks import compare
from benchmarks.compare import group, html, main, markdown, percentage, regressions
from benchmarks.record import Finding, Validity, write
from common.errors import KitError
from tests.benchmarks.builders import ENVIRONMENT, GPU, PROTOCOL, record

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
    page = html(group([record(valid=INVALID)]))
    assert 'class="invalid"' in page


def test_the_page_needs_nothing_from_elsewhere():
    page = html(group([record(100.0), record(200.0, batch=64)]))
    assert "http" not in page
    assert "src=" not in page
    assert "width: 50.0%" in page


def test_the_page_escapes_what_it_shows():
    assert "<b>" not in html(group([record(dataset="<b>")]))


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


def test_the_command_line_writes_pages_and_fails_on_a_regression(tmp_path, capsys):
    for one in series(100.0, 80.0):
        write(one, tmp_path)
    page, text = tmp_path / "page.html", tmp_path / "page.md"
    assert main((tmp_path,), markdown_file=text, html_file=page) == 0
    assert page.exists()
    assert text.exists()
    assert main((tmp_path,), fail_on_regression="5%") == compare.REGRESSION_EXIT_CODE
    assert "REGRESSION classification train" in capsys.readouterr().err
    assert main((tmp_path,), fail_on_regression="30%") == 0
