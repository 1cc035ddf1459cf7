"""A classifier on the page: a picture in; the likeliest classes, what the network saw and where it looked out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from challenges.classification.activation_map import activation_map, overlay
from challenges.classification.manifest import Manifest
from challenges.classification.report import Predictions
from challenges.classification.search.verbs import SimilarPictures
from challenges.classification.serving.asking import classify
from common.challenge import Playground, Trained
from common.language.telling import english, tell, tell_count
from common.playground.corrections import class_folder, write_picture
from common.playground.fields import Example, Option, PictureField, Values
from common.playground.session import Engine, Session, Verdict, require_options
from common.playground.uploads import readable_picture
from common.report.elements import Markup, bar, gallery, join, paragraph, percentage, picture, table
from common.report.pictures import LARGE, jpeg_uri, thumbnail

SHOWN, EXAMPLES, SIMILAR = 5, 12, 6  # classes of an answer; validation pictures to begin with; indexed ones beside
SMALLEST = 224  # pixels of the side to which what the network saw is enlarged


@dataclass(frozen=True, eq=False)
class Answer:
    """What was said about a picture.

    encoded, kind: the file's bytes, and its format. upright: a data URI of it.
    similar:       indexed pictures and their cosines.
    probability:   (class,) float32. seen: (crop, crop, 3) uint8. places: (rows, columns) float32, of the best class.
    """

    encoded: bytes
    kind: str
    upright: str
    probability: np.ndarray
    seen: np.ndarray
    places: np.ndarray
    similar: tuple[tuple[Path, float], ...] = ()

    @property
    def best(self) -> int:
        return int(self.probability.argmax())


class ClassifierPlayground(Playground):
    """Any picture may be asked about."""

    def open(self, trained: Trained[Any, Any, Any], engine: Engine) -> "ClassifierSession":
        return ClassifierSession(trained, engine)


class ClassifierSession(Session):
    """One classifier; its page asks which class would have been right."""

    fields = (
        PictureField(name="picture", label=english("Picture"), help=english("Drop one, paste one, or use the camera.")),
    )
    verdict_kind = "one"

    def __init__(self, trained: Trained[Any, Any, Any], engine: Engine) -> None:
        self._trained, self._engine = trained, engine
        self._classes: tuple[str, ...] = trained.data.manifest.classes
        self._validation: Manifest = trained.data.validation
        self._hard = _hard_first(trained)
        self._similar = SimilarPictures.of(trained)
        self.name = trained.run.path.name
        self.about = english(
            "tells {classes:,} classes apart, trained on {pictures:,} photographs",
            classes=len(self._classes),
            pictures=trained.data.num_train,
        )

    def examples(self) -> Sequence[Example]:
        return [Example(_caption(*said), thumbnail(self._path(row)) or "") for row, *said in self._hard]

    def example(self, number: int) -> Values:
        return {"picture": self._path(self._hard[number][0]).read_bytes()}

    def ask(self, values: Values) -> Answer:
        with readable_picture(values.get("picture")) as (encoded, facts):
            images = self._images(facts.path)
            with Image.open(facts.path) as opened:
                upright = jpeg_uri(ImageOps.exif_transpose(opened), LARGE)
            similar = self._similar(facts.path, SIMILAR) if self._similar is not None else []
        probability = self._probability(encoded, images)
        model = self._trained.task.model
        places = activation_map(model, images, int(probability.argmax()))[0].numpy()
        seen = self._trained.data.preprocessing.pixels(images.numpy())[0]
        return Answer(encoded, facts.format, upright, probability, seen, places, tuple(similar))

    def show(self, answer: Answer, controls: Values) -> Markup:
        order = np.argsort(-answer.probability, kind="stable")[:SHOWN]
        rows = [
            (self._classes[place], bar(float(answer.probability[place])), percentage(answer.probability[place]))
            for place in order
        ]
        best = self._classes[answer.best]
        cards = [
            _card(answer.upright, tell("The picture")),
            _card(_enlarged(answer.seen), tell("What the network saw")),
            _card(_enlarged(overlay(answer.seen, answer.places)), tell("Where it looked for {name}", name=best)),
        ]
        parts = [table((tell("class"), "", tell("probability")), rows, numeric=(2,)), gallery(cards)]
        found = [(thumbnail(path), cosine) for path, cosine in answer.similar]
        alike = [(picture(uri, tell("a similar picture")), f"{cosine:.2f}") for uri, cosine in found if uri]
        return join(
            [*parts, paragraph(tell("Indexed pictures that are most like it")), gallery(alike)] if alike else parts
        )

    def verdict(self, answer: Answer, controls: Values) -> Verdict:
        options = tuple(Option(name, name) for name in self._classes)
        return Verdict(tell("What does it show?"), options, (self._classes[answer.best],))

    def keep(self, answer: Answer, controls: Values, right: Sequence[str], folder: Path) -> str:
        require_options(self.verdict(answer, controls), right)
        (name,) = right
        kept = write_picture(answer.encoded, answer.kind, class_folder(folder, name))
        for other in self._classes:  # what was said of the same picture before
            if other != name:
                (class_folder(folder, other) / kept.name).unlink(missing_ok=True)
        count = sum(1 for _ in folder.glob("*/*"))
        so_far = tell_count("There is one picture so far.", "There are {count:,} pictures so far.", count)
        return f"{tell('Kept as {name}.', name=name)} {so_far}"

    def _images(self, path: Path) -> torch.Tensor:
        """(1, 3, crop, crop) float32, prepared as for the evaluation."""
        data = self._trained.data
        split = data.manifest.with_files(Path("/"), [str(path)], np.zeros(1, np.int64))
        batch = next(iter(data.batches_of(split, np.arange(1))))
        return torch.from_numpy(np.array(batch["images"].cpu().numpy(), order="C"))

    def _probability(self, encoded: bytes, images: torch.Tensor) -> np.ndarray:
        if self._engine.runner is not None:
            return np.asarray(self._engine.runner({"images": images.numpy()})["probabilities"][0])
        with self._engine.connect() as client:
            (named,) = classify(client, self._engine.model, [encoded], top_k=len(self._classes))
        scores = dict(named)
        return np.asarray([scores.get(name, 0.0) for name in self._classes], np.float32)

    def _path(self, row: int) -> Path:
        return Path(self._validation.root) / str(self._validation.paths[row])


def _hard_first(trained: Trained[Any, Any, Any]) -> list[tuple[int, str, str]]:
    """Rows of validation photographs, the class of each and what it was taken for, the least expected answers first."""
    validation, classes = trained.data.validation, trained.data.manifest.classes
    if not trained.run.predictions_file.is_file():
        owns = [classes[label] for label in validation.labels[:EXAMPLES].tolist()]
        return [(row, own, own) for row, own in enumerate(owns)]
    found = Predictions.read(trained.run.predictions_file)
    rows = []
    for place in np.argsort(found.label_probability, kind="stable")[:EXAMPLES].tolist():
        own, said = classes[found.label[place]], classes[found.predicted[place]]
        rows.append((int(found.index[place]), own, said))
    return rows


def _caption(own: str, said: str) -> str:
    return own if own == said else tell("{own}, taken for {said}", own=own, said=said)


def _card(uri: str, told: str) -> tuple[Markup, str]:
    return picture(uri, told), told


def _enlarged(pixels: np.ndarray) -> str:
    """A data URI of a small picture, a whole number of times as large."""
    shown = Image.fromarray(pixels)
    factor = max(1, -(-SMALLEST // shown.width))
    return jpeg_uri(shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST), LARGE)
