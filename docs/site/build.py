"""Build the student's handbook, docs/en and docs/es, as one site that asks no other machine for anything.

    python -m docs.site.build               into build/handbook; open its index.html
    python -m docs.site.build --output DIR  into another folder

Sphinx builds each language as a project of its own, so that its search, its buttons and its labels are in that
language; a page before both leads to the one that the browser asks for.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.errors import KitError
from common.files import write_json
from common.storage.generated_folder import generate_folder
from docs.site.pages import LANGUAGES

SITE = Path(__file__).resolve().parent
DOCS = SITE.parent
OUTPUT = DOCS.parent / "build" / "handbook"
MARKER = "handbook.json"
MEGABYTES = 6.0  # of both languages, by far most of it the theme's and the search's
LEFT_BEHIND = (".buildinfo", "objects.inv", "_sources")  # what Sphinx writes for itself and for other projects


def build(output: Path = OUTPUT, sources: Path = DOCS) -> Path:
    """Write the site and return its first page.

    sources: the folder with a folder of Markdown for each language.
    Raises KitError where a page has a broken link or anything else that Sphinx warns of, and where Sphinx is missing.
    """
    _require_sphinx()

    def fill(fresh: Path) -> None:
        fresh.mkdir(parents=True)
        shutil.copyfile(SITE / "first.html", fresh / "index.html")
        broken = [one for one in LANGUAGES if not _built(one, sources / one, fresh / one)]
        if broken:
            raise KitError(
                f"The handbook cannot be built: {', '.join(broken)}.",
                "What Sphinx says above names each page and line.",
                "Mend them, then: make docs",
            )
        write_json(fresh / MARKER, {"languages": list(LANGUAGES)})

    generate_folder(output.absolute(), MARKER, "the handbook's pages", MEGABYTES, lambda: False, fill)
    return output / "index.html"


def _built(language: str, source: Path, target: Path) -> bool:
    """Whether Sphinx had nothing to warn of: a link that leads nowhere is a warning."""
    with tempfile.TemporaryDirectory() as doctrees:
        options = ["-c", str(SITE), "-d", doctrees, "-D", f"language={language}", "-b", "html", "-qEnW", "--keep-going"]
        command = [sys.executable, "-m", "sphinx", *options, str(source), str(target)]
        if subprocess.run(command, check=False).returncode != 0:
            return False
    for name in LEFT_BEHIND:
        path = target / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return True


def _require_sphinx() -> None:
    try:
        import furo  # noqa: F401
        import latex2mathml  # noqa: F401
        import myst_parser  # noqa: F401
        import sphinx  # noqa: F401
    except ModuleNotFoundError as error:
        raise KitError(
            f"{error.name} is not installed.",
            "The handbook is built by Sphinx and what belongs to it.",
            "make docs, or pip install '.[docs]'",
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and say where the site is."""
    parser = argparse.ArgumentParser(description="Build the student's handbook in Spanish and English.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="its folder (default: build/handbook)")
    try:
        first = build(parser.parse_args(arguments).output)
    except KitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"HANDBOOK {first}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
