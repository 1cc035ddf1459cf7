"""`kit predict` for images and videos: what was found as a table, drawn on a copy of each file, and as COCO JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from challenges.detection.data import SceneData
from challenges.detection.detections import DetectionTable
from challenges.detection.drawing import draw_detections, read_picture
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.scenes import Scenes
from challenges.detection.searching import search
from challenges.detection.task import DetectionTask
from challenges.detection.video_files import EXTENSIONS as VIDEO_EXTENSIONS
from common.challenge import Trained
from common.errors import DataError
from common.files import atomic_writer, cut_name, write_csv, write_json
from common.question import Question
from common.terminal.console import plain
from common.terminal.progress import counting
from common.vision.images import EXTENSIONS, ImageFacts, ImageProblem, probe_all

if TYPE_CHECKING:
    from challenges.detection.video import FrameDetector

SHOWN, SHOWN_IMAGES = 8, 20  # detections of an image and images that the table has
SMALL_SIDE = 480  # pixels of the longer side below which an annotated copy is enlarged, for its labels to be read
SHOWN_FROM = 0.3  # score, unless the user gives one
PROBE_ALONE = 16  # images up to which starting processes takes longer than looking at them here
CSV_COLUMNS = ("file", "class", "score", "left", "top", "right", "bottom")


@dataclass(frozen=True)
class Input:
    """A file to look at, and the path of its copy below the output folder, without a suffix that is the copy's own."""

    path: Path
    place: Path

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_EXTENSIONS


def predict(
    trained: Trained[DetectionRecipe, SceneData, DetectionTask],
    question: Question,
    output: Path,
    device: torch.device,
    console: Console,
) -> None:
    """Find objects in images, in videos and in folders of both; what cannot be read is named and left out.

    Writes copies with the boxes drawn, detections.json (COCO's format, with the scores) and detections.csv for the
    images, and for each video the frames' boxes as .jsonl.
    Raises DataError when there is nothing that can be read.
    """
    recipe, data, inputs = trained.recipe, trained.data, question.inputs
    threshold = SHOWN_FROM if question.threshold is None else question.threshold
    found = gather(inputs, output)
    images, facts = _readable([one for one in found if not one.is_video], console)
    videos = [one for one in found if one.is_video]
    if not images and not videos:
        raise _nothing(inputs)
    task = trained.task.place(device).eval()
    targets = Targets(output, [one.path for one in found])
    if images:
        scenes = scenes_of(data.scenes, facts)
        with torch.inference_mode():
            batches = data.searched(scenes, np.arange(len(scenes)))
            table = search(task.detect, batches, scenes.widths, scenes.heights, recipe.nms).table
        table = table.select(table.scores >= threshold)
        names = [str(one.path) for one in images]
        console.print(_shown(names, table, data.scenes.classes, trained.run.path.name))
        _draw_all(images, table, data.scenes.classes, targets, console)
        sizes = [(one.width, one.height) for one in facts]
        write_detections(output, names, sizes, table, data.scenes)
        console.print(plain(f"Annotated copies, detections.json and detections.csv: {output}"), soft_wrap=True)
    done = 0
    if videos:
        from challenges.detection.video import FrameDetector

        find = FrameDetector(task.detect, data.preprocessing, device, tile=recipe.data.tile, limits=recipe.nms)
        done = _annotate_videos(videos, find, data.scenes.classes, targets, console, threshold)
    if not images and not done:
        raise _nothing(inputs)
    if recipe.data.tile is not None:
        console.print(f"Searched: whole images and tiles of {recipe.data.tile} pixels.", highlight=False)
    console.print(
        f"Shown: scores from {threshold:g} on. The metric counts all above {recipe.nms.score_threshold:g}.",
        highlight=False,
    )


def gather(inputs: Sequence[Path], output: Path) -> list[Input]:
    """All files given, and the images and videos inside the folders given; each file once, the output's own never.

    A file of a folder keeps its place inside that folder.
    """
    known = EXTENSIONS.keys() | VIDEO_EXTENSIONS
    kept, found = output.resolve(), dict[Path, Input]()
    for given in inputs:
        if not given.is_dir():
            found.setdefault(given.resolve(), Input(given, Path(given.name)))
            continue
        for path in sorted(given.rglob("*")):
            inside = path.resolve()
            if path.suffix.lower() in known and path.is_file() and kept not in inside.parents:
                found.setdefault(inside, Input(path, Path(given.resolve().name) / path.relative_to(given)))
    return list(found.values())


class Targets:
    """Names for what is written, none of them twice and none of them an input's."""

    def __init__(self, output: Path, inputs: Iterable[Path]) -> None:
        self._output = output
        self._taken = {_key(path) for path in inputs} | {
            _key(output / name) for name in ("detections.json", "detections.csv")
        }

    def choose(self, place: Path, suffix: str, *also: str) -> Path:
        """The input's name with the suffix, and with a number where it, or it with a suffix of `also`, is taken."""
        stem = self._output / place.with_suffix("")
        stem = stem.with_name(cut_name(stem.name, len("-100000") + max(map(len, (suffix, *also)))))
        number = 1
        while True:
            name = stem.name if number == 1 else f"{stem.name}-{number}"
            paths = [stem.with_name(name + ending) for ending in (suffix, *also)]
            if not self._taken & {_key(path) for path in paths}:
                self._taken |= {_key(path) for path in paths}
                return paths[0]
            number += 1


def scenes_of(scenes: Scenes, facts: Sequence[ImageFacts]) -> Scenes:
    """Images from anywhere as scenes without boxes, with the classes of `scenes`."""
    count = len(facts)
    return replace(
        scenes,
        root=Path("/"),
        paths=np.asarray([str(one.path.resolve()) for one in facts], object),
        widths=np.asarray([one.width for one in facts], np.int32),
        heights=np.asarray([one.height for one in facts], np.int32),
        splits=np.full(count, "val", object),
        digests=np.asarray([one.sha256 for one in facts], object),
        offsets=np.zeros(count + 1, np.int64),
        boxes=np.empty((0, 4), np.float32),
        labels=np.empty(0, np.int64),
        areas=np.empty(0, np.float32),
        ignored=np.empty(0, bool),
    )


def write_detections(
    folder: Path, names: Sequence[str], sizes: Sequence[tuple[int, int]], table: DetectionTable, scenes: Scenes
) -> None:
    """Write detections.json and detections.csv.

    The JSON's `annotations` are COCO's results (image_id, category_id, bbox as left, top, width, height, score) with
    the fields that make them annotations too (id, area, iscrowd), so that labelling tools take the file as a start.
    """
    rows = list(zip(*(column.tolist() for column in table.columns().values()), strict=True))
    write_json(
        folder / "detections.json",
        {
            "images": [
                {"id": number, "file_name": name, "width": int(width), "height": int(height)}
                for number, (name, (width, height)) in enumerate(zip(names, sizes, strict=True), start=1)
            ],
            "categories": [
                {"id": number, "name": name} for number, name in zip(scenes.category_ids, scenes.classes, strict=True)
            ],
            "annotations": [
                _annotation(number, image + 1, scenes.category_ids[label - 1], score, box)
                for number, (image, label, score, box) in enumerate(rows, start=1)
            ],
        },
    )
    lines = (
        (names[image], scenes.classes[label - 1], f"{score:.4f}", *(f"{side:.1f}" for side in box))
        for image, label, score, box in rows
    )
    write_csv(folder / "detections.csv", CSV_COLUMNS, lines, guarded=True)


def _annotation(number: int, image: int, category: int, score: float, box: Sequence[float]) -> dict[str, Any]:
    left, top, right, bottom = box
    sides = [round(side, 2) for side in (left, top, right - left, bottom - top)]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": sides,
        "area": round(sides[2] * sides[3], 2),
        "iscrowd": 0,
        "score": round(score, 5),
    }


def _readable(inputs: Sequence[Input], console: Console) -> tuple[list[Input], list[ImageFacts]]:
    """The images that DALI will decode, with what is known of them; the others are named."""
    paths = [one.path for one in inputs]
    answers = {facts.path: facts for facts in probe_all(paths, workers=0 if len(paths) <= PROBE_ALONE else None)}
    facts = [answers[path] for path in paths]
    for one in facts:
        if isinstance(one, ImageProblem):
            console.print(plain(f"left out: {one.path}: {one.reason}"), soft_wrap=True)
    sound = [(given, one) for given, one in zip(inputs, facts, strict=True) if isinstance(one, ImageFacts)]
    return [given for given, _ in sound], [one for _, one in sound]


def _shown(names: Sequence[str], table: DetectionTable, classes: Sequence[str], title: str) -> Table:
    """The best detections of the first images."""
    shown = Table("image", "class", "score", "left", "top", "right", "bottom", title=plain(title))
    for column in shown.columns[2:]:
        column.justify = "right"
    for number, name in enumerate(names[:SHOWN_IMAGES]):
        own = table.select(table.images == number)
        for row in range(min(len(own), SHOWN)):
            box = (f"{side:.0f}" for side in own.boxes[row])
            shown.add_row(
                plain("" if row else name), plain(classes[own.labels[row] - 1]), f"{own.scores[row]:.2f}", *box
            )
        if not len(own):
            shown.add_row(plain(name), "nothing found")
        elif len(own) > SHOWN:
            shown.add_row("", f"and {len(own) - SHOWN} more")
    if len(names) > SHOWN_IMAGES:
        shown.add_row(f"and {len(names) - SHOWN_IMAGES:,} more images")
    return shown


def _draw_all(
    images: Sequence[Input], table: DetectionTable, classes: Sequence[str], targets: Targets, console: Console
) -> None:
    with counting("drawing", console) as count:
        for number, one in enumerate(images):
            own = table.select(table.images == number)
            picture, boxes = enlarged(read_picture(one.path), own.boxes)
            draw_detections(picture, boxes, own.labels, own.scores, classes)
            is_png = one.path.suffix.lower() == ".png"
            target = targets.choose(one.place, ".png" if is_png else ".jpg")
            with atomic_writer(target) as stream:
                picture.save(stream, "PNG") if is_png else picture.save(stream, "JPEG", quality=92)
            count(number + 1, len(images))


def enlarged(picture: Image.Image, boxes: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """A small picture, and its boxes, a whole number of times as large."""
    factor = SMALL_SIDE // max(picture.size)
    if factor < 2:
        return picture, boxes
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST), boxes * factor


def _annotate_videos(
    videos: Sequence[Input],
    find: "FrameDetector",
    classes: Sequence[str],
    targets: Targets,
    console: Console,
    threshold: float,
) -> int:
    """Annotate each video that can be read, and return how many they were."""
    from challenges.detection.video import annotate_video

    done = 0
    for one in videos:
        target = targets.choose(one.place, ".mp4", ".jsonl")
        try:
            with counting(one.path.name, console) as count:
                summary = annotate_video(one.path, target, find, classes, threshold=threshold, progress=count)
        except DataError as problem:
            console.print(f"left out: {problem}", soft_wrap=True, markup=False)
            continue
        done += 1
        for line in summary.lines():
            console.print(plain(line), soft_wrap=True)
        console.print(plain(f"Annotated copy and its boxes: {target}, {target.stem}.jsonl"), soft_wrap=True)
    return done


def _nothing(inputs: Sequence[Path]) -> DataError:
    return DataError(
        f"There is no readable image or video among: {', '.join(map(str, inputs))}.",
        f"Images end in {', '.join(sorted(EXTENSIONS))}, videos in {', '.join(sorted(VIDEO_EXTENSIONS))}.",
    )


def _key(path: Path) -> str:
    """The same for paths that a file system without case takes for one."""
    return str(path.resolve()).casefold()
