"""Which images may be used: what versions.env says, and nothing older than the fixes it names.

python containers/versions.py IMAGE...    exit with 2 where an image is too old
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

VERSIONS_FILE = Path(__file__).with_name("versions.env")
NGC_IMAGE = re.compile(
    r"^nvcr\.io/nvidia/(?P<name>[\w-]+):(?P<year>\d\d)\.(?P<month>\d\d)(?P<rest>[.\w-]*)(?:@sha256:\w+)?$"
)


class ImageRefusedError(ValueError):
    """An image that must not be built upon."""


def read_versions(file: Path = VERSIONS_FILE) -> dict[str, str]:
    """The KEY=value lines of versions.env."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def refuse_old(image: str, versions: Mapping[str, str]) -> None:
    """Raises ImageRefusedError for an NGC image older than OLDEST_RELEASE, or one without a release in its tag."""
    found = NGC_IMAGE.match(image)
    if found is None:
        raise ImageRefusedError(
            f"{image} names no monthly NGC release.\n"
            "Allowed: nvcr.io/nvidia/NAME:YY.MM-….\nPin one, as containers/versions.env does."
        )
    oldest = versions["OLDEST_RELEASE"]
    if (int(found["year"]), int(found["month"])) < tuple(map(int, oldest.split("."))):
        raise ImageRefusedError(
            f"{image} is older than {oldest}: anyone can pass its authorisation (CVE-2026-24206, CVE-2026-24207).\n"
            f"Allowed: releases from {oldest} on.\nSet the tag in containers/versions.env."
        )


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            refuse_old(argument, read_versions())
    except ImageRefusedError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
