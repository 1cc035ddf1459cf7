"""Reading YOLO's annotations: a text file per image, a line per box: class, centre and size as shares of the image."""

import itertools
import re
from collections import Counter
from pathlib import Path

from challenges.detection.annotations.coco import split_named
from challenges.detection.annotations.table import (
    AnnotatedImage,
    Annotations,
    BoxColumns,
    Finding,
    number_in,
    parent,
    plain,
    stem,
)
from common.errors import DataError
from common.image_folders import Listing, displayed

MAX_BYTES = 16 << 20
LAYOUT = "YOLO: images/ and labels/ with the same names inside, and data.yaml or classes.txt with the classes."
_NAME_FILES = ("classes.txt", "obj.names", "classes.names")


def find(root: Path, listing: Listing) -> dict[str, str] | None:
    """Label file of every image that has one, by path; None where no image has."""
    texts = {file.path for file in listing.annotations if file.path.lower().endswith(".txt")}
    labels = {}
    for file in listing.files:
        name = next((name for name in _label_names(file.path) if name in texts), None)
        if name is not None:
            labels[file.path] = name
    return labels or None


def _label_names(image: str) -> tuple[str, str]:
    """Where an image's labels may lie: in `labels` in place of the last folder called `images`, or beside it."""
    beside = f"{parent(image)}{stem(image)}.txt"
    at = f"/{beside}".rfind("/images/")
    return (beside if at < 0 else f"{beside[:at]}labels/{beside[at + 7 :]}"), beside


def read(root: Path, listing: Listing, labels: dict[str, str]) -> Annotations:
    """Read the label files that `find` found; images without one show no object.

    Raises DataError when data.yaml cannot be read.
    """
    names, names_file = _class_names(root, listing)
    findings: list[Finding] = []
    notes: list[str] = []
    used = _splits([file.path for file in listing.files], labels, notes)
    images: list[AnnotatedImage] = []
    boxes = BoxColumns()
    for path, split in used.items():
        if path in labels:
            try:
                lines = _lines(root / labels[path])
            except (OSError, ValueError) as error:
                told = f"{displayed(labels[path])}: {plain(error)}"
                findings.append(Finding(displayed(path), "annotation-unreadable", told))
                continue
            for number, line in lines:
                _take(line, number, len(images), path, names, boxes, findings)
        images.append(AnnotatedImage(path, split))
    bare = sum(path not in labels for path in used)
    if bare:
        notes.append(f"{bare} images have no label file: taken as images without objects.")
    if names is None:
        numbers = sorted(set(boxes.labels))
        names = {number: str(number) for number in numbers}
        notes.append("No data.yaml or classes.txt names the classes: they are called by their numbers.")
    ids = tuple(sorted(names))
    positions = {number: label for label, number in enumerate(ids, start=1)}
    boxes.labels = [positions[number] for number in boxes.labels]
    return Annotations(
        kind="yolo",
        classes=tuple(names[number] for number in ids),
        category_ids=ids,
        images=tuple(images),
        **boxes.arrays(),
        noun="line",
        findings=tuple(findings),
        notes=tuple(notes),
        sources=tuple(filter(None, (names_file, *sorted({parent(name) for name in labels.values()})[:8]))),
        relative=True,
    )


def _splits(paths: list[str], labels: dict[str, str], notes: list[str]) -> dict[str, str]:
    """The split of every image by its folders' names, "" for all where they tell no train and validation."""
    told = {path: next(filter(None, map(split_named, path.split("/")[:-1])), "") for path in paths}
    annotated = {told[path] for path in labels}
    validation = "val" if "val" in annotated else "test"
    if not {"train", validation} <= annotated:
        return dict.fromkeys(paths, "")
    kept = {"train": "train", validation: "val"}
    left = sum(split not in kept for split in told.values())
    if left:
        notes.append(f"{left} images are in no folder of a used split: left aside.")
    return {path: kept[split] for path, split in told.items() if split in kept}


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("its encoding is not UTF-8") from None
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _take(
    line: str,
    number: int,
    owner: int,
    path: str,
    names: dict[int, str] | None,
    boxes: BoxColumns,
    findings: list[Finding],
) -> None:
    """Add a line's box: class, centre and size, or class and a polygon, of which the extent counts."""
    written = line.split()
    if len(written) != 5 and not (len(written) >= 7 and len(written) % 2):
        told = f"line {number}: {len(written)} values instead of class, centre x, centre y, width, height"
        findings.append(Finding(displayed(path), "malformed-box", told))
        return
    try:
        category, values = int(written[0]), [number_in(text) for text in written[1:]]
    except ValueError:
        findings.append(Finding(displayed(path), "not-a-number", f"line {number}: {plain(line)}"))
        return
    if category < 0 or (names is not None and category not in names):
        findings.append(Finding(displayed(path), "unknown-category", f"line {number}: class {plain(category)}"))
        return
    if len(values) == 4:
        x, y, width, height = values
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        corners = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
    boxes.add(owner, corners, category, number)


def _class_names(root: Path, listing: Listing) -> tuple[dict[int, str] | None, str]:
    """Class number -> name, and the file that says so: the topmost data.yaml, else classes.txt."""
    listed = sorted((file.path for file in listing.annotations), key=lambda path: (path.count("/"), path))
    for path in listed:
        if path.lower().endswith((".yaml", ".yml")):
            names = _yaml_names(root / path)
            if names:
                return _distinct(names), path
    for path in listed:
        if path.rsplit("/", 1)[-1].lower() in _NAME_FILES:
            try:
                lines = [line for _, line in _lines(root / path)]
            except (OSError, ValueError) as error:
                raise DataError(f"{root / path} cannot be read: {error}.", "It holds one class name a line.") from None
            return _distinct(dict(enumerate(lines))), path
    return None, ""


def _yaml_names(path: Path) -> dict[int, str]:
    """The `names` of a data.yaml in any of its three ways: [a, b], a list of "- a", or a list of "0: a"."""
    try:
        lines = [line for _, line in _lines(path)]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "It names the classes: names: [cat, dog].") from None
    start = next((row for row, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return {}
    first = lines[start].split(":", 1)[1].strip()
    if first[:1] in ("[", "{"):
        inside = " ".join([first, *map(str.strip, lines[start + 1 :])])
        entries = _comma_parts(inside[1 : max(inside.find("]" if first[0] == "[" else "}"), 1)])
    else:
        following = itertools.takewhile(lambda line: not re.match(r"[^\s#-]", line), lines[start + 1 :])
        entries = [line.strip().removeprefix("-").strip() for line in following if not line.strip().startswith("#")]
    names = {}
    for position, entry in enumerate(entries):
        numbered = re.match(r"""["']?(\d{1,9})["']?\s*:\s*(.*)""", entry)
        number, name = (int(numbered[1]), numbered[2]) if numbered else (position, entry)
        names[number] = re.sub(r"\s+#.*", "", name).strip().strip("\"'")
    return names


def _comma_parts(text: str) -> list[str]:
    """What commas outside of quotation marks part."""
    return [part.strip() for part in re.findall(r"""\s*(?:"[^"]*"|'[^']*'|[^,"'])+""", text) if part.strip()]


def _distinct(names: dict[int, str]) -> dict[int, str]:
    shown = {number: plain(name) or str(number) for number, name in names.items()}
    twice = {name for name, count in Counter(shown.values()).items() if count > 1}
    return {number: f"{name} ({number})" if name in twice else name for number, name in shown.items()}
