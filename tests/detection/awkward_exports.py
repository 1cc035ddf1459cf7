"""Exports of two boxes in each of twelve pictures, for the tests of what is not as the format says."""

import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from challenges.detection import check as module
from challenges.detection.check import CheckReport
from common.errors import DataError
from tests.detection.annotated_folders import Box, coco_table, draw, write_json, write_yolo

NUT: Box = ("nut", 5, 4, 20, 15)
BOLT: Box = ("bolt", 28, 18, 52, 40)
CLASSES = {1: "nut", 2: "bolt"}
NAMES = [f"{number:02d}" for number in range(12)]
BOXES = {f"{name}.jpg": [NUT, BOLT] for name in NAMES}
WIDTH, HEIGHT = 60, 44
RIGHT = [list(NUT[1:]), list(BOLT[1:])]


def check(root: Path, output: Path) -> CheckReport:
    return module.check(root, output, workers=0, progress=lambda done, total: None)


def refusal(root: Path, output: Path) -> str:
    with pytest.raises(DataError) as caught:
        check(root, output)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def assert_all_right(report: CheckReport, images: int = 12) -> None:
    """Every image has its two boxes, the right ones."""
    assert len(report.scenes) == images
    assert np.diff(report.scenes.offsets).tolist() == [2] * images
    np.testing.assert_allclose(report.scenes.boxes, RIGHT * images, atol=1e-3)
    assert [report.scenes.classes[label - 1] for label in report.scenes.labels] == ["nut", "bolt"] * images


def coco(root: Path, change: Any = None, file_names: Any = None) -> Path:
    """COCO with images under images/; `change` is applied to the table."""
    for name in BOXES:
        draw(root / "images" / name)
    table = coco_table(BOXES, CLASSES)
    for row in table["images"]:
        row["file_name"] = file_names(row["file_name"]) if file_names else row["file_name"]
    if change:
        change(table)
    write_json(root / "result.json", table)
    return root


def yolo(root: Path, row: Any) -> Path:
    """YOLO whose rows are `row(class number, left, top, right, bottom)`, in pixels."""
    write_yolo(root, BOXES, ["nut", "bolt"])
    for name in NAMES:
        lines = [row(number, *box[1:]) for number, box in enumerate((NUT, BOLT))]
        (root / "labels" / f"{name}.txt").write_text("\n".join(" ".join(map(str, line)) for line in lines))
    return root


def shares(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT


SPELLINGS = {
    "percent": (quote, "é %s.jpg"),
    "percent twice": (lambda name: quote(quote(name)), "é %s.jpg"),
    "decomposed": (lambda name: unicodedata.normalize("NFD", name), "é %s.jpg"),
    "composed": (lambda name: unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", "é %s.jpg")),
    "case": (str.upper, "img %s.jpg"),
    "windows": (lambda name: rf"C:\shots\{name}", "img %s.jpg"),
    "local files": (lambda name: f"/data/local-files/?d=shots%5C{quote(name)}", "é %s.jpg"),
    "upload": (lambda name: f"/data/upload/4/0a1b2c3d-{name}", "img %s.jpg"),
    "other extension": (lambda name: name.replace(".jpg", ".png"), "img %s.jpg"),
}
