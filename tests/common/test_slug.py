"""Names for folders after names from outside."""

import pytest

from common.slug import slug


@pytest.mark.parametrize("name", ["photos", "My_Photos.v2", "ml-1m", "2026-11-28"])
def test_an_ordinary_name_stays(name):
    assert slug(name) == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("My Photos $(touch X)", "My-Photos-touch-X"),
        ("a`b;c'd\"e", "a-b-c-d-e"),
        ("two\nlines\x1b[2J", "two-lines-2J"),
        ("--run", "run"),
        ("..", "data"),
        ("", "data"),
        ("Käfer", "Kafer"),
        ("写真", "data"),
        ("caf\udce9", "caf"),
        ("x" * 250, "x" * 64),
        ("x" * 63 + " y", "x" * 63),
    ],
)
def test_any_other_name_becomes_a_short_plain_one(name, expected):
    assert slug(name) == expected
