"""Formats of other annotation tools that are not read: their names, and how to get a format that is."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from challenges.detection.annotations.table import plain
from challenges.detection.annotations.text_files import decoded
from common.errors import DataError
from common.text import is_number
from common.vision.image_folders import Listing, displayed

_PEEKED = 3  # JSON files looked into
_MOST_TEXTS, _PEEKED_BYTES = 20, 4096
_MOST_BYTES = 256 << 20


def refuse_json(root: Path, name: str, table: Any, count: int = 1) -> None:
    """Raise DataError where a JSON file's content is of a known tool; count: files of its kind."""
    told = json_format(table)
    if told:
        format_name, remedy = told
        files = displayed(name) if count == 1 else f"{count:,} JSON files, such as {displayed(name)}"
        raise DataError(f"{root}: the annotations are in {format_name} ({files}), which is not read.", remedy)


def refuse_known(root: Path, names: list[str]) -> None:
    """Raise DataError where the first JSON files are of a known tool."""
    for name in names[:_PEEKED]:
        try:
            if (root / name).stat().st_size <= _MOST_BYTES:
                refuse_json(root, name, json.loads((root / name).read_bytes()), len(names))
        except (OSError, ValueError, RecursionError):
            continue


def refuse_cvat(root: Path, name: str) -> None:
    """Raise DataError for CVAT's own XML file."""
    raise DataError(
        f"{root}: {displayed(name)} is CVAT's own XML format (CVAT for images or video), which is not read.",
        "Export the task from CVAT as 'COCO 1.0' or 'Pascal VOC 1.1'.",
    )


def json_format(table: Any) -> tuple[str, str] | None:
    """The format's name and how to convert it, None where it is not known."""
    first = table[0] if isinstance(table, list) and table else None
    if isinstance(table, dict) and isinstance(table.get("shapes"), list):
        return "LabelMe's JSON format", (
            "Convert them, for instance with the package labelme2coco (pip install labelme2coco; labelme2coco FOLDER) "
            "or LabelMe's own labelme2voc.py, and keep the images beside the result."
        )
    if isinstance(first, dict) and _is_label_studio(first):
        return "Label Studio's JSON format", (
            "Export the project from Label Studio as 'COCO' or 'YOLO', or convert the file with the package "
            "label-studio-converter, and put the images beside it."
        )
    if isinstance(table, dict) and ("_via_img_metadata" in table or _has_regions(table)):
        return "the VGG Image Annotator's JSON format", "Export from VIA with 'Export Annotations (COCO format)'."
    if isinstance(first, dict) and "image" in first and isinstance(first.get("annotations"), list):
        return "CreateML's JSON format", "Export the data as COCO, Pascal VOC or YOLO from the tool that wrote it."
    return None


def _is_label_studio(task: dict[str, Any]) -> bool:
    full = isinstance(task.get("data"), dict) and ("annotations" in task or "completions" in task)
    return full or ("annotation_id" in task and "annotator" in task)


def _has_regions(table: dict[str, Any]) -> bool:
    first = next(iter(table.values()), None)
    return isinstance(first, dict) and "regions" in first and "filename" in first


def text_files(root: Path, listing: Listing) -> list[str]:
    """The text files that hold rows of numbers of a kind that is known."""
    texts = [file.path for file in listing.annotations if file.path.lower().endswith(".txt")]
    return [name for name in texts[:_MOST_TEXTS] if text_format(_first_line(root / name))]


def refuse_texts(root: Path, names: Sequence[str]) -> None:
    """Raise DataError where the first text files that hold anything are all of one known tool."""
    lines = [(name, line) for name in names[:_MOST_TEXTS] if (line := _first_line(root / name))]
    formats = {text_format(line) for _, line in lines}
    if len(formats) == 1 and (told := formats.pop()):
        name, line = lines[0]
        raise DataError(
            f"{root}: the text files are {told[0]}, which are not read ({displayed(name)}: {plain(line)}).",
            "YOLO has class, centre x, centre y, width and height, as shares of the image, with blanks between.",
            told[1],
        )


def text_format(line: str) -> tuple[str, str] | None:
    """What a row of a text file is, and how to convert it, None where it is not known or YOLO's."""
    words, cells = line.split(), [cell.strip() for cell in line.rstrip(", ").split(",")]
    if len(cells) >= 5 and all(map(is_number, cells)):
        if all(0 <= float(cell) <= 1 for cell in cells[1:]):
            return "numbers with commas between them", "Put blanks there: sed -i 's/,/ /g' FILES"
        return (
            "numbers with commas between them, as VisDrone and MOT have them, in pixels",
            "Convert them: there the corner comes first, and the class in a later column.",
        )
    if len(words) >= 5 and all(re.fullmatch(r"\d+(,\d+)?", word) for word in words) and "," in line:
        return "numbers with decimal commas", "Write them with points: sed -i 's/,/./g' FILES"
    is_kitti = len(words) in (15, 16) and not is_number(words[0]) and all(map(is_number, words[1:]))
    if is_kitti and any(float(word) > 1 for word in words[4:8]):  # and no polygon of shares with a class by name
        return (
            "KITTI's labels",
            "Convert them: the class comes first, then, from the fifth column on, left, top, right, bottom in pixels.",
        )
    if len(words) in (9, 10) and all(map(is_number, words[:8])) and not is_number(words[8]):
        return "DOTA's labels", "Convert them: eight numbers of corners in pixels come first, then the class."
    return None


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            lines = decoded(stream.read(_PEEKED_BYTES)).splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.strip() for line in lines if line.strip() and ":" not in line), "")  # DOTA's begin with remarks


def csv_hint(listing: Listing) -> str:
    """What to do where the only other files are tables."""
    tables = sum(count for suffix, count in listing.others.items() if suffix in (".csv", ".tsv", ".xlsx", ".parquet"))
    return f"The {tables} table files are not read: convert them to one of these formats." if tables else ""
