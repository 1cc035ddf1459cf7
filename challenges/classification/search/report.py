"""The page's section on how well pictures of a class find each other."""

from pathlib import Path

from common.files import read_json
from common.language.telling import retell, tell
from common.report.elements import Section, paragraph, table

FOLDER, MEASURED = "similar", "measured.json"
"""Of a run, and in it."""


def similar_section(measured: Path) -> list[Section]:
    """From what `kit index` measured; nothing where it was not asked for."""
    if not measured.is_file():
        return []
    record = read_json(measured)
    figures = record["figures"]
    head = (tell("by"), *next(iter(figures.values())))
    rows = [(retell(name), *(f"{value:.3f}" for value in found.values())) for name, found in figures.items()]
    words = tell(
        "Each of {pictures:,} validation pictures looks for others of its class. recall@k: the share that has one "
        "among the first k, which is likely by chance where classes are few; map: the mean average precision.",
        pictures=record["pictures"],
    )
    return [Section("Similar pictures", table(head, rows, numeric=range(1, len(head))) + paragraph(words))]
