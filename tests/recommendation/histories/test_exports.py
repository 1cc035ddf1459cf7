"""Public exports as they are unpacked: the one file of interactions among others, and rows that only look like rows."""

import numpy as np
import pytest

from challenges.recommendation.files.layout import looks_like_data
from challenges.recommendation.files.readers import read
from challenges.recommendation.files.sources import find
from common.errors import DataError
from tests.recommendation.test_meanings import checked

RATINGS = "user_id,anime_id,rating\n" + "".join(f"{user},{item},5\n" for user in range(4) for item in range(3))


def refused(path):
    with pytest.raises(DataError) as raised:
        read(path)
    return str(raised.value)


@pytest.mark.parametrize(
    "beside",
    [
        b"anime_id,name\n1,Naruto\n",
        b"timestamp,item_id,property\n1,2,3\n",
        b"user_id,friend_id\n1,2\n",
        '"ISBN";"Book-Title"\r\n"1";"Café"\r\n'.encode("latin-1"),
    ],
)
def test_tables_of_users_or_items_alone_stand_beside_the_interactions(tmp_path, beside):
    (tmp_path / "rating.csv").write_text(RATINGS)
    (tmp_path / "a.csv").write_bytes(beside)
    assert find(tmp_path).layout.path.name == "rating.csv"


def test_a_table_that_stands_alone_still_says_what_it_lacks(tmp_path):
    (tmp_path / "a.csv").write_text("timestamp,item_id,property\n1,2,3\n")
    assert "no column names the user" in refused(tmp_path)


def test_folders_in_folders_are_looked_into(tmp_path):
    deep = tmp_path / "archive" / "ml-small" / "ml-small"
    deep.mkdir(parents=True)
    (deep / "ratings.csv").write_text(RATINGS)
    assert find(tmp_path).layout.path == deep / "ratings.csv"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("reviews.json", "read_json"), ("reviews.json.gz", "read_json"), ("r.xlsx", "as CSV"), ("r.zip", "Unpack")],
)
def test_files_of_other_kinds_are_named_with_a_remedy(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"x")
    told = refused(tmp_path)
    assert "Found: 1 x ." in told
    assert remedy in told


def test_an_excel_file_is_no_utf_16(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(b"PK\x03\x04\x14\x00\x06\x00")
    assert "ZIP archive or an Excel file" in refused(path)
    assert "UTF-16" not in refused(path)


@pytest.mark.parametrize("header", ["user,item", "user,item,rating"])
def test_a_line_of_names_among_the_rows_is_no_user(tmp_path, header):
    rest = ",5" if "rating" in header else ""
    rows = "".join(f"u{user},i{item}{rest}\n" for user in range(4) for item in range(3))
    path = tmp_path / "joined.csv"
    path.write_text(f"{header}\n{rows}{header}\n{rows}")
    told = refused(path)
    assert "line 14: it repeats the names of the columns" in told
    assert "joined with their headers" in told


def test_a_user_called_user_is_one(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item\nuser,a\nann,item\nann,a\n")
    assert read(path).user_ids.tolist() == ["ann", "user"]


def test_a_missing_rating_is_called_missing(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item,rating\n1,2,3\n1,3,\n")
    assert "line 3: the rating is missing" in refused(path)


@pytest.mark.parametrize("comment", ["# exported today", "# exported 2024", "% bip weighted"])
def test_a_comment_is_called_one(tmp_path, comment):
    path = tmp_path / "x.csv"
    path.write_text(f"{comment}\nuser,item\n1,2\n")
    assert "it is a comment" in refused(path)


def test_ids_that_may_be_the_same_are_told(tmp_path):
    path = tmp_path / "x.csv"
    rows = [("007", "Heat"), ("7", "heat"), ("08", "Up"), ("9", "Up"), ("9", "Big")]
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows * 3))
    told, _ = checked(path, tmp_path)
    assert "1 user ids differ from another one in zeros before them only, such as '7' and '007'" in told
    assert (
        "1 item ids differ from another one in case, Unicode form or invisible letters only, such as 'Heat' and 'heat'"
        in told
    )
    assert np.unique(read(path).users).size == 4


def test_titles_with_numbers_are_no_names_of_columns():
    assert looks_like_data(["151603712", "Game 8", "purchase", "1.0", "0"])
    assert not looks_like_data(["user id", "item", "1"])


def test_a_matrix_of_ratings_is_no_line_per_user(tmp_path):
    path = tmp_path / "matrix.csv"
    rows = [[str(user), *("" if (user + item) % 3 else str(1 + item % 5) for item in range(9))] for user in range(1, 9)]
    path.write_text("user_id," + ",".join(f"item{item}" for item in range(9)) + "\n")
    with path.open("a") as file:
        file.writelines(",".join(row) + "\n" for row in rows)
    assert "several columns could hold the item" in refused(path)


def test_invisible_letters_in_ids_are_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("user,item\n" + "ann,a\nann\u200b,b\nann,b\nbob,a\nbob,b\n", encoding="utf-8")
    assert "1 user ids differ from another one in case, Unicode form or invisible letters" in checked(path, tmp_path)[0]


def test_carriage_returns_alone_are_named(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"user,item\r1,2\r1,3\r")
    assert "carriage returns alone" in refused(path)


def test_of_two_columns_that_may_be_ratings_the_other_is_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        "user,item,is_click,is_like\n" + "".join(f"{u},{i},1,{i % 2}\n" for u in range(4) for i in range(4))
    )
    assert "read from 'is_like', and not from 'is_click'" in checked(path, tmp_path)[0]
