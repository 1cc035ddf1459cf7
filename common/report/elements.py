"""The building blocks of a page: sections, tables, figures, notices. Everything that is not Markup is escaped."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from common.language.telling import tell

ROWS = 30  # rows of a long table before the rest is folded away


@dataclass(frozen=True)
class Section:
    """A titled part of the page.

    title:  in English, of which it is known; `told` is what is read.
    html:   Markup is inserted as it is, a plain string is escaped.
    anchor: the part of the address after #; made from the title where none is given.
    """

    title: str
    html: str
    anchor: str | None = None

    @property
    def told(self) -> str:
        return tell(self.title)

    @property
    def slug(self) -> str:
        return self.anchor or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Key:
    """One entry of a figure's legend: a colour of the page by name."""

    label: str
    colour: str
    dashed: bool = False


def join(parts: Iterable[str], separator: str = "") -> Markup:
    return Markup(separator).join(parts)


def paragraph(text: str) -> Markup:
    return Markup("<p>{}</p>").format(text)


def notice(text: str, kind: Literal["information", "good", "warning", "bad"] = "information") -> Markup:
    """A coloured line that should not be overlooked."""
    return Markup('<p class="notice {}">{}</p>').format(kind, text)


def details(summary: str, content: str) -> Markup:
    """Content that is folded away until its summary is clicked."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, content)


def columns(*parts: str) -> Markup:
    """Figures or tables side by side where the window is wide enough."""
    return Markup('<div class="columns">{}</div>').format(join(Markup("<div>{}</div>").format(part) for part in parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: Collection[int] = ()) -> Markup:
    """A table; the columns in `numeric` (0-based) are aligned to the right."""
    kinds = [Markup(' class="number"') if column in numeric else Markup("") for column in range(len(head))]
    top = join(Markup('<th scope="col"{}>{}</th>').format(kind, name) for kind, name in zip(kinds, head, strict=True))
    body = join(
        Markup("<tr>{}</tr>").format(
            join(Markup("<td{}>{}</td>").format(kind, cell) for kind, cell in zip(kinds, row, strict=True))
        )
        for row in rows
    )
    return Markup('<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        top, body
    )


def folded_table(head: Sequence[str], rows: Iterable[Iterable[object]], numeric: Collection[int] = ()) -> Markup:
    """A table whose rows beyond the first ROWS are shown on demand."""
    cells = [tuple(row) for row in rows]
    first = table(head, cells[:ROWS], numeric)
    if len(cells) <= ROWS:
        return first
    return first + details(tell("{count:,} more", count=len(cells) - ROWS), table(head, cells[ROWS:], numeric))


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Names and values in two columns, without a head."""
    rows = join(Markup('<tr><th scope="row">{}</th><td>{}</td></tr>').format(name, value) for name, value in pairs)
    return Markup('<div class="scroll"><table class="facts"><tbody>{}</tbody></table></div>').format(rows)


def figure(content: str, title: str = "", legend: Sequence[Key] = (), caption: str = "") -> Markup:
    """A chart or picture under its title and legend, above its caption."""
    entry = Markup('<span class="key{}" style="--c:var(--{})">{}</span>')
    keys = join(entry.format(" dashed" if key.dashed else "", key.colour, key.label) for key in legend)
    head = Markup('<div class="figure-head"><b>{}</b>{}</div>').format(title, keys) if title or legend else Markup("")
    foot = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup("<figure>{}{}{}</figure>").format(head, content, foot)


def picture(uri: str, alternative: str) -> Markup:
    """An image embedded in the page."""
    return Markup('<img src="{}" alt="{}" loading="lazy">').format(uri, alternative)


def gallery(cards: Iterable[tuple[str, str]], *, large: bool = False) -> Markup:
    """Small or large pictures in a grid: (image or other content, text below it) each."""
    items = join(
        Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(content, text) for content, text in cards
    )
    return Markup('<div class="gallery{}">{}</div>').format(" large" if large else "", items)


def bar(share: float, interval: tuple[float, float] | None = None, colour: str = "accent") -> Markup:
    """A horizontal bar for a share in 0..1, with a whisker over `interval`."""
    whisker = Markup("")
    if interval:
        low, high = (_percent(end) for end in interval)
        whisker = Markup('<i style="left:{}%;right:{}%"></i>').format(low, round(100 - high, 2))
    return Markup('<span class="bar" style="--c:var(--{})"><b style="width:{}%"></b>{}</span>').format(
        colour, _percent(share), whisker
    )


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A small square table of counts, each cell shaded by the square root of its share of its row."""
    head = join(Markup('<th scope="col"><span>{}</span></th>').format(name) for name in names)
    rows = []
    for row, (name, cells) in enumerate(zip(names, counts, strict=True)):
        total = max(1, sum(cells))
        shaded = join(_matrix_cell(count, count / total, row == column) for column, count in enumerate(cells))
        rows.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, shaded))
    return Markup(
        '<div class="scroll"><table class="matrix"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, join(rows))


def percentage(share: float) -> str:
    """Such as 93.1 %."""
    return f"{100 * share:.1f}\u00a0%"


def percentage_range(interval: tuple[float, float]) -> str:
    """Such as 91.0 to 94.8 %."""
    return tell("{low:.1f} to {high:.1f} %", low=100 * interval[0], high=100 * interval[1])


def _matrix_cell(count: int, share: float, diagonal: bool) -> Markup:
    classes = ("right" if diagonal else "wrong") + (" strong" if share > 0.5 else "") + (" zero" if count == 0 else "")
    return Markup('<td class="{}" style="--share:{}%" title="{}">{}</td>').format(
        classes, _percent(share**0.5), tell("{share:.1%} of the row", share=share), count
    )


def _percent(share: float) -> float:
    return round(100 * min(1.0, max(0.0, share)), 2)


__all__ = [
    "Key",
    "Markup",
    "Section",
    "bar",
    "columns",
    "details",
    "escape",
    "facts",
    "figure",
    "folded_table",
    "gallery",
    "join",
    "matrix",
    "notice",
    "paragraph",
    "percentage",
    "percentage_range",
    "picture",
    "table",
]
