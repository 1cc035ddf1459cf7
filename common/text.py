"""Text from outside: made fit to be shown, and told from numbers."""

import re

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 with tab and line breaks, DEL, C1: a terminal obeys them
    "\u2028\u2029"  # line and paragraph separators
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates: they turn the order of what follows
    "\ud800-\udfff]"  # halves of a pair, as names of files that are no UTF-8 have: no terminal's encoding takes them
)


def printable(text: str) -> str:
    """The text with what a terminal would obey as backslash escapes, all on one line; other characters stay."""
    return _UNPRINTABLE.sub(lambda found: _escape(ord(found[0])), text)


def is_number(text: str) -> bool:
    """Whether Python reads it as a number, infinite ones and nan among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
