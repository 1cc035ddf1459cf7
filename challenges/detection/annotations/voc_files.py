"""Writing Pascal VOC's annotations: what `voc.py` reads back as the same boxes."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from common.files import write_text


def write_voc(path: Path, image: str, size: tuple[int, int], names: Sequence[str], boxes: np.ndarray) -> None:
    """Write one image's objects.

    image: its file's name. size: width and height in pixels.
    boxes: (object, 4) left, top, right, bottom in pixels from 0 on, right and bottom exclusive; rounded to pixels.
    """
    annotation = Element("annotation")
    SubElement(annotation, "filename").text = image
    width, height = size
    sides = SubElement(annotation, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(sides, name).text = str(value)
    for name, (left, top, right, bottom) in zip(names, np.asarray(boxes).tolist(), strict=True):
        thing = SubElement(annotation, "object")
        SubElement(thing, "name").text = name
        corners = SubElement(thing, "bndbox")
        first, last = _span(left, right, width), _span(top, bottom, height)
        for side, value in (("xmin", first[0]), ("ymin", last[0]), ("xmax", first[1]), ("ymax", last[1])):
            SubElement(corners, side).text = str(value)
    indent(annotation)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, tostring(annotation, encoding="unicode") + "\n")


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """First and last pixel, counted from 1, of an interval, one pixel at least and inside the image."""
    first = min(max(round(low), 0), size - 1)
    return first + 1, max(first + 1, min(round(high), size))
