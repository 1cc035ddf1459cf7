"""What belongs to both languages of the handbook: which page is which one's translation, and pages made of data."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from challenges.exercises import EXERCISES
from docs.site.exercises import listed

LANGUAGES = {"en": "English", "es": "Español"}
"""Folder -> what a reader calls the language."""
INDEX = "index"
MARK = "<!-- exercises -->"
"""Where the exercises stand in their page."""
_TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)


def chapters(folder: Path) -> list[str]:
    """The pages of a language in their order, as its first page lists them; that one comes first itself."""
    text = (folder / f"{INDEX}.md").read_text(encoding="utf-8")
    lines = [line.strip() for block in _TOCTREE.findall(text) for line in block.splitlines()]
    return [INDEX, *(line.removesuffix(".md") for line in lines if line and not line.startswith(":"))]


def translations(docs: Path, language: str) -> dict[str, dict[str, str]]:
    """Page of `language` -> other language -> its page there: the one at the same place."""
    own = chapters(docs / language)
    others = {other: chapters(docs / other) for other in LANGUAGES if other != language}
    return {
        page: {other: pages[place] for other, pages in others.items() if place < len(pages)}
        for place, page in enumerate(own)
    }


def _context(app: Sphinx, pagename: str, _template: str, context: dict[str, Any], _doctree: object) -> None:
    """Let a page lead to the same page in the other language."""
    language = app.config.language
    known = translations(Path(app.srcdir).parent, language).get(pagename, {})
    pages = {other: known.get(other, INDEX) for other in LANGUAGES if other != language}
    depth = "../" * (pagename.count("/") + 1)
    context["translations"] = [
        {"language": other, "name": LANGUAGES[other], "address": f"{depth}{other}/{page}.html"}
        for other, page in pages.items()
    ]


def _fill(app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the exercises where a page asks for them."""
    if MARK in source[0]:
        source[0] = source[0].replace(MARK, listed(EXERCISES, app.config.language))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    app.connect("html-page-context", _context)
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
