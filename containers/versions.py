"""Which images may be used: what versions.env says, and nothing older than the fixes it names.

python containers/versions.py IMAGE...    exit with 2 where an image is too old; warn of those without a digest
python containers/versions.py --pin       write each image's digest behind its tag, as its registry states it now
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VERSIONS_FILE = Path(__file__).with_name("versions.env")
NGC_IMAGE = re.compile(
    r"^nvcr\.io/nvidia/(?P<name>[\w-]+):(?P<year>\d\d)\.(?P<month>\d\d)(?P<rest>[.\w-]*)(?:@sha256:\w+)?$"
)


DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ASKING = (
    ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}"),
    ("crane", "digest"),
    ("skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}"),
)
"""Commands that answer with the digest of an image's index for all processors; the first that is installed is asked."""


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


def unpinned_warning(image: str) -> str:
    """What to know of an image that is named by its tag alone; empty where its digest is named."""
    if "@sha256:" in image:
        return ""
    return f"{image} is named by its tag, which its registry can move to other content: make pin adds the digest."


def pin(folder: Path = VERSIONS_FILE.parent) -> list[str]:
    """Write the digest behind every image of versions.env, there and in the files that name the same image.

    returns: the images as they are named now.
    Raises ImageRefusedError, and writes nothing, where a digest cannot be had.
    """
    images = [value for name, value in read_versions(folder / "versions.env").items() if name.endswith("_IMAGE")]
    pinned = {image: f"{tagged(image)}@{digest_of(tagged(image))}" for image in images}
    for path in (path for path in sorted(folder.rglob("*")) if path.suffix in (".env", ".Dockerfile", ".yaml")):
        text = before = path.read_text()
        for image, new in pinned.items():
            text = re.sub(rf"{re.escape(image)}(?![\w.@-])", new, text)
        if text != before:
            path.write_text(text)
    return list(pinned.values())


def tagged(image: str) -> str:
    return image.split("@")[0]


def digest_of(image: str) -> str:
    """The digest that the image's registry states for its tag."""
    for command in ASKING:
        if shutil.which(command[0]) is None:
            continue
        name = f"docker://{image}" if command[0] == "skopeo" else image
        answer = subprocess.run([*command, name], capture_output=True, text=True)
        found = DIGEST.fullmatch(answer.stdout.strip())
        if answer.returncode or found is None:
            said = (answer.stderr or answer.stdout).strip().splitlines() or ["nothing"]
            raise ImageRefusedError(
                f"{command[0]} knows no digest of {image}.\nIt said: {said[-1]}\nNothing was changed."
            )
        return found[0]
    raise ImageRefusedError("No tool here asks a registry.\nAny of docker with buildx, crane and skopeo does.")


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["--pin"]:
            print(*pin(), sep="\n")
            sys.exit()
        for argument in sys.argv[1:]:
            refuse_old(argument, read_versions())
            if warning := unpinned_warning(argument):
                print(warning, file=sys.stderr)
    except ImageRefusedError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
