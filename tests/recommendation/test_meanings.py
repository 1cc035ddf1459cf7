"""What a file's columns and values are taken for: read as meant, told where they may mean another thing, or refused."""

import csv
import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from challenges.recommendation.files.readers import read
from challenges.recommendation.files.times import UNKNOWN_TIME
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import DataError

PAIRS = [(user, item) for user in range(4) for item in range(3)]
NOON = 1_600_000_000  # 2020-09-13 12:26:40 UTC
SECOND = 10**6


def written(tmp_path, columns, name="x.csv", separator=","):
    """A file with a user and an item column and the given others: name -> a value for each of twelve rows, or one."""
    names = {"user_id": [str(user) for user, _ in PAIRS], "item_id": [str(item) for _, item in PAIRS]} | columns
    values = [cells if isinstance(cells, list) else [cells] * len(PAIRS) for cells in names.values()]
    lines = [separator.join(names), *(separator.join(map(str, row)) for row in zip(*values, strict=True))]
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def checked(path, tmp_path, **history):
    """What a check prints, and its record."""
    report = check(path, tmp_path / "out", HistoryConfig(**history))
    console = Console(width=300, record=True, file=(tmp_path / "log").open("w"))
    report.print(console)
    console.file.close()
    return console.export_text(), report.record


def refused(path):
    with pytest.raises(DataError) as raised:
        read(path)
    return str(raised.value)


@pytest.mark.parametrize("order", [["user", "user_id"], ["user_id", "user"]])
def test_an_identifier_comes_before_a_name(tmp_path, order):
    cells = {"user": "Ann", "user_id": [str(10 + user) for user, _ in PAIRS]}
    path = written(tmp_path, {name: cells[name] for name in order} | {"movie": "Heat", "movieId": "7", "item_id": "3"})
    table = read(path)
    assert table.user_ids.tolist() == ["10", "11", "12", "13"]
    told, record = checked(written(tmp_path, {"user": "Ann"}), tmp_path)
    assert "user is 'user_id'" in told
    assert "read from 'user_id', and not from 'user'" in told
    assert record["understood"]["columns"].endswith("not read: 'user'")


@pytest.mark.parametrize("names", [("user", "user"), ("user_id", "userId"), ("user1", "user2")])
def test_two_columns_of_one_name(tmp_path, names):
    path = tmp_path / "x.csv"
    path.write_text(",".join(names) + ",item\n1,2,3\n")
    assert f"several columns could hold the user: {names[0]!r}, {names[1]!r}" in refused(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"user_id": 1, "item_id": 2}\n', "JSON"), ("[[1, 2]]\n", "JSON"), ("<!doctype html>\n", "a web page")],
)
def test_what_is_no_table_is_read_as_none(tmp_path, text, told):
    path = tmp_path / "x.csv"
    path.write_text(text * 3)
    assert f"line 1: it looks like {told}" in refused(path)
    assert refused(tmp_path) == refused(path)


def test_a_header_that_is_too_short(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item\n1,2,3\n1,3,4\n")
    assert "has 3 fields instead of 2, one of 2 like it" in refused(path)
    assert "a name for every field" in refused(path)


def test_how_the_data_was_taken_is_told_also_when_nothing_changed(tmp_path):
    path = written(tmp_path, {"rating": "4", "timestamp": str(NOON), "note": "-"})
    first, record = checked(path, tmp_path)
    again, _ = checked(path, tmp_path)
    assert first == again
    assert record["understood"] == {
        "format": "a table with commas between fields",
        "columns": "user is 'user_id', item is 'item_id', rating is 'rating', time is 'timestamp'; not read: 'note'",
        "ratings": "4 to 4; every row counts as liked, whatever its rating",
        "times": "seconds since 1970, from 2020-09-13 to 2020-09-13",
        "splits": "leave-one-out: 4 users to learn from, 4 judged by 4 held-out interactions",
    }
    assert all(f"understood {name}: {sentence}" in first for name, sentence in record["understood"].items())


@pytest.mark.parametrize(
    ("column", "low", "told"),
    [
        ("rating", "0", "The rating 'rating' is 0 in 33% of the rows: they count as liked"),
        ("Book-Rating", "0", "The rating 'Book-Rating' is 0 in 33% of the rows"),
        ("score", "-1", "The rating 'score' is below 0, such as -1, in 33% of the rows"),
        ("label", "0", "The rating 'label' is 0 in 33% of the rows"),
    ],
)
def test_ratings_that_say_no(tmp_path, column, low, told):
    path = written(tmp_path, {column: [low if item == 0 else "1" for _, item in PAIRS]})
    shown, record = checked(path, tmp_path)
    assert told in shown
    assert "--history.minimum-rating 1" in shown
    assert record["facts"]["kept"]["interactions"] == 12
    shown, record = checked(path, tmp_path, minimum_rating=1.0)  # the remedy
    assert "count as liked like all others" not in shown
    assert "rows from 1 on count as liked (66.7%), the others are dropped" in shown
    assert record["facts"]["kept"]["interactions"] == 8


@pytest.mark.parametrize(("column", "kinds"), [("event", ["view", "dislike"]), ("liked", ["True", "False"])])
@pytest.mark.parametrize("parquet", [False, True])
def test_kinds_of_events(tmp_path, column, kinds, parquet):
    cells = [kinds[item == 0] for _, item in PAIRS]
    path = written(tmp_path, {column: cells})
    if parquet:
        users, items = (list(ids) for ids in zip(*PAIRS, strict=True))
        path.unlink()
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"user_id": users, "item_id": items, column: cells}), path)
    shown, record = checked(path, tmp_path)
    assert record["understood"]["events"] == f"{kinds[0]!r} 67%, {kinds[1]!r} 33%; every kind counts as liked"
    assert f"warning: {column!r} holds kinds of events" in shown


def test_a_column_of_many_words_tells_no_kinds_apart(tmp_path):
    rows = "".join(f"{n % 20},{n % 7},word {n}\n" for n in range(200))
    (tmp_path / "x.csv").write_text("user,item,action\n" + rows)
    _, record = checked(tmp_path / "x.csv", tmp_path)
    assert "events" not in record["understood"]


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NULL", "null", "None", "NA", "<NA>"])
@pytest.mark.parametrize("role", ["user", "item"])
def test_a_missing_id_is_refused_however_it_is_written(tmp_path, missing, role):
    path = written(tmp_path, {f"{role}_id": [missing, *"1" * 11]})
    assert f"line 2: the {role} is " + ("empty" if not missing else f"missing ({missing!r})") in refused(path)


def test_ids_that_are_perhaps_the_same(tmp_path):
    told, _ = checked(written(tmp_path, {"item_id": ["7", "7.0", "8.0"] * 4}), tmp_path)
    assert "2 item ids are written with .0, such as '7.0', 1 also without it" in told
    told, _ = checked(written(tmp_path, {"item_id": ["7.0", "9.0", "8.0"] * 4}), tmp_path)
    assert "written with .0" not in told
    told, _ = checked(written(tmp_path, {"item_id": ["1.23457e+15", "9", "8"] * 4}), tmp_path)
    assert "1 item ids are written with exponents, such as '1.23457e+15'" in told


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t"), ("x.inter", "\t"), ("x.dat", ";")])
def test_a_folder_says_of_data_without_names_what_its_file_says(tmp_path, name, separator):
    path = tmp_path / name
    path.write_text("".join(separator.join(["A1X", f"0{n}", f"1{n}", "1600000000"]) + "\n" for n in range(9)))
    told = refused(path)
    assert refused(tmp_path) == told
    assert "line 1: it looks like data" in told
    assert "--columns user=1,item=2" in told


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16le", "utf-16be"])
def test_utf_16(tmp_path, encoding):
    path = tmp_path / "my ratings.csv"
    path.write_bytes("user,item\n1,2\n".encode(encoding))
    assert f"iconv -f {encoding} -t utf-8 'my ratings.csv'" in refused(path)


def test_a_latin_1_file_is_told_how_to_be_converted(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("user,item\nZoë,2\n".encode("latin-1"))
    assert "iconv -f latin1 -t utf-8 x.csv" in refused(path)


@pytest.mark.parametrize(
    ("text", "ratings"),
    [
        ("user;item;rating\n1;2;4,5\n1;3;5,0\n2;3;1\n", [4.5, 5, 1]),
        ("sep=;\nuser;item;rating\n1;2;4\n1;3;5\n2;3;1\n", [4, 5, 1]),
        ('\n"user";"the\nitem id";"item";"rating"\r\n1;-;2;4\n1;-;3;5\n2;-;3;1\n', [4, 5, 1]),
        ("user item rating\n1 2 4\n1 3 5\n2 3 1\n", [4, 5, 1]),
    ],
)
def test_how_spreadsheets_write(tmp_path, text, ratings):
    path = tmp_path / "x.csv"
    path.write_text(text)
    table = read(path)
    assert table.ratings.tolist() == ratings
    assert table.user_ids[table.users].tolist() == ["1", "1", "2"]
    assert table.item_ids[table.items].tolist() == ["2", "3", "3"]


@pytest.mark.parametrize("separator", ["\t", " ", ","])
def test_recbole_with_other_signs(tmp_path, separator):
    path = written(tmp_path, {"timestamp:float": "1600000000.0"}, "x.inter", separator)
    path.write_text(path.read_text().replace("_id", "_id:token"))
    told, record = checked(path, tmp_path)
    assert record["facts"]["read"] == {"users": 4, "items": 3, "interactions": 12}
    assert ("where RecBole itself has tabs" in told) == (separator != "\t")


@pytest.mark.parametrize("missing", ["", "None", "NaT", "<NA>", "NULL", "nan"])
@pytest.mark.parametrize("time", ["1600000000", "1600000000.5", "2020-09-13"])
def test_a_missing_time_is_unknown_however_it_is_written(tmp_path, missing, time):
    times = read(written(tmp_path, {"time": [time, missing, *[time] * 10]})).times
    assert (times == UNKNOWN_TIME).tolist() == [False, True, *[False] * 10]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2020-09-13 12:26:40", NOON),
        ("2020-09-13T12:26:40", NOON),
        ("2020-09-13", NOON - 44_800),
        ("2020-09-13 12:26", NOON - 40),
        ("2020-09-13 12:26:40.5", NOON + 0.5),
        ("2020-09-13 12:26:40.5 +02", NOON - 7199.5),
        ("2020-09-13 12:26:40+00:00", NOON),
        ("2020-09-13T12:26:40Z", NOON),
        ("2020-09-13T12:26:40.123456789Z", NOON + 0.123456),
        ("2020-09-13 12:26:40 UTC", NOON),
        ("2020-09-13T12:26:40-05:00", NOON + 18_000),
        ("2020-09-13 12:26:40 +0200", NOON - 7200),
    ],
)
@pytest.mark.parametrize("parquet", [False, True])
def test_dates(tmp_path, text, seconds, parquet):
    path = written(tmp_path, {"time": [text, "", *[text] * 10]})
    if parquet:
        users, items = (list(ids) for ids in zip(*PAIRS, strict=True))
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"user": users, "item": items, "time": [text, None, *[text] * 10]}), path)
    assert read(path).times[:3].tolist() == [round(seconds * SECOND), UNKNOWN_TIME, round(seconds * SECOND)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("13.09.2020", "it looks like day.month.year"),
        ("09/13/2020 12:26", "it looks like month/day/year or day/month/year"),
        ("09 13, 2020", "is in no form that the kit knows"),
        ("2020-13-09", "is in no form that the kit knows"),
    ],
)
def test_dates_of_unknown_form_name_the_known_ones(tmp_path, text, told):
    message = refused(written(tmp_path, {"time": f'"{text}"'}))
    assert told in message
    assert "one of 12 like it among 12 rows" in message
    assert "2020-09-13 12:26:40" in message
    assert "that line" not in message


def test_a_single_wrong_line_is_to_be_mended(tmp_path):
    message = refused(written(tmp_path, {"time": [str(NOON)] * 11 + ["soon"]}))
    assert "line 13: the time 'soon' is not of the kind" in message
    assert "like it" not in message
    assert message.endswith("Mend or drop that line.")


def test_dates_with_and_without_a_zone(tmp_path):
    message = refused(written(tmp_path, {"time": ["2020-09-13 12:26:40Z"] * 11 + ["2020-09-13 12:26:40"]}))
    assert "names no zone, unlike the first one" in message


def test_units_that_are_mixed(tmp_path):
    told, _ = checked(written(tmp_path, {"time": [str(NOON + n) for n in range(11)] + [f"{NOON}000"]}), tmp_path)
    assert "11 in seconds and 1 in milliseconds: their order is wrong" in told
    told, _ = checked(written(tmp_path, {"time": [str(NOON + n) for n in range(11)] + ["0"]}), tmp_path)
    assert "1 times lie outside the years 1980 to 2099" in told
    told, _ = checked(written(tmp_path, {"time": "1.600001e+09"}), tmp_path)
    assert "they have lost digits" in told
    told, record = checked(written(tmp_path, {"time": [str(n) for n in range(12)]}), tmp_path)
    assert record["understood"]["times"] == "numbers from 0 to 11: the larger, the later"


def test_what_parquet_stores(tmp_path):
    count = 6
    nanoseconds = [NOON * 10**9 + 1, NOON * 10**9 + 1999, -1, *[NOON * 10**9] * 3]
    table = {
        "user_id": pa.array([2**63 + n for n in range(count)], pa.uint64()),
        "item_id": pa.array([str(n) for n in range(count)], pa.large_string()),
        "rating": pa.array([decimal.Decimal("4.5")] * count),
        "time": pa.array(nanoseconds, pa.timestamp("ns")),
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert found.times.tolist() == [NOON * SECOND, NOON * SECOND + 1, -1, *[NOON * SECOND] * 3]
    assert found.user_ids[0] == str(2**63)
    assert found.ratings.tolist() == [4.5] * count
    others = {"user_id": pa.array([decimal.Decimal(n) for n in range(count)]), "item_id": [float(n) for n in range(6)]}
    times = pa.array([datetime.date(2020, 9, 13)] * count)
    pq.write_table(pa.table(table | others | {"time": times}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").user_ids.tolist() == list("012345")


def test_a_refusal_lists_its_lines(tmp_path):
    path = written(tmp_path, {"user_id": ["nan", *"11222", "nan", *"33344"]})
    with pytest.raises(
        DataError, match=r"line 2: the user is missing \('nan'\), one of 2 like it among 12 rows"
    ) as raised:
        check(path, tmp_path / "out", HistoryConfig())
    assert str(tmp_path / "out" / "quarantine.csv") in raised.value.remedy
    with (tmp_path / "out" / "quarantine.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["line"], row["code"]) for row in rows] == [
        ("x.csv", "2", "missing"),
        ("x.csv", "8", "missing"),
    ]
    path.write_text(path.read_text().replace("nan", "6"))
    check(path, tmp_path / "out", HistoryConfig())
    assert not (tmp_path / "out" / "quarantine.csv").exists()


@pytest.mark.parametrize("text", ['"say \\"hi\\", now"', '"say \\"hi\\", there, now"'])
def test_quotes_after_a_backslash(tmp_path, text):
    message = refused(written(tmp_path, {"review": text}))
    assert "perhaps for a quote after a backslash" in message
    assert "doubled quotes" in message


def test_names_reach_no_terminal_raw(tmp_path):
    path = written(tmp_path, {"no\x1b]0;te\u202ext": "x", "item_id": ["\x1b[31mred", "7", "8"] * 4, "event": "\x9b2J"})
    told, record = checked(path, tmp_path)
    assert not any(sign in told for sign in "\x1b\x9b\u202e")
    assert record["counts"]["items"] == 3
    assert np.isin("\x1b[31mred", read(path).item_ids)
