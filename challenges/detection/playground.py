"""A detector on the page: a picture in; boxes from a threshold on, counts, tables and files of them out."""

import base64
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from challenges.detection.analysis import image_errors
from challenges.detection.annotations.voc_files import write_voc
from challenges.detection.detections import Detections, DetectionTable
from challenges.detection.drawing import draw_detections, read_picture
from challenges.detection.evaluation import evaluate
from challenges.detection.films import NOTHING, DetectorVideos, table_of
from challenges.detection.predict import SHOWN_FROM, enlarged, scenes_of, write_detections
from challenges.detection.scenes import Scenes
from challenges.detection.searching import search
from challenges.detection.serving.asking import detect
from common.challenge import Playground, Trained
from common.language.telling import english, tell, tell_count
from common.playground.corrections import stem_of, write_picture
from common.playground.fields import Example, Option, PictureField, SliderField, Values
from common.playground.session import Engine, Session, Verdict, require_options
from common.playground.uploads import readable_picture
from common.report.elements import Markup, details, join, notice, paragraph, percentage, picture, table
from common.report.pictures import jpeg_uri, thumbnail
from common.vision.images import ImageFacts

NAMED = 6  # classes
EXAMPLES, LISTED = 12, 200  # validation pictures to begin with; detections of a table
DRAWN = 1000  # pixels of the longer side of the picture with its boxes


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in a picture.

    encoded, kind: the file's bytes, and its format. pixels: upright. table: all detections, in those pixels.
    """

    encoded: bytes
    kind: str
    pixels: Image.Image
    table: DetectionTable

    def above(self, controls: Values) -> DetectionTable:
        return self.table.select(self.table.scores >= float(controls["threshold"]))


class DetectorPlayground(Playground):
    """Any picture may be asked about."""

    def open(self, trained: Trained[Any, Any, Any], engine: Engine) -> "DetectorSession":
        return DetectorSession(trained, engine)


class DetectorSession(Session):
    """One detector; its page asks which of the boxes are right."""

    fields = (
        PictureField(name="picture", label=english("Picture"), help=english("Drop one, paste one, or use the camera.")),
    )
    verdict_kind = "several"

    def __init__(self, trained: Trained[Any, Any, Any], engine: Engine) -> None:
        self._trained, self._engine = trained, engine
        self._scenes: Scenes = trained.data.scenes
        self._validation: Scenes = trained.data.validation
        self._hard = _hard_first(trained)
        self.videos = DetectorVideos(trained, engine, self._asked)
        lowest = float(trained.recipe.nms.score_threshold)
        self.controls = (
            SliderField(
                name="threshold", label=english("Lowest score shown"), low=round(lowest, 2), high=0.95, step=0.01,
                value=max(SHOWN_FROM, round(lowest, 2)),
            ),
        )  # fmt: skip
        self.name = trained.run.path.name
        named = ", ".join(self._scenes.classes[:NAMED])
        others = len(self._scenes.classes) - NAMED
        self.about = english("finds {names}", names=named)
        if others > 0:
            self.about = english("finds {names} and {others:,} other things", names=named, others=others)

    def examples(self) -> Sequence[Example]:
        return [
            Example(
                tell("{missed} missed, {false} false", missed=missed, false=false), thumbnail(self._path(row)) or ""
            )
            for row, missed, false in self._hard
        ]

    def example(self, number: int) -> Values:
        return {"picture": self._path(self._hard[number][0]).read_bytes()}

    def ask(self, values: Values) -> Answer:
        with readable_picture(values.get("picture")) as (encoded, facts):
            return Answer(encoded, facts.format, read_picture(facts.path), self._found(encoded, facts))

    def show(self, answer: Answer, controls: Values) -> Markup:
        found, classes = answer.above(controls), self._scenes.classes
        drawn, boxes = enlarged(answer.pixels.copy(), found.boxes)
        draw_detections(drawn, boxes, found.labels, found.scores, classes)
        counts = np.bincount(found.labels, minlength=len(classes) + 1)[1:]
        told = ", ".join(
            f"{counts[place]} {classes[place]}" for place in np.argsort(-counts, kind="stable") if counts[place]
        )
        rows = [
            (classes[label - 1], percentage(score), *(f"{side:.0f}" for side in box))
            for label, score, box in zip(
                found.labels[:LISTED], found.scores[:LISTED], found.boxes[:LISTED], strict=True
            )
        ]
        head = (tell("class"), tell("score"), tell("left"), tell("top"), tell("right"), tell("bottom"))
        return join(
            [
                paragraph(told) if told else notice(tell(NOTHING)),
                picture(jpeg_uri(drawn, DRAWN), tell("the picture with: {boxes}", boxes=told or tell("no boxes"))),
                details(
                    tell("{count:,} boxes in pixels", count=len(found)),
                    join([table(head, rows, numeric=range(1, 6)), self._files(answer, found)]),
                ),
            ]
        )

    def verdict(self, answer: Answer, controls: Values) -> Verdict:
        found = answer.above(controls)
        labels = [
            f"{number}. {self._scenes.classes[label - 1]} {percentage(score)}"
            for number, (label, score) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), strict=True), 1)
        ]
        options = tuple(Option(str(number), label) for number, label in enumerate(labels))
        return Verdict(tell("Which of these boxes are right?"), options, tuple(option.value for option in options))

    def keep(self, answer: Answer, controls: Values, right: Sequence[str], folder: Path) -> str:
        require_options(self.verdict(answer, controls), right)
        found = answer.above(controls).select(np.asarray(sorted(map(int, right)), np.int64))
        kept = write_picture(answer.encoded, answer.kind, folder / "JPEGImages")
        names = [self._scenes.classes[label - 1] for label in found.labels.tolist()]
        annotation = folder / "Annotations" / f"{stem_of(answer.encoded)}.xml"
        write_voc(annotation, kept.name, answer.pixels.size, names, found.boxes)
        count = sum(1 for _ in annotation.parent.glob("*.xml"))
        kept_with = tell_count("Kept with one box.", "Kept with {count:,} boxes.", len(found))
        so_far = tell_count("There is one picture so far.", "There are {count:,} pictures so far.", count)
        return f"{kept_with} {so_far}"

    def _found(self, encoded: bytes, facts: ImageFacts) -> DetectionTable:
        if self._engine.runner is None:
            with self._engine.connect() as client:
                (found,) = detect(client, self._engine.model, [encoded])
            return table_of([found])
        scenes = scenes_of(self._scenes, [facts])
        batches = self._trained.data.searched(scenes, np.arange(1))
        return search(self._asked, batches, scenes.widths, scenes.heights, self._trained.recipe.nms).table

    def _asked(self, images: torch.Tensor) -> Detections:
        """What the engine of this process finds in images as the network takes them."""
        assert self._engine.runner is not None
        answer = self._engine.runner({"images": np.array(images.cpu().numpy(), order="C")})
        return Detections(*(torch.from_numpy(answer[name]) for name in ("boxes", "scores", "labels")))

    def _files(self, answer: Answer, found: DetectionTable) -> Markup:
        """Links to the boxes as COCO JSON and as CSV, which lie in the links themselves."""
        with tempfile.TemporaryDirectory(prefix="kit-demo-") as folder:
            write_detections(Path(folder), ["picture"], [answer.pixels.size], found, self._scenes)
            links = [
                _download(name, kind, (Path(folder) / name).read_bytes())
                for name, kind in (("detections.json", "application/json"), ("detections.csv", "text/csv"))
            ]
        return Markup("<p>{}</p>").format(join(links, " · "))

    def _path(self, row: int) -> Path:
        return Path(self._validation.root) / str(self._validation.paths[row])


def _download(name: str, kind: str, content: bytes) -> Markup:
    encoded = base64.b64encode(content).decode()
    return Markup('<a download="{0}" href="data:{1};base64,{2}">{0}</a>').format(name, kind, encoded)


def _hard_first(trained: Trained[Any, Any, Any]) -> list[tuple[int, int, int]]:
    """Rows of validation images, boxes missed and false ones of each, those with most mistakes first."""
    validation: Scenes = trained.data.validation
    if not trained.run.predictions_file.is_file():
        return [(row, 0, 0) for row in range(min(EXAMPLES, len(validation)))]
    with np.load(trained.run.predictions_file) as stored:
        found = DetectionTable.from_columns(stored)
    errors = image_errors(validation, found, evaluate(validation, found, resamples=0).matches, SHOWN_FROM)
    order = np.argsort(-(errors.missed + errors.false), kind="stable")[:EXAMPLES]
    return [(row, int(errors.missed[row]), int(errors.false[row])) for row in order.tolist()]
