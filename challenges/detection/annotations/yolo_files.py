"""Which label file belongs to which image of a YOLO folder, also where it spells the image's name otherwise."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from challenges.detection.annotations.class_names import NAME_FILES
from challenges.detection.annotations.names import base, folded, parent, stem, without_upload
from challenges.detection.annotations.text_files import decoded
from common.text import is_number
from common.vision.image_folders import Listing

_LOOKED = 20  # label files
_PEEKED = 4096  # bytes of a text file that tell whether it holds labels
_OTHERS = re.compile(r"readme|licen[cs]e|requirements|notes?$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """labels: label file of every image that has one, by path.

    respelt: label file -> image, for those that are spelt otherwise. left: label files that belong to no image.
    """

    labels: dict[str, str]
    respelt: dict[str, str]
    left: tuple[str, ...]


def find(root: Path, listing: Listing) -> Source | None:
    """The label files of a folder, None where it has none."""
    texts = {file.path for file in listing.annotations if file.path.lower().endswith(".txt")}
    labels = {}
    for file in listing.files:
        name = next((name for name in _label_names(file.path) if name in texts), None)
        if name is not None:
            labels[file.path] = name
    folders = {parent(name) for name in labels.values()}
    spare = [name for name in sorted(texts - set(labels.values())) if _holds_labels(root, name, folders)]
    respelt = _respelt([file.path for file in listing.files if file.path not in labels], spare) if spare else {}
    labels |= {image: name for name, image in respelt.items()}
    left = tuple(name for name in spare if name not in respelt)
    return Source(labels, respelt, left) if labels or left else None


def _label_names(image: str) -> tuple[str, str]:
    """Where an image's labels may lie: in `labels` in place of the last folder called `images`, or beside it."""
    beside = f"{parent(image)}{stem(image)}.txt"
    at = f"/{beside}".rfind("/images/")
    return (beside if at < 0 else f"{beside[:at]}labels/{beside[at + 7 :]}"), beside


def _respelt(images: list[str], spare: list[str]) -> dict[str, str]:
    """Spare label file -> the one image without labels whose name it spells otherwise."""
    found: dict[str, str] = {}
    for spelling in (_whole, _last, _without_upload):
        wanted: dict[str, list[str]] = {}
        for image in images:
            for key in {spelling(name) for name in _label_names(image)}:
                wanted.setdefault(key, []).append(image)
        offered = Counter(map(spelling, spare))
        for name in spare:
            same = wanted.get(spelling(name), [])
            if len(same) == 1 and offered[spelling(name)] == 1 and name not in found:
                found[name] = same[0]
        taken = set(found.values())
        images = [image for image in images if image not in taken]
        spare = [name for name in spare if name not in found]
    return found


def _whole(name: str) -> str:
    return folded(name)


def _last(name: str) -> str:
    return base(folded(name))


def _without_upload(name: str) -> str:
    return without_upload(_last(name))


def holds_rows(root: Path, names: Sequence[str]) -> bool:
    """Whether the first of the text files that hold anything holds rows of numbers, and not words about an image."""
    return any(_holds_labels(root, name, set()) for name in names[:_LOOKED])


def _holds_labels(root: Path, name: str, folders: set[str]) -> bool:
    """Whether a text file that belongs to no image by its name reads as labels, or is an empty one among labels."""
    if base(name).lower() in NAME_FILES or _OTHERS.search(stem(name)):
        return False
    try:
        with (root / name).open("rb") as stream:
            text = decoded(stream.read(_PEEKED).rsplit(b"\n", 1)[0])
    except (OSError, ValueError):
        return False
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if not rows:
        return parent(name) in folders or "labels" in name.lower().split("/")[:-1]
    return len(rows[0]) >= 5 and sum(map(is_number, rows[0][1:])) >= 4 and not _are_histories(rows)


def _are_histories(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows are lines of a user's number and the numbers of items: all whole, each user once, of any length."""
    users = [row[0] for row in rows]
    is_whole = all(field.isdecimal() for row in rows for field in row)
    return is_whole and len(set(users)) == len(users) > 1 and any(len(row) != 5 for row in rows)
