"""What of a page in another language was not translated."""

import re
from collections.abc import Collection
from html.parser import HTMLParser

WORDS = [
    "the",
    "of",
    "is",
    "are",
    "was",
    "were",
    "with",
    "and",
    "that",
    "for",
    "from",
    "not",
    "has",
    "have",
    "than",
    "which",
    "this",
    "on",
]
ENGLISH = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
"""Words that an English sentence hardly does without."""


class _Texts(HTMLParser):
    """The texts between tags, and those that are read out; not those of styles and of code."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._silent = 0

    def handle_starttag(self, tag, attributes):
        self._silent += tag in ("style", "code", "script")
        self.found |= {text for name, text in attributes if name in ("alt", "title", "aria-label") and text}

    def handle_endtag(self, tag):
        self._silent -= tag in ("style", "code", "script")

    def handle_data(self, text):
        if not self._silent and text.strip():
            self.found.add(" ".join(text.split()))


def texts_of(html: str) -> set[str]:
    reader = _Texts()
    reader.feed(html)
    return reader.found


def left_in_english(original: str, translated: str, names: Collection[str] = ()) -> list[str]:
    """English texts that both pages have, beside names that are the data's own."""
    parts = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    left = {text: re.sub(parts, "", text) if parts else text for text in texts_of(original) & texts_of(translated)}
    return sorted(text for text, rest in left.items() if ENGLISH.search(rest))
