"""Small videos, made where a test needs one."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving_square(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """(height, width, 3) uint8: a red square that moves to the right, a green top edge, a blue left edge."""
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[: height // 8] = (20, 200, 20)
    picture[:, : width // 8] = (20, 20, 220)
    left = width // 8 + number * 4 % (width // 2)
    picture[height // 2 : height // 2 + 16, left : left + 16] = (230, 30, 30)
    return picture


def make_video(  # noqa: PLR0913  # what a file may state, each apart from the others
    path: Path,
    times: Sequence[int] = range(0, 500, 40),
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    container: str | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    colours: int | None = None,
) -> list[np.ndarray]:
    """Write one frame per time, in milliseconds, and return the pictures.

    matrix: a, b, c, d of the display matrix. colours: ITU-T H.273 matrix coefficients to encode with and to state.
    """
    pictures = [moving_square(number, *size) for number in range(len(times))]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.max_b_frames = 0
        if codec == "libx264":
            stream.options = {"crf": "8", "preset": "ultrafast", "g": "6"}
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if colours is not None:
            stream.codec_context.colorspace = colours
        if matrix is not None:
            a, b, c, d = (value * 65536 for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        ends = [*times[1:], times[-1] + 40]
        for picture, time, end in zip(pictures, times, ends, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels, dst_colorspace=colours)
            frame.pts, frame.time_base, frame.duration = time, Fraction(1, 1000), end - time
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return pictures


def read_back(path: Path) -> tuple[list[np.ndarray], list[float], float]:
    """Pictures, their times and the length in seconds, by PyAV alone."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        pictures, times = [], []
        for frame in file.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24"))
            times.append(float(frame.pts * frame.time_base))
        return pictures, times, float(stream.duration * stream.time_base)
