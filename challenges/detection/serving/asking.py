"""How a served detector is asked: image files in, what was found where in each of them out."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Column, Table

from challenges.detection.comparison import SHOWN
from common.question import Question
from common.serving.dialogue import Dialogue
from common.serving.encoded import image_requests
from common.terminal.console import plain

if TYPE_CHECKING:
    from common.export.runner import Arrays
    from common.serving.client import Client

SIDES = ("left", "top", "right", "bottom")  # of a box, in pixels


class Detection(NamedTuple):
    """One thing found in an image.

    label: the class's number, from 1 on.
    box:   left, top, right, bottom in the pixels of the image as it is looked at: after the orientation EXIF states.
    """

    name: str
    label: int
    score: float
    box: tuple[float, float, float, float]


def detect(
    client: "Client", model: str, images: Sequence[Path | str | bytes], *, batch: int = 8
) -> list[list[Detection]]:
    """What a detector finds in each image, best first.

    images: files or their bytes; `batch` of them travel in one request, padded to the longest.
    """
    return [found for inputs in image_requests(images, batch) for found in detections(client.infer(model, inputs))]


def detections(answer: "Arrays") -> list[list[Detection]]:
    """The rows before the padding, image by image."""
    found = []
    for image, count in enumerate(answer["count"].ravel().tolist()):
        names, labels, scores, boxes = (answer[name][image, :count] for name in ("names", "labels", "scores", "boxes"))
        rows = zip(names.tolist(), labels.tolist(), scores.tolist(), boxes.tolist(), strict=True)
        found.append([Detection(name.decode(), label, score, tuple(box)) for name, label, score, box in rows])
    return found


class DetectorDialogue(Dialogue):
    """With a detector."""

    takes = ("inputs", "threshold")
    example = "IMAGE"

    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        return inputs == {"encoded"} and outputs >= {"boxes", "scores", "labels", "names", "count"}

    def requests(self, question: Question, batch: int) -> "Iterator[Arrays]":
        return image_requests(question.inputs, batch)

    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        threshold = SHOWN if question.threshold is None else question.threshold
        table = Table("image", "what", "score", *(Column(side, justify="right") for side in SIDES))
        everything = [found for answer in answers for found in detections(answer)]
        for image, found in zip(question.inputs, everything, strict=True):
            shown = [detection for detection in found if detection.score >= threshold]
            for detection in shown:
                sides = (f"{edge:.0f}" for edge in detection.box)
                table.add_row(plain(str(image)), plain(detection.name), f"{detection.score:.1%}", *sides)
            if not shown:
                table.add_row(plain(str(image)), "nothing")
        console.print(table)


DIALOGUES = (DetectorDialogue(),)
