"""Columns that are named unusually, by nobody, or by the user; and files with a line per user."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from challenges.__main__ import main
from challenges.recommendation.files.names import role_of
from challenges.recommendation.files.readers import read
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.recipes import HistoryConfig
from common.errors import DataError, RecipeError
from tests.recommendation.test_readers import ROWS, as_rows, lines, write

NOON = 1_600_000_000
PURCHASES = [
    (user, item, 1 + (user * item) % 5, NOON + 60 * n) for user in range(12) for n, item in enumerate(range(30, 80, 7))
]


def understood(path, tmp_path, columns=""):
    """How the columns were taken, and the warnings."""
    record = check(path, tmp_path / "out", HistoryConfig(columns=columns)).record
    return record["understood"]["columns"], "\n".join(record["warnings"])


def pairs_of(table):
    return list(zip(table.user_ids[table.users].tolist(), table.item_ids[table.items].tolist(), strict=True))


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (
            ("artistID", "sku", "placeID", "Stock Code", "StockCode", "ITEM_NO", "id_product", "ProductKey", "gmap_id"),
            "item",
        ),
        (
            ("customer", "Customer Number", "CUSTOMER_NO", "idUser", "buyer", "household_key", "user_hash", "msno"),
            "user",
        ),
        (("InvoiceDate", "t_dat", "order_date", "reviewTime", "unixReviewTime"), "time"),
        (("review_score", "stars", "star_rating"), "rating"),
        (("postcode", "id", "price", "country", "quantity", "zip_code"), None),
    ],
)
def test_names_of_public_data(names, role):
    assert {name: role_of(name) for name in names} == dict.fromkeys(names, role)


def test_an_unknown_name_is_answered_with_all_that_are_known(tmp_path):
    path = write(tmp_path / "x.csv", "customer,thing\n1,2\n")
    with pytest.raises(DataError, match=r"artistid.*sku.*(.|\n)*--columns item=\.\.\.,user=\.\.\.") as raised:
        read(path)
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize("columns", ["user=who,item=what,rating=how,time=when", "user=1,item=3,rating=2,time=4"])
@pytest.mark.parametrize("kind", ["x.csv", "x.csv.gz", "x.tsv", "x.inter", "x.parquet"])
def test_the_user_names_the_columns(tmp_path, columns, kind):
    table = {"who": [u for u, _, _, _ in ROWS], "how": [r for _, _, r, _ in ROWS], "what": [i for _, i, _, _ in ROWS]}
    table["when"] = [time for _, _, _, time in ROWS]
    if kind.endswith(".parquet"):
        pq.write_table(pa.table(table), tmp_path / kind)
    else:
        separator = "," if "csv" in kind else "\t"
        write(tmp_path / kind, separator.join(table) + "\n" + lines(separator, list(zip(*table.values(), strict=True))))
    found = read(tmp_path / kind, HistoryConfig(columns=columns).named_columns)
    assert as_rows(found) == ROWS
    assert as_rows(read(tmp_path, HistoryConfig(columns=columns).named_columns)) == ROWS


def test_a_choice_comes_before_names_and_the_rest_is_found_by_name(tmp_path):
    path = write(tmp_path / "x.csv", 'user_id,"pair, of both",movie,rating\n1,9,2,3\n1,8,3,4\n2,9,2,5\n')
    table = read(path, HistoryConfig(columns="user=pair, of both").named_columns)
    assert pairs_of(table) == [("9", "2"), ("8", "3"), ("9", "2")]
    assert table.ratings.tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("user=who,item=nothing", "'nothing' for the item, and no column of that name"),
        ("user=who,item=5", "'5' for the item, and no column"),
        ("user=who,item=1", "gives one column to several"),
        ("user=who,item=2-", "items from place 2 on"),
    ],
)
def test_columns_that_are_not_there(tmp_path, columns, told):
    path = write(tmp_path / "x.csv", "who,what\n1,2\n1,3\n2,2\n")
    with pytest.raises(DataError, match=told):
        read(path, HistoryConfig(columns=columns).named_columns)


@pytest.mark.parametrize("columns", ["user", "who=user", "user=a,user=b", "user=a,thing=b", "user=,item=b"])
def test_columns_are_roles_and_names(columns):
    with pytest.raises(RecipeError, match="role=column"):
        HistoryConfig(columns=columns)


def test_the_command_line_takes_columns(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write(tmp_path / "x.csv", "a,b\n" + lines(",", [(user, item) for user, item, _, _ in PURCHASES]))
    assert main(["check", str(path)]) == 2
    assert "--columns user=" in capsys.readouterr().err
    assert main(["check", str(path), "--columns", "user=a,item=b"]) == 0
    assert "user is 'a', item is 'b'" in capsys.readouterr().out
    assert main(["check", str(tmp_path), "--model", "resnet50", "--columns", "user=a"]) == 2


@pytest.mark.parametrize(
    ("order", "columns"),
    [
        ("uirt", {"user": 1, "item": 2, "rating": 3, "time": 4}),
        ("uitr", {"user": 1, "item": 2, "rating": 4, "time": 3}),
        ("uir", {"user": 1, "item": 2, "rating": 3}),
        ("uit", {"user": 1, "item": 2, "time": 3}),
        ("urit", {"user": 1, "rating": 2, "item": 3, "time": 4}),
        ("tui", {"user": 2, "item": 3, "time": 1}),
        ("nuir", {"user": 2, "item": 3, "rating": 4}),
    ],
)
@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t"), ("x.dat", "|"), ("x.txt", " ")])
def test_files_without_names_by_places_and_values(tmp_path, order, columns, name, separator):
    letters = {"u": [100 + row[0] for row in PURCHASES], "i": [row[1] for row in PURCHASES]}
    letters |= {"r": [row[2] for row in PURCHASES], "t": [row[3] for row in PURCHASES], "n": range(len(PURCHASES))}
    path = write(tmp_path / name, lines(separator, list(zip(*(letters[letter] for letter in order), strict=True))))
    table = read(path)
    assert {
        role: 1 + table.source.layout.names.index(place) for role, place in table.source.layout.roles.items()
    } == columns
    assert len(table) == len(PURCHASES)
    told, warnings = understood(path, tmp_path)
    assert f"user is 'column {columns['user']}', item is 'column {columns['item']}'" in told
    assert f"--columns user={columns['user']},item={columns['item']}" in warnings


def test_amazons_files_name_the_product_first(tmp_path):
    rows = [(f"B00000{n % 7:04}", f"A{n % 5:012}X", 5.0, NOON + n) for n in range(40)]
    told, _ = understood(write(tmp_path / "Books.csv", lines(",", rows)), tmp_path)
    assert "user is 'column 2', item is 'column 1'" in told
    assert "Amazon's" in told


@pytest.mark.parametrize(
    "rows",
    [
        [(user, item, 1000 * user, 7 * item) for user, item, _, _ in PURCHASES],  # four identifiers
        [(user, item, rating, rating) for user, item, rating, _ in PURCHASES],
        [(user, item, time, time) for user, item, _, time in PURCHASES],
        [(1.5 * user, item, rating) for user, item, rating, _ in PURCHASES],
    ],
)
def test_files_without_names_that_could_be_read_in_several_ways_are_refused(tmp_path, rows):
    path = write(tmp_path / "x.csv", lines(",", rows))
    with pytest.raises(DataError, match=r"looks like data(.|\n)*--columns user=1,item=2") as raised:
        read(path)
    assert len(str(raised.value).splitlines()) == 3
    assert pairs_of(read(path, {"user": "2", "item": "1"}))[1] == (str(rows[1][1]), str(rows[1][0]))


@pytest.mark.parametrize("text", ["ann,heat\nbob,heat\nann,alien\n", "customer,thing\nann,heat\nbob,heat\nann,alien\n"])
def test_words_without_names_are_read_by_places(tmp_path, text):
    table = read(write(tmp_path / "x.csv", text), {"user": "1", "item": "2"})
    assert pairs_of(table) == [("ann", "heat"), ("bob", "heat"), ("ann", "alien")]


LINES = ["7 3 5 9", "8 5", "10 9 3 11 4", "11 4 3 1"]


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ": "])
@pytest.mark.parametrize("name", ["train.txt", "x.csv", "x.dat.gz"])
def test_a_line_per_user(tmp_path, separator, name):
    text = "\n".join(line.replace(" ", separator, 1 if separator == ": " else -1) for line in LINES) + "\n"
    path = write(tmp_path / name, text)
    table = read(tmp_path)
    expected = [(line.split()[0], item) for line in LINES for item in line.split()[1:]]
    assert table.source.kind == "user-lines"
    assert pairs_of(table) == expected
    told, _ = understood(path, tmp_path)
    assert "the first is the user" in told


def test_a_line_per_user_with_as_many_items_each_is_said_so(tmp_path):
    path = write(tmp_path / "x.txt", "1 20 30 40\n2 30 40 50\n3 20 40 60\n")
    with pytest.raises(DataError, match="--columns"):
        read(path)
    assert len(read(path, HistoryConfig(columns="user=1,item=2-").named_columns)) == 9


def test_a_wrong_id_in_a_line_of_a_user_is_told_with_its_line(tmp_path):
    path = write(tmp_path / "x.txt", "user items\n1 20 30 40\n2 30 -40\n3 20 40 60\n")
    with pytest.raises(DataError, match="line 3: the item -40 is negative"):
        read(path, {"user": "1", "item": "2-"})


def test_an_order_that_means_nothing_is_told(tmp_path):
    rows = [(user, item) for user in range(30) for item in sorted({(user * 7 + 3 * n) % 50 for n in range(6)})]
    path = write(tmp_path / "x.csv", "user,item\n" + lines(",", rows))
    _, warnings = understood(path, tmp_path)
    assert "the items of 30 of 30 users ascend by id: the order means nothing" in warnings
    write(path, "user,item\n" + lines(",", sorted(rows, key=lambda row: (row[0], row[1] * 17 % 50))))
    assert "means nothing" not in understood(path, tmp_path)[1]
    write(path, "user,item,time\n" + lines(",", [(user, item, NOON + item) for user, item in rows]))
    assert "means nothing" not in understood(path, tmp_path)[1]


def test_pairs_stay_pairs(tmp_path):
    path = write(tmp_path / "x.txt.gz", "".join(f"{user} {item}\n" for user, item, _, _ in PURCHASES))
    assert read(path).source.kind == "lines"
