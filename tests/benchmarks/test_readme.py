"""Tables in Markdown files: made from records, and stale ones are found, in the tests of this checkout too."""

import dataclasses

import pytest

from benchmarks import outcomes
from benchmarks.picture import PICTURE, told_by
from benchmarks.readme import filled, main, markdown_files, stale, table
from benchmarks.record import RESULTS, Evidence, Finding, Validity, read_all, write
from benchmarks.work import Utilisation
from common.errors import KitError
from common.machine.environment import ROOT
from tests.benchmarks.builders import record

TEXT = "# Title\n\n<!-- results:classification/train -->\nold\n<!-- /results -->\n\nafter\n"
INVALID = Validity(valid=False, reasons=(Finding(code="UNSTEADY", text="It varied by 30 %."),))


def test_this_checkouts_tables_agree_with_its_records():
    records = read_all([RESULTS]) if RESULTS.exists() else []
    assert stale(markdown_files(), records, outcomes.read_all()) == []


def test_a_table_is_filled_and_stays_as_it_is():
    once = filled(TEXT, [record(123.0)], "README.md")
    assert "123 images/s" in once
    assert "old" not in once
    assert once.startswith("# Title\n\n<!-- results:classification/train -->\n")
    assert once.endswith("<!-- /results -->\n\nafter\n")
    assert filled(once, [record(123.0)], "README.md") == once


def test_a_table_names_hardware_commit_and_date():
    text = table([record()])
    for part in ("AMD EPYC 9B45, 2 cores", "torch 2.13.0", "01234567", "2026-11-20", "bf16"):
        assert part in text


def test_metrics_of_both_sides_follow_their_figures():
    judged = {"epochs": 20.0, "ours ndcg@10/full": 0.125, "peer ndcg@10/full": 0.12, "users": 6040.0}
    lines = table([dataclasses.replace(record(kind="comparison", ratio=2.0), details=judged)]).splitlines()[2:]
    assert len(lines) == 2
    assert lines[0].startswith("| ours/peer | 2.00 × (")
    assert lines[1] == "| ndcg@10/full after 20 epochs | ours 0.1250, peer 0.1200 |"


def test_records_of_several_batches_stand_beside_each_other():
    one, eight = (
        dataclasses.replace(measured, workload=dataclasses.replace(measured.workload, batch=batch))
        for measured, batch in ((record(kind="comparison", ratio=2.0), 1), (record(kind="comparison", ratio=3.0), 8))
    )
    header, _, line = table([one, eight]).splitlines()
    assert header.index("batch 1<br>") < header.index("batch 8<br>")
    assert line.index("2.00 ×") < line.index("3.00 ×")


def test_records_of_other_tables_stand_beside_each_other():
    narrow, wide = (
        dataclasses.replace(record(kind="comparison", ratio=ratio), details={"rows": 1e6, "width": width})
        for ratio, width in ((2.0, 16), (3.0, 128))
    )
    header, _, line = table([narrow, wide]).splitlines()
    assert header.index("rows 1,000,000, width 16<br>") < header.index("rows 1,000,000, width 128<br>")
    assert line.index("2.00 ×") < line.index("3.00 ×")


def test_the_newest_valid_record_is_shown():
    old, new = record(100.0, created="2026-11-01T00:00:00Z"), record(200.0, created="2026-11-02T00:00:00Z")
    broken = record(300.0, valid=INVALID, created="2026-11-03T00:00:00Z")
    text = table([old, new, broken])
    assert "200 images/s" in text
    assert "100 images/s" not in text
    assert "300 images/s" not in text


def test_an_invalid_record_is_shown_as_such_where_it_is_alone():
    assert "invalid: UNSTEADY" in table([record(valid=INVALID)])


def test_a_table_for_no_record_is_refused_and_the_known_ones_listed():
    text = TEXT.replace("classification/train", "classification/trian")
    with pytest.raises(KitError, match=r"classification/trian(.|\n)*Known: classification/train"):
        filled(text, [record()], "README.md")


def test_several_works_share_a_table_that_names_them():
    text = TEXT.replace("classification/train", "classification/train,classification/step")
    once = filled(text, [record(123.0), dataclasses.replace(record(45.0), name="step")], "README.md")
    lines = [line for line in once.splitlines() if "images/s" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| train", "| step"]


def test_works_on_other_data_share_no_table():
    other = record(45.0)
    other = dataclasses.replace(other, name="step", workload=dataclasses.replace(other.workload, dataset="other"))
    text = TEXT.replace("classification/train", "classification/train,classification/step")
    with pytest.raises(KitError, match="cannot be compared"):
        filled(text, [record(123.0), other], "README.md")


def test_an_unclosed_table_is_refused():
    with pytest.raises(KitError, match="without its end"):
        filled(TEXT.replace("<!-- /results -->", ""), [record()], "README.md")


def test_checking_changes_nothing_and_fails_and_filling_mends_it(tmp_path):
    results, page = tmp_path / "results", tmp_path / "README.md"
    write(record(), results)
    page.write_text(TEXT)
    assert main((page,), results=results, check=True) == 1
    assert page.read_text() == TEXT
    assert main((page,), results=results) == 0
    assert main((page,), results=results, check=True) == 0


def test_the_front_page_shows_no_invalid_record():
    assert "invalid" not in (ROOT / "README.md").read_text()


def test_the_pictured_runs_line_is_told():
    text = filled("<!-- picture -->\nold\n<!-- /picture -->\n", [], "README.md")
    assert text == f"<!-- picture -->\n\n```\n{told_by(PICTURE)}\n```\n\n<!-- /picture -->\n"


def test_absolute_figures_stand_with_their_share_of_the_roof_and_without_smoke_or_invalid_ones():
    shares = Utilisation(tflops=400.0, gb_s=None, mfu=0.42, mfu_of_peak=0.31, peak_source="a data sheet")
    old, new, compiled = (
        dataclasses.replace(
            record(rate, created=created, compile=compiled, model="resnet50/imagenet-90e"),
            evidence=Evidence(utilisation=shares),
        )
        for rate, created, compiled in (
            (900.0, "2026-11-01T00:00:00Z", False),
            (1000.0, "2026-11-02T00:00:00Z", False),
            (1500.0, "2026-11-02T00:00:00Z", True),
        )
    )
    shrunk = Validity(valid=True, warnings=(Finding(code="SMOKE", text="Shrunk."),))
    smoke = dataclasses.replace(new, validity=shrunk, created="2026-12-01T00:00:00Z")
    invalid = dataclasses.replace(new, validity=INVALID, created="2026-12-02T00:00:00Z")
    text = filled("<!-- speed -->\nold\n<!-- /speed -->\n", [new, old, compiled, smoke, invalid, record()], "README.md")
    rows = text.splitlines()[4:-2]
    assert len(rows) == 2
    assert "1,000 images/s" in rows[0]
    assert "| 42 % | 31 % | computing |" in rows[0]
    assert "bf16, compiled" in rows[1]
    assert "old" not in text
    assert "make benchmark" in filled("<!-- speed -->\n<!-- /speed -->\n", [record()], "README.md")
