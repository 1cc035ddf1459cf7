"""Recommendations as a table, from a run or from a server."""

from collections.abc import Sequence

from rich.table import Table

from common.terminal.console import plain


def recommendation_table(heading: str, answer: Sequence[tuple[str, str, float]]) -> Table:
    """What is recommended, best first, as identifier, title and score."""
    table = Table("", "item", "title", "score", title=plain(heading))
    for place, (identifier, title, score) in enumerate(answer, start=1):
        table.add_row(str(place), plain(identifier), plain(title), f"{score:.3f}")
    return table
