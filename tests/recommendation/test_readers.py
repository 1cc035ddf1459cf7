"""Every format gives the same table, and every broken file says where it is broken."""

import gzip
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from challenges.recommendation.files import columns
from challenges.recommendation.files.readers import read
from challenges.recommendation.files.times import UNKNOWN_TIME
from common.errors import DataError

ROWS = [(10, 7, 4.0, 100), (10, 3, 5.0, 90), (2, 7, 1.5, 50), (2, 11, 3.0, 60), (2, 3, 2.0, 60)]


def lines(separator, rows=ROWS):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write(path, text):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_rows(table):
    ratings = np.zeros(len(table)) if table.ratings is None else table.ratings
    times = np.zeros(len(table), int) if table.times is None else table.times
    ids = (table.user_ids[table.users], table.item_ids[table.items])
    return [
        (int(user), int(item), float(rating), int(time))
        for user, item, rating, time in zip(*ids, ratings, times, strict=True)
    ]


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("u.data", lines("\t"), "movielens"),
        ("ratings.dat", lines("::"), "movielens"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n" + lines(","), "table"),
        ("log.csv", '"USER_ID";"item";"Score";"ts"\n' + lines(";"), "table"),
        ("log.tsv", "time\titem_id\tuser\tstars\n" + lines("\t", [(t, i, u, r) for u, i, r, t in ROWS]), "table"),
        ("x.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + lines("\t"), "recbole"),
        ("no_newline.csv", ("user,item,rating,time\n" + lines(","))[:-1], "table"),
        ("windows.csv", ("user,item,rating,time\n" + lines(",")).replace("\n", "\r\n"), "table"),
        ("marked.csv", "\ufeffuser,item,rating,time\n" + lines(","), "table"),
    ],
)
def test_text_formats(tmp_path, name, text, kind, gz):
    write(tmp_path / (name + gz), text)
    table = read(tmp_path)
    assert table.source.kind == kind
    assert as_rows(table) == ROWS
    assert table.user_ids.tolist() == ["2", "10"]  # by number, not by letter
    assert table.item_ids.tolist() == ["3", "7", "11"]


def test_parquet(tmp_path):
    user, item, rating, time = (list(column) for column in zip(*ROWS, strict=True))
    pq.write_table(
        pa.table({"user_id": user, "noise": item, "item_id": item, "rating": rating, "timestamp": time}),
        tmp_path / "x.parquet",
        row_group_size=2,
    )
    assert as_rows(read(tmp_path)) == ROWS


@pytest.mark.parametrize(("separator", "gz"), [(" ", ""), ("\t", ".gz")])
def test_lines_of_user_and_item(tmp_path, separator, gz):
    write(tmp_path / f"sequences.txt{gz}", lines(separator, [row[:2] for row in ROWS]))
    write(tmp_path / "movies.dat", "7::Wrong, for these numbers are others::Drama\n")
    write(tmp_path / "README.txt", "two words\nand more\n")
    table = read(tmp_path)
    assert (table.source.kind, table.ratings, table.times) == ("lines", None, None)
    assert [row[:2] for row in as_rows(table)] == [row[:2] for row in ROWS]
    assert not table.titles.any()


@pytest.mark.parametrize("train", ["text", "parquet"])
def test_ncf_files(tmp_path, train):
    if train == "text":
        write(tmp_path / "d.train.rating", "0\t0\t5\t1\n0\t1\t5\t2\n1\t1\t5\t3\n")
    else:
        pq.write_table(pa.table({"user": [0, 0, 1], "item": [0, 1, 1]}), tmp_path / "d.train.parquet")
    write(tmp_path / "d.test.rating.gz", "0\t2\t5\t9\n1\t0\t5\t9\n")
    write(tmp_path / "d.test.negative", "(0,2)\t3\t12\n(1,0)\t2\t0\n")
    table = read(tmp_path)
    official = table.official
    assert table.item_ids.tolist() == ["0", "1", "2", "3", "12"]
    assert table.item_ids[official.items].tolist() == ["2", "0"]
    assert table.item_ids[official.negatives].tolist() == [["3", "12"], ["2", "0"]]


def test_ncf_files_must_agree(tmp_path):
    write(tmp_path / "d.train.rating", "0\t0\t5\t1\n1\t1\t5\t3\n")
    with pytest.raises(DataError, match=r"d\.test\.rating is missing"):
        read(tmp_path)
    write(tmp_path / "d.test.rating", "0\t2\t5\t9\n1\t0\t5\t9\n")
    for text, message in [
        ("(0,2)\t3\n", "has 1 lines"),
        ("(0,2)\t3\n(1,2)\t3\n", "line 2: it is about"),
        ("(0,2)\t3\n(1,0)\t3\t1\n", "line 2: it has 2 items, the lines before it 1"),
        ("(0,2)\t3\n(1,0)\tx\n", "line 2: the item 'x' is no whole number"),
        ("0 2 3\n(1,0)\t3\n", "line 1: it begins with"),
    ]:
        write(tmp_path / "d.test.negative", text)
        with pytest.raises(DataError, match=r"d\.test\.negative") as raised:
            read(tmp_path)
        assert message in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("movies.dat", "3::Amélie (2001)::Comedy\n7::Heat::Crime\n".encode("latin-1")),
        ("movies.csv", 'movieId,title,genres\n7,Heat,Crime\n3,"Amélie (2001)",Comedy\n'),
        ("u.item", "3|Amélie (2001)|x\n7|Heat|x\n".encode("latin-1")),
        ("items.csv", "item,name\n3,Amélie (2001)\n7,Heat\n"),
        ("items.csv", "\ufeffname;year;item_id\nAmélie (2001);2001;3\nHeat;1995;7\n"),
    ],
)
def test_titles(tmp_path, name, text):
    write(tmp_path / "ratings.csv", "user,item\n" + lines(",", [row[:2] for row in ROWS]))
    write(tmp_path / name, text)
    assert read(tmp_path).titles.tolist() == ["Amélie (2001)", "Heat", ""]


def test_ids_of_any_size_and_text(tmp_path):
    ids = ["7", str(10**18), str(10**40), "B00ABC", "Zoë"]
    write(tmp_path / "x.csv", "user,item\n" + "".join(f"{name},{name}\n" for name in ids))
    table = read(tmp_path)
    assert sorted(table.user_ids) == sorted(ids)
    assert table.user_ids[table.users].tolist() == ids


def test_a_folder_as_unzip_leaves_it(tmp_path):
    (tmp_path / "ml-1m").mkdir()
    write(tmp_path / "ml-1m" / "ratings.dat", lines("::"))
    write(tmp_path / "ml-1m" / "users.dat", "1::F::1::10::48067\n")
    assert as_rows(read(tmp_path)) == ROWS
    assert as_rows(read(tmp_path / "ml-1m" / "ratings.dat")) == ROWS


def test_other_tables_beside_the_ratings_are_left_alone(tmp_path):
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n" + lines(","))
    write(tmp_path / "tags.csv", "userId,movieId,tag,timestamp\n1,2,good,3\n")
    write(tmp_path / "links.csv", "movieId,imdbId\n1,2\n")
    assert as_rows(read(tmp_path)) == ROWS


def test_several_files_are_not_chosen_from(tmp_path):
    write(tmp_path / "a.csv", "user,item\n1,2\n")
    write(tmp_path / "b.csv", "user,item\n1,2\n")
    with pytest.raises(DataError, match=r"several interaction files: a\.csv, b\.csv"):
        read(tmp_path)
    (tmp_path / "lists").mkdir()
    write(tmp_path / "lists" / "test.txt", "1 4\n2 5 6\n")
    write(tmp_path / "lists" / "train.txt", "1 2 3 7\n2 3 4\n")
    with pytest.raises(DataError, match=r"files: test\.txt, train\.txt\.\n.*\n.*such as DATA=.*/lists/train\.txt"):
        read(tmp_path / "lists")


HEADER = "user,item,rating,time\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "user,thing,rating\n1,2,3\n", "line 1: no column names the item; there are 'user', 'thing'"),
        ("x.csv", HEADER + "1,2,3,4\n1,3,nan,4\n", "line 3: the rating is missing ('nan')"),
        ("x.csv", HEADER + "1,2,3,4\n\n1,3,,4\n", "line 4: the rating is missing ('')"),
        ("x.csv", HEADER + "1,2,3,4\n1,3,good,4\n", "line 3: the rating 'good' is no number"),
        ("x.csv", HEADER + "1,2,inf,4\n", "line 2: the rating 'inf' is no number"),
        ("x.csv", HEADER + "1,2,3,4\n1,3,3,soon\n", "line 3: the time 'soon' is not of the kind"),
        ("x.csv", HEADER + "1,2,3,4\n-1,3,3,4\n", "line 3: the user -1 is negative"),
        ("x.csv", HEADER + "1,2,3,4\n1,,3,4\n", "line 3: the item is empty"),
        ("x.csv", HEADER + "1,2,3,4\n1,3,3\n", "line 3: it has 3 fields instead of 4"),
        ("x.csv", HEADER, "holds no interactions"),
        ("x.csv", "", "is empty"),
        ("x.csv", HEADER.encode() + b"1,2,3,4\n\xff\xfe,3,3,4\n", "line 3: it is not UTF-8"),
        ("ratings.dat", "1::2::3::4\n1::x::3::4\n", "line 2: the item 'x' is no whole number"),
        ("ratings.dat", "1::2::3::4\n1::2::3\n", "line 2: it has 3 fields instead of 4"),
        ("u.data", "1\t2\t3\t4\n-5\t2\t3\t4\n", "line 2: the user -5 is negative"),
        ("s.txt", "1 2\n1 3\nann 3\n", "line 3: the user 'ann' is no whole number"),
        ("s.txt", "1 2\n1 3 4\n", "line 2: it has 3 fields instead of 2"),
        ("x.parquet", b"PAR1 nonsense", "no readable Parquet file"),
    ],
)
def test_broken_files_say_where(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(DataError) as raised:
        read(path)
    assert str(path) in raised.value.given
    assert message in raised.value.given
    assert raised.value.allowed


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user", [1, None], "a user is missing"),
        ("user", [1.0, 2.5], "the user 2.5 is no whole number"),
        ("item", [1, -3], "the item -3 is negative"),
        ("rating", [1.0, float("nan")], "a rating is missing or not finite"),
        ("item", [[1], [2]], r"x\.parquet"),
    ],
)
def test_broken_parquet(tmp_path, column, values, message):
    table = {"user": [1, 2], "item": [1, 2], "rating": [1.0, 2.0]} | {column: values}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_truncated_gzip(tmp_path):
    whole = gzip.compress((HEADER + lines(",", [(n, n * 7 % 1009, 3, n) for n in range(5000)])).encode())
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be unpacked.*cut off"):
        read(path)


def test_missing_and_dated_times(tmp_path):
    write(tmp_path / "x.csv", HEADER + "1,2,3,50\n1,3,3,\n")
    assert read(tmp_path).times.tolist() == [50, UNKNOWN_TIME]
    write(tmp_path / "x.csv", "user,item,date\n1,2,2020-01-02\n1,3,2020-01-01\n")
    times = read(tmp_path).times
    assert times[0] - times[1] == 86_400 * 10**6
    write(tmp_path / "x.csv", "user,item,ts\n1,2,10.5\n1,3,10.25\n")
    assert np.diff(read(tmp_path).times).tolist() == [-250_000]


def test_blocks_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_BYTES", 200)
    rows = [(n % 37, n * 7 % 101, 3.0, n) for n in range(2000)]
    write(tmp_path / "ratings.dat", lines("::", rows))
    assert as_rows(read(tmp_path)) == rows


def test_line_breaks_in_quotes_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_BYTES", 100)
    rows = [(n % 37, n * 7 % 101, 3.0, n) for n in range(300)]
    text = "".join(
        f'{user},{item},{rating},{time},"good,\r\nand ""long"" {time}\n"\n' for user, item, rating, time in rows
    )
    write(tmp_path / "reviews.csv", "user,item,rating,time,review\n" + text)
    assert as_rows(read(tmp_path)) == rows


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_the_interpreter_ends_in_peace_after_a_refusal(tmp_path, gz):
    """Arrow reads ahead on its own thread: it must not come back to a Python that is ending."""
    path = write(tmp_path / f"x.csv{gz}", HEADER + "1,2,3,soon\n" * 50_000)
    script = (
        "import sys\nfrom pathlib import Path\nfrom challenges.recommendation.files.readers import read\n"
        "from common.errors import DataError\n"
        "try:\n    read(Path(sys.argv[1]))\nexcept DataError:\n    sys.exit(2)\n"
    )
    assert not isinstance(columns._opened(path), pa.PythonFile)
    assert subprocess.run([sys.executable, "-c", script, path], stderr=subprocess.PIPE).returncode == 2
