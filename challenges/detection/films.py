"""A detector on the page with a video: boxes drawn into a copy, and how many of each class there are over time."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.serving.asking import Detection, detect
from challenges.detection.video import BATCH, FindsInFrames, FrameDetector, annotate_video
from challenges.detection.video_files import VideoReader
from common.challenge import Trained
from common.errors import DataError
from common.files import write_csv
from common.language.telling import english, retell, tell
from common.playground.fields import Values
from common.playground.films import LONGEST, Place, Videos
from common.playground.session import Engine
from common.report.elements import Markup, join, notice, paragraph, table
from common.report.plots import Colour, Line, xy_chart

NOTHING = english("Nothing was found with this score. A lower one shows more.")
WRITTEN_FROM = 0.1  # score from which a box of a frame is kept
MOST_PIXELS = 3840 * 2160  # of a frame
COLOURS: tuple[Colour, ...] = ("accent", "second", "third", "bad", "good", "muted")
COPY, LINES, ROWS = "found.mp4", "found.jsonl", "found.csv"
CSV_COLUMNS = ("frame", "time", "class", "score", "left", "top", "right", "bottom")


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in a video.

    times:  (frame,) float64, seconds. table: all boxes kept, whose images are frames.
    drawn_from: score from which boxes are drawn in the copy. notes: what was wrong with the file, in English.
    """

    place: Place
    times: np.ndarray
    table: DetectionTable
    drawn_from: float
    notes: tuple[str, ...]


class DetectorVideos(Videos):
    """asked: what the engine of this process finds in images as the network takes them."""

    def __init__(self, trained: Trained[Any, Any, Any], engine: Engine, asked: Callable[[Tensor], Detections]) -> None:
        self._trained, self._engine, self._asked = trained, engine, asked
        self._classes: tuple[str, ...] = trained.data.scenes.classes
        self._find: FindsInFrames | None = None

    def annotate(
        self,
        source: Path,
        place: Place,
        controls: Values,
        turn: contextlib.AbstractContextManager[Any],
        progress: Callable[[int, int], None],
    ) -> Answer:
        with VideoReader(source) as reader:
            if reader.pixels > MOST_PIXELS:
                raise DataError(
                    english("The video's frames are too large."),
                    english("At most 3840 x 2160 pixels."),
                    english("Save it with smaller ones."),
                )
        threshold = float(controls["threshold"])
        with turn:
            find = _InTurn(self._detector(), turn)
        summary = annotate_video(
            source, place.folder / COPY, find, self._classes, threshold=threshold,
            written_from=min(threshold, WRITTEN_FROM), longest=LONGEST, progress=progress,
        )  # fmt: skip
        times, found = read_lines(place.folder / LINES, self._classes)
        write_csv(place.folder / ROWS, CSV_COLUMNS, _rows(times, found, self._classes), guarded=True)
        notes = [] if summary.length >= LONGEST else summary.notes  # what is not read to the end is not judged
        if summary.length >= LONGEST:
            notes = [english("Only the first {seconds:g} seconds were looked at", seconds=LONGEST)]
        return Answer(place, times, found, threshold, tuple(notes))

    def show(self, answer: Answer, controls: Values) -> Markup:
        threshold = float(controls["threshold"])
        found = answer.table.select(answer.table.scores >= threshold)
        counts = frame_counts(found, len(answer.times), len(self._classes))
        told = tell(
            "Boxes are drawn from a score of {score:g}; the counts follow the lowest score shown.",
            score=answer.drawn_from,
        )
        film = Markup('<video controls preload="metadata" src="{}" aria-label="{}"></video>').format(
            answer.place.address(COPY), tell("the video with the boxes that were found")
        )
        links = [
            Markup('<a download href="{}">{}</a>').format(answer.place.address(name), name) for name in (LINES, ROWS)
        ]
        return join(
            [
                *(notice(f"{retell(note)}.", "warning") for note in answer.notes),
                film,
                Markup('<p class="hint">{}</p>').format(told),
                self._counted(counts, answer.times) if len(found) else notice(tell(NOTHING)),
                Markup("<p>{}</p>").format(join(links, " · ")),
            ]
        )

    def _counted(self, counts: np.ndarray, times: np.ndarray) -> Markup:
        """How many there are of each class; counts: (frame, class) int64."""
        order = [place for place in np.argsort(-counts.sum(0), kind="stable").tolist() if counts[:, place].any()]
        rows = [
            (
                self._classes[place],
                int(counts[:, place].max()),
                f"{counts[:, place].mean():.1f}",
                f"{float((counts[:, place] > 0).mean()):.0%}",
            )
            for place in order
        ]
        head = (tell("class"), tell("most at once"), tell("mean of a frame"), tell("frames that have one"))
        seconds, by_second = means_by_second(counts, times)
        lines = [
            Line(self._classes[place], seconds, by_second[:, place], COLOURS[number], markers=len(seconds) < 3)
            for number, place in enumerate(order[: len(COLOURS)])
        ]
        chart = xy_chart(tell("How many there are"), lines, tell("seconds"), tell("of a frame"))
        frames = paragraph(tell("{frames:,} frames in {seconds:.1f} s", frames=len(times), seconds=float(times[-1])))
        return join([frames, chart, table(head, rows, numeric=(1, 2, 3))])

    def _detector(self) -> FindsInFrames:
        """Made when the first video comes."""
        if self._find is None:
            data, recipe = self._trained.data, self._trained.recipe
            if self._engine.runner is None:
                self._find = ServedFrames(self._engine)
            else:
                self._find = FrameDetector(
                    self._asked, data.preprocessing, torch.device("cpu"), tile=recipe.data.tile, limits=recipe.nms
                )
        return self._find


class ServedFrames:
    """Frames asked of a server, as JPEG files."""

    batch_size = BATCH

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, frames: Sequence[np.ndarray]) -> DetectionTable:
        with self._engine.connect() as client:
            return table_of(detect(client, self._engine.model, [_encoded(frame) for frame in frames]))


class _InTurn:
    """A detector that holds a lock while it works."""

    def __init__(self, find: FindsInFrames, turn: contextlib.AbstractContextManager[Any]) -> None:
        self._find, self._turn = find, turn
        self.batch_size = find.batch_size

    def __call__(self, frames: Sequence[np.ndarray]) -> DetectionTable:
        with self._turn:
            return self._find(frames)


def table_of(answers: Sequence[Sequence[Detection]]) -> DetectionTable:
    """A server's answers, one for each image."""
    rows = [(image, one) for image, found in enumerate(answers) for one in found]
    return DetectionTable(
        np.asarray([image for image, _ in rows], np.int64),
        np.asarray([one.label for _, one in rows], np.int64),
        np.asarray([one.score for _, one in rows], np.float32),
        np.asarray([one.box for _, one in rows], np.float32).reshape(-1, 4),
    )


def read_lines(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, DetectionTable]:
    """The frames' times (frame,) in seconds, and their boxes, from the lines that `annotate_video` writes."""
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    times, rows = [], []
    with path.open(encoding="utf-8") as stream:
        for frame, line in enumerate(stream):
            record = json.loads(line)
            times.append(record["time"])
            rows += [(frame, numbers[one["class"]], one["score"], one["box"]) for one in record["detections"]]
    images, labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.asarray(times, np.float64), DetectionTable(
        np.asarray(images, np.int64), np.asarray(labels, np.int64), np.asarray(scores, np.float32),
        np.asarray(boxes, np.float32).reshape(-1, 4),
    )  # fmt: skip


def frame_counts(found: DetectionTable, frames: int, classes: int) -> np.ndarray:
    """(frame, class) int64: how many of each class a frame has."""
    cells = found.images * classes + found.labels - 1
    return np.bincount(cells, minlength=frames * classes).reshape(frames, classes)


def means_by_second(counts: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(second,) float64 and (second, class) float64: the mean of the frames of each second that has any.

    counts: (frame, class). times: (frame,) in seconds.
    """
    second = times.astype(np.int64)
    frames = np.bincount(second)
    sums = np.stack([np.bincount(second, column) for column in counts.T], axis=1)
    known = frames > 0
    return np.flatnonzero(known).astype(np.float64), sums[known] / frames[known, None]


def _rows(times: np.ndarray, found: DetectionTable, classes: Sequence[str]) -> Iterator[tuple[object, ...]]:
    for frame, label, score, box in zip(found.images, found.labels, found.scores, found.boxes, strict=True):
        sides = (f"{side:.1f}" for side in box)
        yield int(frame), f"{times[frame]:.3f}", classes[label - 1], f"{score:.4f}", *sides


def _encoded(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()
