"""Boxes with their captions on pictures."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from challenges.detection.palette import class_colours, ink_on
from common.errors import DataError

LINE, TEXT, SMALLEST_TEXT = 1 / 260, 1 / 42, 11  # shares of the root of the picture's area; pixels
DASH = 4  # times the line's width
SHADE = (0, 0, 0)  # the rim that sets a line off from a picture of its colour


def read_picture(path: Path) -> Image.Image:
    """The file as DALI decodes it, upright as its EXIF orientation says, so that boxes fit wherever they came from.

    Raises DataError when it cannot be decoded.
    """
    try:
        pixels = np.asarray(_decoder().read(str(path)))
    except Exception as error:
        raise DataError(f"{path} cannot be decoded: {str(error).splitlines()[0]}") from None
    if pixels.ndim != 3:
        raise DataError(f"{path} cannot be decoded.")
    return Image.fromarray(pixels)


def captions_of(labels: np.ndarray, scores: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Such as `cat 0.93` for labels (detection,) from 1 on and scores (detection,)."""
    return [f"{classes[label - 1]} {score:.2f}" for label, score in zip(labels.tolist(), scores.tolist(), strict=True)]


def draw_detections(
    image: Image.Image, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, classes: Sequence[str]
) -> None:
    """Draw detections on an RGB picture, the best on top.

    boxes: (detection, 4) left, top, right, bottom in the picture's pixels; labels: from 1 on; both best first.
    """
    colours = class_colours(len(classes))[labels - 1]
    draw_boxes(image, boxes, captions_of(labels, scores, classes), colours)


def draw_boxes(
    image: Image.Image, boxes: np.ndarray, captions: Sequence[str], colours: np.ndarray, *, dashed: bool = False
) -> None:
    """Draw boxes on an RGB picture, the first on top; an empty caption gets no label.

    boxes:   (box, 4) left, top, right, bottom in the picture's pixels; what lies outside is cut off.
    colours: (box, 3) uint8.
    Lines and letters grow with the picture; labels stay inside it and off each other where there is room.
    """
    if not len(boxes):
        return
    draw = ImageDraw.Draw(image)
    unit = (image.width * image.height) ** 0.5
    line = max(1, round(unit * LINE))
    limits = np.array([image.width, image.height] * 2)
    corners = np.rint(np.clip(np.nan_to_num(boxes), 0, limits)).astype(int)
    corners[:, 2:] = np.maximum(corners[:, 2:] - 1, corners[:, :2])  # Pillow's right and bottom belong to the box
    frames = [tuple(frame) for frame in np.minimum(corners, limits - 1).tolist()]
    tones = [tuple(colour) for colour in colours.tolist()]
    inks = [tuple(ink) for ink in ink_on(colours).tolist()]
    for frame, tone in zip(reversed(frames), reversed(tones), strict=True):
        (_dashes if dashed else _outline)(draw, frame, tone, line)
    font = _font(max(SMALLEST_TEXT, round(unit * TEXT)))
    places = _label_places(image.size, frames, captions, font, line)
    for place, text, tone, ink in reversed(list(zip(places, captions, tones, inks, strict=True))):
        if place is not None:
            left, top, right, bottom = place
            draw.rectangle((left, top, right - 1, bottom - 1), fill=tone)
            draw.text((left + line + 1, top), _fitted(text, right - left - 2 * line - 2, font), font=font, fill=ink)


def _outline(draw: ImageDraw.ImageDraw, frame: tuple[int, ...], tone: tuple[int, ...], line: int) -> None:
    left, top, right, bottom = frame
    if line > 1 and min(right - left, bottom - top) > 4 * line:
        inner = (left + line, top + line, right - line, bottom - line)
        draw.rectangle(inner, outline=SHADE, width=max(1, line // 3))
    draw.rectangle(frame, outline=tone, width=line)


def _dashes(draw: ImageDraw.ImageDraw, frame: tuple[int, ...], tone: tuple[int, ...], line: int) -> None:
    left, top, right, bottom = frame
    step = 2 * DASH * line
    for begin in range(left, right + 1, step):
        end = min(begin + step // 2, right)
        draw.rectangle((begin, top, end, min(top + line - 1, bottom)), fill=tone)
        draw.rectangle((begin, max(bottom - line + 1, top), end, bottom), fill=tone)
    for begin in range(top, bottom + 1, step):
        end = min(begin + step // 2, bottom)
        draw.rectangle((left, begin, min(left + line - 1, right), end), fill=tone)
        draw.rectangle((max(right - line + 1, left), begin, right, end), fill=tone)


def _label_places(
    size: tuple[int, int],
    frames: Sequence[tuple[int, ...]],
    captions: Sequence[str],
    font: ImageFont.FreeTypeFont,
    line: int,
) -> list[tuple[int, int, int, int] | None]:
    """Where each label goes: above its box, else inside or below it, first where no better box's label is.

    None: no caption, or the picture is too small for one line of text.
    """
    width, height = size
    tall = sum(font.getmetrics()) + 1
    taken = np.zeros((len(frames), 4), int)
    places: list[tuple[int, int, int, int] | None] = []
    for number, (frame, text) in enumerate(zip(frames, captions, strict=True)):
        wide = min(int(font.getlength(text)) + 2 * line + 3, width)
        if not text or tall > height or wide < tall:
            places.append(None)
            continue
        left = min(frame[0], width - wide)
        tops = (frame[1] - tall, frame[1], frame[3] - tall + 1, frame[3] + 1)
        options = [(left, top, left + wide, top + tall) for top in tops if 0 <= top <= height - tall]
        options.append((left, min(max(frame[1], 0), height - tall), left + wide, min(max(frame[1], 0) + tall, height)))
        others = taken[:number]
        chosen = next((option for option in options if not _overlaps(option, others)), options[0])
        taken[number] = chosen
        places.append(chosen)
    return places


def _overlaps(place: tuple[int, ...], others: np.ndarray) -> bool:
    left, top, right, bottom = place
    beside = (others[:, 0] >= right) | (others[:, 2] <= left) | (others[:, 1] >= bottom) | (others[:, 3] <= top)
    return not beside.all()


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The text, or its beginning with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width + 1:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and Arabic letters."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


@cache
def _decoder() -> Any:
    from nvidia import nvimgcodec

    backends = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
    return nvimgcodec.Decoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1, backends=backends)
