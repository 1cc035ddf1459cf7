"""Files of any name, whole; tables: what is written is read, and one for people gives a spreadsheet no orders."""

import csv
import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.files import (
    cut_name,
    file_stamp,
    link_file,
    read_csv,
    remove_leftovers,
    stamps_digest,
    write_csv,
    write_text,
)

CELLS = st.text(st.sampled_from("'=+-@\t\r\n\"a,;1.e ＝\udcff\ud800"), max_size=6)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-a", "'-a"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1+1", "'＝1+1"),
        ("-1+cmd", "'-1+cmd"),
        ("'=1", "''=1"),
        ("-1.5", "-1.5"),
        ("+3e-4", "+3e-4"),
        ("it's", "it's"),
        ("'quoted'", "'quoted'"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_cells_that_a_spreadsheet_would_run_become_text_and_numbers_stay(tmp_path, cell, written):
    write_csv(tmp_path / "a.csv", ("name", "score"), [(cell, -0.5)], guarded=True)
    with (tmp_path / "a.csv").open(newline="") as stream:
        assert list(csv.reader(stream))[1] == [written, "-0.5"]
    assert read_csv(tmp_path / "a.csv", guarded=True) == [{"name": cell, "score": "-0.5"}]


@pytest.mark.parametrize("guarded", [False, True])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), max_size=4))
def test_what_is_read_is_what_was_written(tmp_path_factory, guarded, rows):
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    write_csv(path, ("a", "b"), rows, guarded=guarded)
    assert read_csv(path, guarded=guarded) == [{"a": a, "b": b} for a, b in rows]


def test_a_table_that_is_data_keeps_its_cells(tmp_path):
    write_csv(tmp_path / "a.csv", ("name",), [("=1+1",)])
    assert (tmp_path / "a.csv").read_text() == "name\n=1+1\n"


@pytest.mark.parametrize("name", ["x" * 255, "写" * 85, "x" + "é" * 127], ids=["ascii", "three bytes", "two bytes"])
def test_a_name_as_long_as_the_system_takes_is_written(tmp_path, name):
    write_text(tmp_path / name, "whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    cut = cut_name(name, 4)
    assert name.startswith(cut)
    assert 249 <= len(cut.encode()) <= 251


def test_a_stamp_changes_with_size_and_time_and_a_digest_with_any_of_them(tmp_path):
    path = tmp_path / "file"
    path.write_text("four")
    first = file_stamp(path)
    os.utime(path, ns=(first[1], first[1] + 1))
    assert file_stamp(path) == (4, first[1] + 1)
    digests = {stamps_digest(stamps) for stamps in ([("a", 1, 2)], [("a", 1, 3)], [("a", 2, 2)], [("b", 1, 2)], [])}
    assert len(digests) == 5


@pytest.mark.parametrize("has_links", [True, False])
def test_a_large_file_gets_a_second_name_or_a_copy_which_outlives_the_first(tmp_path, monkeypatch, has_links):
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    write_text(source, "first")
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "another disk")))
    for _ in range(2):  # also in place of what is there
        link_file(source, target)
        assert [path.name for path in target.parent.iterdir()] == ["target"]
        assert source.samefile(target) == has_links
    write_text(source, "second")
    assert target.read_text() == "first"
    link_file(source, target)
    assert target.read_text() == "second"
