"""How a served classifier is asked: image files in, the likeliest classes of each out."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from challenges.classification.serving import EMBEDDING
from common.errors import ServingError
from common.question import Question
from common.serving.dialogue import Dialogue
from common.serving.encoded import image_requests
from common.terminal.console import plain

if TYPE_CHECKING:
    from common.export.runner import Arrays
    from common.serving.client import Client

SHOWN = 3  # classes of an image, where the question does not say


def classify(
    client: "Client", model: str, images: Sequence[Path | str | bytes], top_k: int = 5, batch: int = 8
) -> list[list[tuple[str, float]]]:
    """The `top_k` best class names and scores of each image, best first.

    images: files or their bytes; `batch` of them travel in one request, padded to the longest.
    """
    answers = (client.infer(model, inputs, classes=top_k) for inputs in image_requests(images, batch))
    return [row for answer in answers for row in best_classes(answer)]


def embed(client: "Client", model: str, images: Sequence[Path | str | bytes], batch: int = 8) -> np.ndarray:
    """(image, width) float32, of length one: what the served network sees. images: files or their bytes.

    Raises ServingError where the model was exported without it.
    """
    if EMBEDDING not in {tensor["name"] for tensor in client.metadata(model)["outputs"]}:
        raise ServingError(
            f"The model {model} at {client.url} gives no embedding.",
            "It does where the run was exported with it.",
            "kit export RUN --embedding, then kit parity RUN, then kit serve RUN",
        )
    answers = [client.infer(model, inputs, outputs=(EMBEDDING,)) for inputs in image_requests(images, batch)]
    return np.concatenate([answer[EMBEDDING] for answer in answers])


def best_classes(answer: "Arrays") -> list[list[tuple[str, float]]]:
    """Image by image, the names and scores of an answer that was asked for by name."""
    (entries,) = answer.values()
    return [[_name_and_score(entry) for entry in row] for row in entries.reshape(-1, entries.shape[-1])]


def _name_and_score(entry: bytes) -> tuple[str, float]:
    """Triton writes `score:index:name`; the name may hold colons, and is missing where a model has no labels."""
    score, index, *name = entry.decode().split(":", 2)
    return (name[0] if name else index), float(score)


class ClassifierDialogue(Dialogue):
    """With a classifier: the best classes are asked for by name."""

    takes = ("inputs", "top_k")
    example = "IMAGE"

    def fits(self, inputs: AbstractSet[str], outputs: AbstractSet[str]) -> bool:
        return inputs == {"encoded"} and len(outputs - {EMBEDDING}) == 1

    def requests(self, question: Question, batch: int) -> "Iterator[Arrays]":
        return image_requests(question.inputs, batch)

    def classes(self, question: Question) -> int:
        return question.top_k or SHOWN

    def show(self, model: str, question: Question, answers: "Sequence[Arrays]", console: Console) -> None:
        table = Table("image", *(f"{place}." for place in range(1, self.classes(question) + 1)))
        rows = [row for answer in answers for row in best_classes(answer)]
        for image, row in zip(question.inputs, rows, strict=True):
            table.add_row(plain(str(image)), *(plain(f"{name} {score:.1%}") for name, score in row))
        console.print(table)


DIALOGUES = (ClassifierDialogue(),)
