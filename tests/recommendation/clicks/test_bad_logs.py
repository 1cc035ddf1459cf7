"""Click logs that cannot be read are refused in a sentence that names the place, with exit code 2."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from challenges.__main__ import main
from tests.recommendation.clicks.builders import criteo_lines, write_criteo

LINES = criteo_lines(60)


def with_cell(row, column, value):
    cells = LINES[row].split("\t")
    cells[column] = value
    return [*LINES[:row], "\t".join(cells), *LINES[row + 1 :]]


CRITEO = {
    "too few fields": ([*LINES[:9], "\t".join(LINES[9].split("\t")[:-2])], "line 10 has 38 fields"),
    "too many fields beside too few": (
        [*LINES[:4], LINES[4] + "\tx", "\t".join(LINES[5].split("\t")[:-1]), *LINES[6:]], "line 5 has 41 fields"),
    "an empty line": ([*LINES[:4], "", *LINES[4:]], "line 5 has 1 field."),
    "a label that is none": (with_cell(7, 0, "2"), "line 8: the label label is 2"),
    "no label": (with_cell(7, 0, ""), "line 8: the label label is empty"),
    "one class": ([f"0{line[1:]}" for line in LINES], "have the label 0"),
    "no number": (with_cell(3, 1, "many"), "line 4: column I1 is many"),
    "not a number": (with_cell(3, 2, "nan"), "line 4: column I2 is nan"),
    "an infinite number": (with_cell(3, 2, "-inf"), "line 4: column I2 is -inf"),
    "below the log's domain": (with_cell(3, 2, "-4"), "line 4: column I2 is -4"),
    "another table": (["a,b,c"], "line 1, has 3 fields"),
}  # fmt: skip


def refused(capsys, *arguments):
    assert main(["prepare", *map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("lines", "told"), CRITEO.values(), ids=CRITEO)
@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_criteo(tmp_path, capsys, lines, told, name):
    source = write_criteo(tmp_path / "source", lines, name)
    error = refused(capsys, "criteo", source, "--out", tmp_path / "out")
    assert told in error
    if "line" in told:
        assert str(source) in error


def test_a_gzip_file_that_was_cut_off(tmp_path, capsys):
    source = write_criteo(tmp_path / "source", LINES, "train.txt.gz")
    source.write_bytes(source.read_bytes()[:-200])
    assert "is cut off or damaged" in refused(capsys, "criteo", source, "--out", tmp_path / "out")


def test_folders_and_files_without_rows(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "out")
    assert "holds no file that ends in" in refused(capsys, "criteo", tmp_path / "empty", *out)
    assert "There is no" in refused(capsys, "criteo", tmp_path / "nowhere", *out)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.txt.gz").write_bytes(gzip.compress(b""))
    assert "is empty" in refused(capsys, "criteo", tmp_path / "empty.txt", *out)
    assert "is empty" in refused(capsys, "criteo", tmp_path / "empty.txt.gz", *out)
    assert "There is no" in refused(capsys, "adult", tmp_path / "empty", *out)
    assert "There is no" in refused(capsys, "movielens", tmp_path / "empty", *out)
    assert not (tmp_path / "out").exists()


def test_a_split_that_is_left_without_rows(tmp_path, capsys):
    source = write_criteo(tmp_path / "source", LINES[:3], "train.txt")
    assert "split has no row" in refused(capsys, "criteo", source, "--out", tmp_path / "out")


CSV = {
    "no header": ("1,2,3\n4,5,6\n", (), "names no columns"),
    "no rows": ("label,a\n", (), "has no rows"),
    "no label": ("a,b\n1,x\n", (), "No column is named as a label is"),
    "a label that is not there": ("a,b\n1,x\n", ("--label", "c"), "There is no column c"),
    "a label without that value": ("a,b\n1,x\n2,y\n", ("--label", "b=z"), "one of them z"),
    "a line too short": ("label,a,b\n1,x,y\n0,x\n", (), "line 3 has 2 fields"),
    "a line too long within quotes": ('label,a,b\n1,"x,z",y\n0,x,y,z\n', (), "line 3 has 4 fields"),
    "nothing to learn from": ("label,a\n1,x\n", (), "rows of the train split have the label 1"),
    "not UTF-8": ("label,a\n1,\udcff\n", (), "not UTF-8"),
}


@pytest.mark.parametrize(("content", "options", "told"), CSV.values(), ids=CSV)
def test_csv(tmp_path, capsys, content, options, told):
    source = tmp_path / "clicks.csv"
    source.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert told in refused(capsys, "csv", source, "--out", tmp_path / "out", *options)


def test_parquet(tmp_path, capsys):
    out = ("--out", tmp_path / "out")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 nothing")
    assert "is no readable Parquet file" in refused(capsys, "parquet", tmp_path / "train.parquet", *out)
    table = pa.table({"label": [0, 1] * 50, "price": [1.5, float("nan")] * 50, "word": ["a"] * 100})
    pq.write_table(table, tmp_path / "nan.parquet")
    assert "row 2: column price is nan" in refused(capsys, "parquet", tmp_path / "nan.parquet", *out)
    folder = tmp_path / "two"
    folder.mkdir()
    pq.write_table(table.drop_columns("price"), folder / "train.parquet")
    pq.write_table(table.drop_columns("word"), folder / "valid.parquet")
    told = refused(capsys, "parquet", folder, "--out", tmp_path / "other")
    assert "column word should be categorical and is missing" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--engine", "spark"), "--engine is spark"),
        (("--engine", "dask://"), "--engine is dask://"),
        (("--max-rows", "2"), "--max-rows is 2"),
        (("--like", "nowhere"), "There is no nowhere"),
    ],
)
def test_options(tmp_path, capsys, options, told):
    source = write_criteo(tmp_path / "source", LINES, "train.txt")
    assert told in refused(capsys, "criteo", source, "--out", tmp_path / "out", *options)
    assert "takes a file or a folder" in refused(capsys, "csv", "--out", tmp_path / "out")
    assert "is made, not read" in refused(capsys, "synthetic", source, "--out", tmp_path / "out")
