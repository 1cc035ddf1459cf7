"""Names from data reach a terminal as text, never as orders."""

import pytest

from common.text import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\tb\r\nc\x00", r"a\x09b\x0d\x0ac\x00"),
        ("\x7f\x9b2J\x85", r"\x7f\x9b2J\x85"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066a\u2069\u202a\u2028\u2029", r"\u2066a\u2069\u202a\u2028\u2029"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, expected):
    assert printable(text) == expected


@pytest.mark.parametrize("text", ["", "Söckchen & 東京", "שלום", "👩‍🚀", r"C:\new\x1b", "[bold]tag[/bold]", "a\u00a0b"])
def test_other_text_stays(text):
    assert printable(text) == text


def test_every_control_character_is_caught():
    controls = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
    assert printable(printable(controls)).isprintable()
