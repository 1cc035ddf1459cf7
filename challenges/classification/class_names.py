"""Names of class folders that mean the same class though they are spelt differently."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable

_COPY = re.compile(r"(?P<name>.+?)(?: - (?:Copy|Kopie|Copie)| copy|[_-]copy)?(?: ?\(\d+\)| \d+)?", re.IGNORECASE)
"""What Windows, macOS and people call a copied folder: bee - Copy, bee - Copy (2), bee copy 2, bee (1), bee_copy."""


def key(name: str) -> str:
    """The same for names that are equal up to Unicode form, case, invisible characters or outer spaces."""
    folded = unicodedata.normalize("NFKC", name).lower()
    return "".join(letter for letter in folded if unicodedata.category(letter) != "Cf").strip()


def difference(name: str, other: str) -> str:
    """In what two names with the same key differ, in words."""
    if name.strip() == other.strip():
        return "outer spaces"
    if name.lower() == other.lower():
        return "case"
    if unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFKC", other):
        return "Unicode form"
    return "spelling"


def side_by_side(name: str, other: str) -> str:
    """Two spellings quoted; both with escapes where they look the same."""
    shown = ascii if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other) else repr
    return f"{shown(name)} and {shown(other)}"


def matched(train: Collection[str], validation: Collection[str]) -> dict[str, str]:
    """Validation's spelling -> training's, for names in validation alone that mean exactly one class in training.

    A class that validation has under training's own spelling too is none: the two may well be different classes.
    """
    by_key = _by_key(train)
    meant: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(validation) - set(train)):
        candidates = by_key.get(key(name), [])
        if len(candidates) == 1 and candidates[0] not in validation:
            meant[candidates[0]].append(name)
    return {names[0]: name for name, names in meant.items() if len(names) == 1}


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of classes of one folder with the same key."""
    return [(same[0], other) for same in _by_key(names).values() for other in same[1:]]


def copies(names: Collection[str]) -> dict[str, str]:
    """Classes called like a copy of another class -> that one: bee - Copy -> bee."""
    by_key = {key(name): name for name in sorted(names)}
    found = {}
    for name in sorted(names):
        match = _COPY.fullmatch(name.strip())
        original = by_key.get(key(match["name"])) if match else None
        if original is not None and original != name and match and match["name"] != name.strip():
            found[name] = original
    return found


def nearest(name: str, names: Collection[str]) -> str | None:
    """The most similar of some names, if any is similar."""
    by_key = _by_key(names)
    close = difflib.get_close_matches(key(name), by_key, n=1, cutoff=0.75)
    return by_key[close[0]][0] if close else None


def _by_key(names: Iterable[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[key(name)].append(name)
    return dict(found)
