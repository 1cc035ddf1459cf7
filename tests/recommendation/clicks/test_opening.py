"""Data of any kind is recognised as the click log that it is, prepared once, or refused with what to do."""

import gzip
import json
import shutil

import polars as pl
import pytest
import torch
from rich.console import Console

from challenges.choosing import choose_model
from challenges.commands.line import readers_of
from challenges.recommendation.clicks.opening import kind_of, open_log
from challenges.recommendation.dlrm.challenge import CHALLENGE
from common.errors import DataError
from tests.recommendation.clicks.builders import COLUMNS, content_of, criteo_lines, prepare_criteo, write_criteo

ADULT = "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 0, 0, 40, Cuba, "
ROWS = "label,word,price\n" + "".join(f"{row % 2},{'ab'[row % 3 > 0]},{row}\n" for row in range(200))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))


def files(root, **contents):
    """Files by name, with _ for a point and __ for a folder's end."""
    for name, content in contents.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return root


def test_kinds_by_their_files(tmp_path):
    lines = "\n".join(criteo_lines(5))
    named = f"{','.join(COLUMNS)}\n" + lines.replace("\t", ",")
    wide = "\t".join(["clicked", *(f"column{number}" for number in range(39))]) + "\n"
    for kind, contents in {
        "adult": {"adult_data": f"{ADULT}<=50K\n", "adult_test_gz": f"{ADULT}>50K.\n"},
        "movielens": {"ratings_dat": "1::1::5::1\n", "users_dat": "1::F::1::1::1\n", "movies_dat": "1::A (1990)::B\n"},
        "criteo": {"train_txt": lines},
        "csv": {"rows_csv": ROWS, "notes_json": "{}"},
    }.items():
        assert kind_of(files(tmp_path / kind, **contents))[0] == kind
    assert kind_of(files(tmp_path / "packed", train_txt_gz=lines))[0] == "criteo"
    assert (
        kind_of(files(tmp_path / "unlabelled", test_txt="\n".join(line[2:] for line in criteo_lines(5))))[0] == "criteo"
    )
    (tmp_path / "days").mkdir()
    (tmp_path / "days" / "day_0").write_text(lines)
    assert kind_of(tmp_path / "days")[0] == "criteo"
    assert kind_of(files(tmp_path / "named", rows_csv=named))[0] == "criteo"
    assert kind_of(files(tmp_path / "wide", rows_tsv=wide + wide.replace("clicked", "1")))[0] == "csv"
    assert kind_of(files(tmp_path / "semicolons", rows_csv=ROWS.replace(",", ";")))[0] == "csv"
    assert kind_of(files(tmp_path / "folders", train__rows_csv=ROWS, valid__rows_csv=ROWS))[0] == "csv"
    assert kind_of(tmp_path / "csv" / "rows.csv")[0] == "csv"
    (tmp_path / "parquet").mkdir()
    pl.DataFrame({"clicked": [0, 1], "word": ["a", "b"]}).write_parquet(tmp_path / "parquet" / "rows.parquet")
    assert kind_of(tmp_path / "parquet")[0] == "parquet"


def test_the_real_movielens_has_its_ratings_as_parquet(tmp_path):
    folder = files(tmp_path / "ml", users_dat="1::F::1::1::1\n", movies_dat="1::A (1990)::B\n", README_grouplens="by")
    pl.DataFrame({"user_id": [1], "movie_id": [1], "rating": [5], "timestamp": [1]}).write_parquet(
        folder / "ml1m_interactions.parquet"
    )
    assert kind_of(folder)[0] == "movielens"


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ({}, "holds no click log"),
        ({"notes_json": "{}"}, "holds no click log"),
        ({"rows_csv": "user,item\n1,2\n"}, "rows.csv has no column that says what was clicked"),
        ({"rows_csv": "click,conversion,word\n1,0,a\n"}, "has the columns click and conversion, each of which"),
        ({"rows_csv": ""}, "is empty"),
        ({"rows_parquet": "PAR1"}, "is no readable Parquet file"),
    ],
)
def test_what_is_no_click_log_is_told(tmp_path, contents, told):
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(DataError, match=told):
        kind_of(files(root, **contents))


def test_a_table_without_a_label_is_prepared_by_hand(tmp_path):
    pl.DataFrame({"user": [1], "word": ["a"]}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"kit prepare parquet .*rows\.parquet --label NAME --out PREPARED"):
        kind_of(tmp_path)


def test_data_is_prepared_once_and_anew_when_it_changes(tmp_path, capsys):
    source = files(tmp_path / "data", rows_csv=ROWS) / "rows.csv"
    first = open_log(source, Console())
    assert "understood format: csv, since rows.csv is a table with a column label" in capsys.readouterr().out
    assert first.understood["word"].startswith("categorical")
    assert first.understood["splits"] == "rows are dealt out 8:1:1"
    before = content_of(first.prepared.folder)
    assert open_log(source, Console()).prepared.folder == first.prepared.folder
    assert content_of(first.prepared.folder) == before
    source.write_text(ROWS + "1,a,3\n")
    second = open_log(source, Console()).prepared
    assert second.folder != first.prepared.folder
    assert sum(second.rows.values()) == sum(first.prepared.rows.values()) + 1


def test_the_check_keeps_how_the_data_was_understood(tmp_path):
    source = files(tmp_path / "data", rows_csv=ROWS)
    recipe = CHALLENGE.recipes["own"]
    found = CHALLENGE.check(source, recipe, tmp_path / "check", Console(quiet=True))
    record = json.loads((tmp_path / "check" / "check.json").read_text())
    assert record["root"] == str(source)
    assert record["understood"]["format"].startswith("csv, since")
    assert record["judged"] == "test"
    again = CHALLENGE.check(tmp_path.joinpath(record["prepared"]), recipe, tmp_path / "again", Console(quiet=True))
    assert again.fingerprint == found.fingerprint
    data = CHALLENGE.open_data(recipe, tmp_path / "check", torch.device("cpu"))
    assert (data.judged, data.num_train) == ("test", record["rows"]["train"])


def test_a_prepared_folder_is_read_as_it_was_written(tmp_path):
    prepared = prepare_criteo(write_criteo(tmp_path / "source"), tmp_path / "out")
    assert open_log(prepared.folder, Console()).prepared.fingerprint() == prepared.fingerprint()
    path = prepared.split("train")[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="was changed since it was prepared"):
        open_log(prepared.folder, Console())
    shutil.rmtree(prepared.folder / "train")
    with pytest.raises(DataError, match="is gone since it was prepared"):
        open_log(prepared.folder, Console())


MODELS = ("ncf", "vae_cf", "bert4rec", "dlrm", "wide_and_deep")


def test_models_that_cannot_read_the_data_are_left_out(tmp_path, capsys):
    ratings = files(tmp_path / "ratings", ratings_csv="userId,movieId,rating,timestamp\n1,2,4,5\n2,3,5,6\n")
    clicks = files(tmp_path / "clicks", rows_csv=ROWS)
    assert readers_of(MODELS, ratings, None) == ["ncf", "vae_cf", "bert4rec"]
    assert "dlrm is left out: " in capsys.readouterr().out
    assert readers_of(MODELS, clicks, None) == ["dlrm", "wide_and_deep"]
    assert "ncf is left out: " in capsys.readouterr().out
    assert readers_of(MODELS, ratings, "user=1,item=2") == ["ncf", "vae_cf", "bert4rec"]
    assert "dlrm is left out: --columns says" in capsys.readouterr().out
    assert readers_of(MODELS, files(tmp_path / "nothing", a_json="{}"), None) == MODELS
    assert choose_model(clicks).model == choose_model(clicks / "rows.csv").model == "dlrm"
    assert choose_model(ratings).model == "ncf"


def test_columns_of_histories_are_refused_for_a_click_log(tmp_path, capsys):
    from challenges.__main__ import main

    source = files(tmp_path / "clicks", rows_csv=ROWS)
    assert main(["train", "dlrm/own", "--data", str(source), "--columns", "user=a,item=b"]) == 2
    assert "--columns was given to DLRM" in capsys.readouterr().err
