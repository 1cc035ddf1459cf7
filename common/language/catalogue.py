"""`python -m common.language.catalogue`: bring the translations up to date with the messages of the sources.

Babel finds the messages and compiles what is translated; it is needed by who changes them, and by the tests.
"""

import datetime
import io
from pathlib import Path
from typing import TYPE_CHECKING

from common.files import atomic_writer
from common.language.telling import FOLDER, LANGUAGES

if TYPE_CHECKING:
    from babel.messages import Catalog

ROOT = FOLDER.parents[1]
SPOKEN = ("challenges", "common")
"""The packages whose messages are translated."""
KEYWORDS = {"tell": None, "tell_count": (1, 2), "english": None, "Section": None}
"""The functions that are handed messages; of a section the title is one."""
WIDTH = 120
WRITTEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def extracted() -> "Catalog":
    """Every message of the sources, with the files that it stands in."""
    from babel.messages import Catalog
    from babel.messages.extract import extract_from_dir

    found = Catalog(creation_date=WRITTEN)
    for package in SPOKEN:
        methods = [("**.py", "python"), ("**.html", "jinja2")]
        entries = extract_from_dir(ROOT / package, methods, keywords=KEYWORDS)
        for name, _, message, _, _ in entries:
            if message:
                found.add(message, locations=[(f"{package}/{name}", 0)])
    return found


def read(language: str) -> "Catalog":
    """The committed translations."""
    from babel.messages import pofile

    with po_file(language).open("rb") as stream:
        catalogue = pofile.read_po(stream, language)
    catalogue.project, catalogue.version = "challenge-kit", ""
    catalogue.creation_date = catalogue.revision_date = WRITTEN  # the same messages are the same bytes
    catalogue.msgid_bugs_address = catalogue.last_translator = catalogue.language_team = ""
    return catalogue


def compiled(catalogue: "Catalog") -> bytes:
    """As gettext reads them."""
    from babel.messages import mofile

    stream = io.BytesIO()
    mofile.write_mo(stream, catalogue)
    return stream.getvalue()


def po_file(language: str) -> Path:
    return FOLDER / f"{language}.po"


def mo_file(language: str) -> Path:
    return FOLDER / f"{language}.mo"


def update(language: str) -> int:
    """Write a language's two files anew; returns how many messages lack their translation."""
    from babel.messages import pofile

    catalogue = read(language)
    catalogue.update(extracted(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    with atomic_writer(po_file(language)) as stream:
        pofile.write_po(
            stream, catalogue, width=WIDTH, omit_header=False, sort_output=True, include_lineno=False,
            ignore_obsolete=True,
        )  # fmt: skip
    with atomic_writer(mo_file(language)) as stream:
        stream.write(compiled(catalogue))
    return sum(1 for message in catalogue if message.id and not message.string)


if __name__ == "__main__":
    for name in LANGUAGES:
        if name != "en":
            print(f"{name}: {update(name)} messages to translate")
