"""Names for folders after names from outside, which may hold anything."""

import re
import unicodedata

LONGEST = 64  # characters: with model, recipe and digits around it far from the 255 bytes a name may have


def slug(name: str) -> str:
    """The name in ASCII letters, digits, `.`, `_` and `-`, at most LONGEST long; one made of those stays as it is.

    Accents are left off and runs of other characters become `-`: whoever needs another name for each input adds a
    digest.
    """
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters)[:LONGEST].strip("-.") or "data"


def model_slug(name: str) -> str:
    """What a run's folder is called as a served model; empty where nothing is left of the name.

    Without `_`, which separates a served model from its parts, and `.`.
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LONGEST]
