"""Formats of other annotation tools that are not read: their names, and how to get a format that is."""

import json
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.image_folders import Listing, displayed

_PEEKED = 3  # JSON files looked into
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


def csv_hint(listing: Listing) -> str:
    """What to do where the only other files are tables."""
    tables = sum(count for suffix, count in listing.others.items() if suffix in (".csv", ".tsv", ".xlsx", ".parquet"))
    return f"The {tables} table files are not read: convert them to one of these formats." if tables else ""
