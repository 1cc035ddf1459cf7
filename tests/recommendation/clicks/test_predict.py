"""Rows of one's own are scored as they come, and bad tables are refused with the file and the line."""

import csv
import gzip
import io

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from challenges.recommendation.clicks import predict as predicting
from challenges.recommendation.clicks.serving.asking import RowDialogue
from challenges.recommendation.clicks.serving.rows import read_rows
from challenges.recommendation.dlrm.challenge import CHALLENGE
from common.challenge import Trained
from common.errors import DataError
from common.question import Question
from tests.recommendation.clicks.builders import prepare_criteo, write_criteo


class Halves(torch.nn.Module):
    """Answers with the first number and the first id."""

    def forward(self, dense, categorical):
        return (dense[:, :1] + 1000 * categorical[:, :1]), dense[:, :1]


class Answering:
    def place(self, device):
        return self

    def eval(self):
        return self

    def inference_module(self):
        return Halves()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return prepare_criteo(write_criteo(folder / "source"), folder / "out")


@pytest.fixture
def trained(prepared):
    run = type("Run", (), {"data": prepared.folder})()
    return Trained(CHALLENGE, run, None, None, Answering())


def rows_of(prepared, count=50):
    random = np.random.default_rng(0)
    rows = {name: [str(random.integers(-1, 9)) for _ in range(count)] for name in prepared.spec.raw_columns}
    return pl.DataFrame(rows)


def asked(trained, output, *paths):
    console = Console(record=True, width=200, file=io.StringIO())
    predicting.predict(trained, paths, output, torch.device("cpu"), console)
    return console.export_text()


def scores(path):
    with path.open(newline="") as stream:
        return [float(row["probability"]) for row in csv.DictReader(stream)]


def test_columns_come_in_any_order_and_others_are_kept(prepared, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "BATCH", 16)
    table = rows_of(prepared)
    table.write_csv(tmp_path / "plain.csv")
    names = list(reversed(table.columns))
    other = table.select(pl.lit('Zoë, "who"').alias("note"), *names, pl.lit(1).alias("label"))
    other.write_csv(tmp_path / "other.csv")
    (tmp_path / "packed.tsv.gz").write_bytes(gzip.compress(other.write_csv(separator="\t").encode()))
    told = asked(trained, tmp_path / "out", *(tmp_path / name for name in ("plain.csv", "other.csv", "packed.tsv.gz")))
    assert "50 rows scored" in told
    expected = prepared.transform().answer_to(table.to_dict(as_series=False))
    wanted = expected.dense[:, 0] + 1000 * expected.categorical[:, 0]
    for name in ("plain", "other", "packed"):
        np.testing.assert_allclose(scores(tmp_path / "out" / f"{name}-scored.csv"), wanted, rtol=1e-5)
    with (tmp_path / "out" / "other-scored.csv").open(newline="") as stream:
        first = next(csv.DictReader(stream))
    assert list(first) == ["note", *names, "label", "probability"]
    assert first["note"] == 'Zoë, "who"'


def test_what_is_no_number_counts_as_missing_and_is_told(prepared, trained, tmp_path):
    table = rows_of(prepared, 4).with_columns(pl.Series("I1", ["many", "", "inf", "2"]))
    table.write_csv(tmp_path / "rows.csv")
    told = asked(trained, tmp_path / "out", tmp_path / "rows.csv")
    assert "2 values of I1 are no numbers and count as missing" in told
    dense = [score % 1000 for score in scores(tmp_path / "out" / "rows-scored.csv")]
    np.testing.assert_allclose(dense, np.log([3, 3, 3, 5]), atol=5e-3)  # six figures of some 3,000


def test_small_probabilities_keep_their_figures(tmp_path):
    with (tmp_path / "out.csv").open("wb") as stream:
        predicting._write(stream, {"a": ["x"]}, np.array([1.25e-9]), is_first=True)
    assert scores(tmp_path / "out.csv") == [1.25e-9]


BAD = {
    "nothing": (b"", "nothing in its first line"),
    "names only": (b"a,b\n", "has no rows"),
    "too few fields": (b'a,b\n1,"2\n3"\n\n4\n', r"line 5, has 1 field\."),
    "too many fields": (b"a,b\n1,2,3\n", "line 2, has 3 fields"),
    "an open quote": (b'a,b\n1,"2\n', "cannot be read"),
    "not UTF-8": (b"a,b\n\xff,2\n", "cannot be read"),
    "a name twice": (b"a,b,a\n1,2,3\n", "names the column 'a' twice"),
    "a column missing": (b"a,c\n1,2\n", "has no column b"),
}


@pytest.mark.parametrize(("content", "told"), BAD.values(), ids=BAD)
def test_tables_that_cannot_be_read(tmp_path, content, told):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        list(read_rows(path, 1, ("a", "b")))
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=r"rows\.csv|nowhere"):
        list(read_rows(tmp_path / "nowhere.csv", 1))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(cut, 1))


def test_a_table_ends_at_its_last_row_and_not_at_an_empty_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffa , b\n1,x\n\n\n2,y\n")
    found = list(read_rows(path, 1))
    assert [rows["a"].item() for rows in found] == ["1", "2"]
    assert [rows["b"].item() for rows in found] == ["x", "y"]


def test_two_tables_never_share_an_answer(prepared, trained, tmp_path):
    table = rows_of(prepared, 2)
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "rows.csv", tmp_path / "other" / "rows.csv"):
        table.write_csv(path)
    with pytest.raises(DataError, match=r"would both be answered in rows-scored\.csv"):
        asked(trained, tmp_path / "out", tmp_path / "rows.csv", tmp_path / "other" / "rows.csv")
    table.with_columns(probability=1).write_csv(tmp_path / "scored.csv")
    with pytest.raises(DataError, match="has a column probability"):
        asked(trained, tmp_path / "out", tmp_path / "scored.csv")
    assert not (tmp_path / "out").exists()


def test_a_client_sends_what_the_model_takes_and_tells_the_rest(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("label,b,a\n1,x,2\n0,y,3\n")
    dialogue = RowDialogue().with_inputs({"b", "a"})
    (request,) = dialogue.requests(Question((path,)), 8)
    assert {name: values[:, 0].tolist() for name, values in request.items()} == {"a": ["2", "3"], "b": ["x", "y"]}
    console = Console(record=True, width=200, file=io.StringIO())
    dialogue.show("dlrm", Question((path,)), [{"probability": np.array([[0.5], [0.25]])}], console)
    assert "not sent, since the model does not take it: label" in console.export_text()
    with pytest.raises(DataError, match="has no column c"):
        list(RowDialogue().with_inputs({"a", "c"}).requests(Question((path,)), 8))
