"""A prepared folder: features.json, vocabulary/, Parquet files by split, and prepared.json, which lists them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from challenges.recommendation.clicks.spec import FeatureSpec
from challenges.recommendation.clicks.transform import Transform
from common.errors import DamagedFileError, DataError
from common.files import read_json, sha256

FORMAT = "kit.prepared/1"
FILE = "prepared.json"
_HASHED_BYTES = 1 << 26  # larger files are told by their size, and by their pages' checksums when they are read


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """rows, positives: of each split there is. facts: what preparing found out besides."""

    folder: Path
    spec: FeatureSpec
    name: str
    rows: Mapping[str, int]
    positives: Mapping[str, int]
    files: Mapping[str, Mapping[str, Any]]
    plan: Mapping[str, str]
    facts: Mapping[str, Any]

    @staticmethod
    def open(folder: Path) -> "Prepared":
        """Raises DataError where it is none, or where a file was changed, added to or taken away since."""
        file = folder / FILE
        if not file.is_file():
            raise DataError(
                f"{folder} is no prepared folder: there is no {FILE}.",
                "Click models read what kit prepare wrote, to its end.",
                f"Prepare the data first: kit prepare csv {folder} --out PREPARED",
            )
        value = read_json(file)
        try:
            if value["format"] != FORMAT:
                raise DataError(f"{file} is {value['format']}.", f"This version reads {FORMAT}.", "Prepare it again.")
            kept = {name: value[name] for name in ("name", "rows", "positives", "files", "plan", "facts")}
        except (KeyError, TypeError):
            raise DamagedFileError(file, "parts of it are missing") from None
        for name, facts in kept["files"].items():
            _require_unchanged(folder / name, facts)
        return Prepared(folder=folder, spec=FeatureSpec.read(folder), **kept)

    @property
    def judged(self) -> str:
        """The split that figures are told of: test where there is one, and validation is then held out to choose by."""
        return "test" if "test" in self.rows else "validation"

    def split(self, name: str) -> tuple[Path, ...]:
        """Its files in their order; none where there is no such split."""
        return tuple(self.folder / file for file in sorted(self.files) if file.startswith(f"{name}/"))

    def fingerprint(self) -> str:
        """Of the source, the spec and the options that the rows follow from."""
        return hashlib.sha256(json.dumps(dict(self.plan), sort_keys=True).encode()).hexdigest()

    def transform(self) -> Transform:
        return Transform.read(self.folder)


def _require_unchanged(path: Path, facts: Mapping[str, Any]) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size is not None and size == facts["bytes"] and (size > _HASHED_BYTES or sha256(path) == facts["sha256"]):
        return
    raise DataError(
        f"{path} {'is gone' if size is None else 'was changed'} since it was prepared.",
        "A prepared folder is read as it was written.",
        "Restore the file from a copy, or prepare the data into another folder.",
    )
