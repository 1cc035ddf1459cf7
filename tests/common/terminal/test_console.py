"""What is printed, by whatever way, gives the terminal no orders."""

import io

from rich.markup import escape
from rich.table import Table

from common.terminal.console import SafeConsole, plain

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]:cat:\u202egpj\r"
SHOWN = r"\x1b]0;owned\x07\x1b[2J[red]:cat:\u202egpj\x0d"


def printed(*things: object, **options) -> str:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    console.print(*things, **options)
    return console.file.getvalue()


def test_a_plain_cell_shows_every_character_of_a_name():
    table = Table("name", title=plain(HOSTILE))
    table.add_row(plain(HOSTILE))
    text = printed(table)
    assert text.count(SHOWN) == 2
    assert "\x1b" not in text


def test_a_cell_that_nobody_thought_of_is_safe_too():
    table = Table("name")
    table.add_row(escape("a\x1b[2Jb\x9bc"))
    for text in (printed(table), printed("a\x1b[2Jb\x9bc", markup=False, soft_wrap=True)):
        assert r"a\x1b" in text
        assert "\x1b" not in text


def test_the_consoles_own_colours_and_line_breaks_stay():
    console = SafeConsole(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print("[red]a[/]\nb", highlight=False)
    assert console.file.getvalue() == "\x1b[31ma\x1b[0m\nb\n"
