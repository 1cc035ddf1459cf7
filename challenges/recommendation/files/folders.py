"""Folders in folders, as archives leave them, and what is said of one that holds no interactions."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from challenges.recommendation.files.layout import FORMATS
from common.errors import DataError
from common.text import printable

LEVELS, MOST_FOLDERS = 4, 1000  # of folders in folders that are looked into, and how many on each
FROM_JSON = "Convert it, such as with pandas.read_json(file, lines=True).to_csv('ratings.csv', index=False)."
_FROM_SHEET, _PACKED = "Save the sheet as CSV.", "Unpack the archive first."
_REMEDIES = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), FROM_JSON),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _FROM_SHEET),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), _PACKED),
}
"""What to do about files that may hold interactions and are not read."""


def levels(root: Path) -> Iterator[list[Path]]:
    """The folder, then the folders in it, then those in these; hidden ones are left out. Raises OSError."""
    level = [root]
    for _ in range(LEVELS):
        yield level
        inside = (path for folder in level for path in folder.iterdir() if path.name[0] != "." and path.is_dir())
        level = sorted(islice(inside, MOST_FOLDERS))


def without_tables(root: Path) -> DataError:
    """The error of a folder without interactions: which files are there instead, and what to do about these."""
    files = [path for level in levels(root) for folder in level for path in folder.iterdir() if path.is_file()]
    kinds = Counter(Path(plain_name(path)).suffix.lower() or "without extension" for path in files)
    told = ", ".join(f"{count:,} x {printable(kind)}" for kind, count in kinds.most_common(5))
    remedy = next((_REMEDIES[kind] for kind, _ in kinds.most_common() if kind in _REMEDIES), None)
    return DataError(
        f"No interactions were found in {root}. Found: {told or 'nothing'}.",
        FORMATS,
        remedy or "Name the folder or the file itself.",
    )


def plain_name(path: Path) -> str:
    """The name that says what a file is, without the ending of what it is packed with."""
    return path.name.removesuffix(".gz")
