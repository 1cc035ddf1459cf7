"""Folders of images with annotations in every format, for the tests of what reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.common.vision.picture_files import encode, photograph

Box = tuple[str, float, float, float, float]  # class, left, top, right, bottom; edges from 0, the last two exclusive
Boxes = Mapping[str, Sequence[Box]]


def draw(path: Path, width: int = 60, height: int = 44, seed: int = 0) -> Path:
    """A different photograph for every path and seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed += sum(ord(letter) * 31**position for position, letter in enumerate(path.name)) % 2**31
    picture = photograph(width, height, seed)
    path.write_bytes(encode(picture, "PNG" if path.suffix == ".png" else "JPEG"))
    return path


def coco_table(
    boxes: Boxes, classes: Mapping[int, str], size: tuple[int, int] = (60, 44), first: int = 1
) -> dict[str, Any]:
    """COCO's tables of images by file name."""
    numbers = {name: number for number, name in classes.items()}
    images = [
        {"id": first + position, "file_name": name, "width": size[0], "height": size[1]}
        for position, name in enumerate(boxes)
    ]
    rows = [(image["id"], box) for image in images for box in boxes[str(image["file_name"])]]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": numbers[name],
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
        }
        for number, (image, (name, left, top, right, bottom)) in enumerate(rows, start=first)
    ]
    categories = [{"id": number, "name": name} for number, name in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def voc_text(
    boxes: Sequence[Box], size: tuple[int, int] | None = (60, 44), name: str = "", difficult: Sequence[int] = ()
) -> str:
    """One image's annotation; corners are written as VOC counts them, from 1 and with the last pixel."""
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    objects = "".join(
        f"<object><name>{escape(kind)}</name><difficult>{int(number in difficult)}</difficult><bndbox>"
        f"<xmin>{left + 1:g}</xmin><ymin>{top + 1:g}</ymin><xmax>{right:g}</xmax><ymax>{bottom:g}</ymax>"
        "</bndbox></object>"
        for number, (kind, left, top, right, bottom) in enumerate(boxes)
    )
    written = f"<filename>{escape(name)}</filename>" if name else ""
    return f"<annotation>{written}{stated}{objects}</annotation>"


def write_voc(root: Path, boxes: Boxes, lists: Mapping[str, Sequence[str]] | None = None) -> Path:
    """Annotations and JPEGImages of images by stem, and ImageSets/Main."""
    for stem, around in boxes.items():
        draw(root / "JPEGImages" / f"{stem}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{stem}.xml").write_text(voc_text(around, name=f"{stem}.jpg"))
    for name, stems in (lists or {}).items():
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return root


def write_yolo(root: Path, boxes: Boxes, classes: Sequence[str], size: tuple[int, int] = (60, 44)) -> Path:
    """images/ and labels/ of images by path below them, and data.yaml."""
    for name, around in boxes.items():
        draw(root / "images" / name)
        lines = [
            f"{classes.index(kind)} {(left + right) / 2 / size[0]} {(top + bottom) / 2 / size[1]} "
            f"{(right - left) / size[0]} {(bottom - top) / size[1]}"
            for kind, left, top, right, bottom in around
        ]
        label = (root / "labels" / name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"train: images/train\nnc: {len(classes)}\nnames: {list(classes)}\n")
    return root
