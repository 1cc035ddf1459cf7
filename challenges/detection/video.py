"""Detections in videos: an annotated copy, and every frame's boxes as lines of JSON."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline
from PIL import Image
from torch import Tensor

from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.drawing import draw_detections
from challenges.detection.recipes import NmsConfig
from challenges.detection.searching import search
from challenges.detection.tiles import windows_of
from challenges.detection.video_files import Frame, VideoReader, VideoWriter, unreadable
from common.files import atomic_writer
from common.language.telling import english
from common.machine.processes import usable_cores
from common.terminal.progress import Counter
from common.training.task import Batch
from common.vision.dali.images import normalise
from common.vision.preprocessing import ImagePreprocessing

BATCH = 8  # frames that the network sees together
BATCH_PIXELS = 20_000_000  # of the frames of a batch at most: bounds the memory for large frames
PARTS = ("decode", "network", "draw and encode")
"""Reading and turning frames; resizing, the model and its suppression; boxes, encoding, writing."""

Item = TypeVar("Item")


class FindsInFrames(Protocol):
    """Detections of up to `batch_size` pictures (height, width, 3) uint8 RGB, in their pixels."""

    @property
    def batch_size(self) -> int: ...
    def __call__(self, frames: Sequence[np.ndarray]) -> DetectionTable: ...


class FrameDetector:
    """A detector for pictures in memory, with the pixels brought to the network's input as those of files are.

    detect: images (batch, 3, crop, crop) -> Detections; its model is on `device`, in evaluation mode.
    tile:   side in pixels of the tiles that are searched too, see `searching`; None: none. limits: for merging them.
    """

    def __init__(
        self,
        detect: Callable[[Tensor], Detections],
        preprocessing: ImagePreprocessing,
        device: torch.device,
        *,
        batch_size: int = BATCH,
        tile: int | None = None,
        limits: NmsConfig = NmsConfig(),  # noqa: B008 (frozen)
    ) -> None:
        self.batch_size, self._tile, self._limits = batch_size, tile, limits
        self._detect, self._device = detect, device
        index = (device.index or 0) if device.type == "cuda" else None
        self._pipeline = _pipeline(preprocessing, batch_size, index)
        self._pipeline.build()

    def __call__(self, frames: Sequence[np.ndarray]) -> DetectionTable:
        """Detections of up to `batch_size` pictures (height, width, 3) uint8 RGB, in their pixels."""
        heights, widths = np.array([frame.shape[:2] for frame in frames]).T
        with torch.inference_mode():
            return search(self._detect, self._batches(frames), widths, heights, self._limits).table

    def _batches(self, frames: Sequence[np.ndarray]) -> Iterator[Batch]:
        """The frames, or the windows of them one after the other, as `search` takes them."""
        looks = [
            (number, window)
            for number, frame in enumerate(frames)
            for window in windows_of(frame.shape[1], frame.shape[0], self._tile)
        ]
        for start in range(0, len(looks), self.batch_size):
            part = looks[start : start + self.batch_size]
            pictures = [
                np.ascontiguousarray(frames[number][top:bottom, left:right])
                for number, (left, top, right, bottom) in part
            ]
            yield {
                "images": self.preprocess(pictures),
                "index": torch.tensor([number for number, _ in part]),
                "window": torch.from_numpy(np.stack([window for _, window in part])),
            }

    def preprocess(self, frames: Sequence[np.ndarray]) -> Tensor:
        """The network's input (batch, 3, crop, crop) float32, good until the next call."""
        self._pipeline.feed_input("frames", list(frames))
        is_cuda = self._device.type == "cuda"
        outputs = self._pipeline.run(torch.cuda.current_stream(self._device).cuda_stream if is_cuda else None)
        return torch.from_dlpack(outputs[0].as_tensor()).permute(0, 3, 1, 2)


@dataclass
class VideoSummary:
    """What was done with one video; times in seconds, the parts one after the other."""

    name: str
    width: int = 0
    height: int = 0
    frames: int = 0
    length: float = 0.0
    detections: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    notes: list[str] = field(default_factory=list)

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(sum(self.seconds.values()), 1e-9)

    def lines(self) -> list[str]:
        total = sum(self.seconds.values())
        parts = ", ".join(f"{name} {1e3 * spent / max(1, self.frames):.1f}" for name, spent in self.seconds.items())
        lines = [
            f"{self.name}: {self.detections:,} detections in {self.frames:,} frames of {self.width} x {self.height}, "
            f"{self.length:.1f} s of video in {total:.1f} s: {self.frames_per_s:.1f} frames/s "
            f"(milliseconds per frame: {parts})"
        ]
        return lines + [f"{self.name}: {note}" for note in self.notes]


def annotate_video(
    source: Path,
    target: Path,
    find: FindsInFrames,
    classes: Sequence[str],
    *,
    threshold: float,
    written_from: float | None = None,
    longest: float | None = None,
    progress: Counter | None = None,
) -> VideoSummary:
    """Write a copy of `source` with boxes as the MP4 file `target`, and `target` as .jsonl with every frame's boxes.

    The copy has the size, the frames' times and the length of the original, upright and without sound. Both files
    appear when they are whole.

    threshold:    score from which a box is drawn. written_from: score from which it is among the lines; None: the same.
    longest:      seconds after which no more is read; None: all is.
    Raises DataError, and writes nothing, when there is no frame to be read.
    """
    summary = VideoSummary(source.name)
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source))
        video = stack.enter_context(atomic_writer(target))
        lines = stack.enter_context(atomic_writer(target.with_suffix(".jsonl")))
        writer: VideoWriter | None = None
        frames = _timed(iter(reader), summary.seconds, "decode")
        if longest is not None:
            frames = takewhile(lambda frame: frame.time < longest, frames)
        for batch in _batches(frames, find.batch_size):
            started = time.perf_counter()
            table = find([frame.pixels for frame in batch])
            table = table.select(table.scores >= (threshold if written_from is None else written_from))
            found = time.perf_counter()
            if writer is None:
                summary.height, summary.width = batch[0].pixels.shape[:2]
                writer = stack.enter_context(VideoWriter(video, summary.width, summary.height, reader.format))
            for number, frame in enumerate(batch):
                own = table.select(table.images == number)
                picture = Image.fromarray(frame.pixels)
                shown = own.select(own.scores >= threshold)
                draw_detections(picture, shown.boxes, shown.labels, shown.scores, classes)
                writer.write(np.asarray(picture), frame.time, frame.duration)
                lines.write(_line(summary.frames + number, frame, own, classes).encode())
            summary.seconds["network"] += found - started
            summary.seconds["draw and encode"] += time.perf_counter() - found
            summary.frames, summary.detections = summary.frames + len(batch), summary.detections + len(table)
            summary.length = float(batch[-1].time + batch[-1].duration)
            if progress is not None:
                progress(summary.frames, max(reader.frame_count, summary.frames + 1))
        summary.notes = reader.notes
        if writer is None:
            raise unreadable(source, ", ".join([*summary.notes, english("it has no frame")]))
    if progress is not None:
        progress(summary.frames, summary.frames)
    return summary


def _batches(frames: Iterator[Frame], largest: int) -> Iterator[list[Frame]]:
    for first in frames:
        size = min(largest, max(1, BATCH_PIXELS // (first.pixels.size // 3)))
        yield [first, *islice(frames, size - 1)]


def _timed(items: Iterator[Item], seconds: dict[str, float], name: str) -> Iterator[Item]:
    """The same items, with the time that each took to come added to `seconds[name]`."""
    while True:
        started = time.perf_counter()
        item = next(items, None)
        seconds[name] += time.perf_counter() - started
        if item is None:
            return
        yield item


def _line(number: int, frame: Frame, table: DetectionTable, classes: Sequence[str]) -> str:
    rows = zip(table.labels.tolist(), table.scores.tolist(), table.boxes.tolist(), strict=True)
    detections = [
        {"class": classes[label - 1], "score": round(score, 4), "box": [round(side, 1) for side in box]}
        for label, score, box in rows
    ]
    record = {"frame": number, "time": round(float(frame.time), 4), "detections": detections}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _pipeline(preprocessing: ImagePreprocessing, batch_size: int, device_id: int | None) -> Pipeline:
    """Raw frames to the network's input, with the resize and the normalisation of `decode_and_preprocess`."""
    assert preprocessing.mode == "squash", "boxes are shares of the whole picture"
    side = preprocessing.crop

    @pipeline_def(batch_size=batch_size, num_threads=usable_cores(), device_id=device_id, prefetch_queue_depth=1)
    def graph() -> DataNode:
        frames = fn.external_source(name="frames", device="cpu", dtype=types.UINT8, ndim=3, layout="HWC")
        frames = frames if device_id is None else frames.gpu()
        square = fn.resize(frames, size=[side, side], interp_type=types.INTERP_LINEAR, antialias=True)
        return normalise(square, preprocessing, "HWC")

    return graph()
