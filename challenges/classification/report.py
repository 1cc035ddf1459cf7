"""The classification sections of a run's page: accuracy, confusion, mistakes, calibration, data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from common.language.telling import english, grouped, retell, tell
from common.report.confusion import confusion_figures
from common.report.data import data_warnings, quarantined_files
from common.report.elements import (
    Markup,
    Section,
    bar,
    columns,
    facts,
    folded_table,
    gallery,
    join,
    notice,
    paragraph,
    percentage,
    percentage_range,
    picture,
)
from common.report.pictures import jpeg_uri, thumbnail
from common.report.plots import reliability_chart
from common.run.result import Baseline, wilson
from common.run.run_directory import RunDirectory

CALIBRATION_BINS = 15  # Guo et al. 2017, arXiv:1706.04599
NOTICEABLE_GAP = 0.01  # between mean confidence and accuracy
MISTAKES = 24  # thumbnails of wrong answers


class Images(Protocol):
    """What the page needs to know of a manifest.

    paths: relative to root, (image,); labels: (image,) int; splits: "train" or "val", (image,).
    """

    @property
    def root(self) -> Path: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def paths(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def splits(self) -> np.ndarray: ...
    def subset(self, split: str) -> "Images": ...


@dataclass(frozen=True)
class Predictions:
    """The last evaluation, one row per validation image, every column (image,).

    index:             the row in the validation subset.
    probability:       of the predicted class.
    label_probability: of the true class.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    label_probability: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Predictions":
        with np.load(path) as stored:
            return cls(**{name: stored[name] for name in cls.__dataclass_fields__})

    @property
    def correct(self) -> np.ndarray:
        return np.asarray(self.predicted == self.label)

    def confusion(self, num_classes: int) -> np.ndarray:
        """Counts (true class, predicted class)."""
        cells = np.bincount(self.label * num_classes + self.predicted, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)


def sections(run: RunDirectory, manifest: Images) -> list[Section]:
    """Everything the run's files allow: the data sections always, the others once there are predictions."""
    parts: list[Section] = []
    if run.predictions_file.is_file():
        predictions = Predictions.read(run.predictions_file)
        parts = [
            accuracy_section(predictions, manifest),
            confusion_section(predictions, manifest.classes),
            mistakes_section(predictions, manifest),
            calibration_section(predictions),
        ]
    return [*parts, data_section(run, manifest)]


def majority_baseline(manifest: Images) -> Baseline:
    """The validation accuracy of always answering with the class that is most frequent in training."""
    counts = _class_counts(manifest)
    favourite = int(counts["train"].argmax())
    share = counts["val"][favourite] / max(1, counts["val"].sum())
    name = english("always “{name}”, the most frequent class", name=manifest.classes[favourite])
    return Baseline(name, float(share))


def expected_calibration_error(
    probability: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Mean distance of confidence and accuracy over equally wide bins, weighted by their samples (arXiv:1706.04599).

    probability, correct: (sample,).
    returns: the error, and per bin the count, the correct ones and the summed confidence.
    """
    place = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    hits = np.bincount(place, correct, bins)
    confidence = np.bincount(place, probability, bins)
    return float(np.abs(hits - confidence).sum() / max(1, len(probability))), counts, hits, confidence


def accuracy_section(predictions: Predictions, manifest: Images) -> Section:
    """Accuracy of every class with its interval, the weakest class first."""
    counts = predictions.confusion(len(manifest.classes))
    hits, totals = counts.diagonal(), counts.sum(axis=1)
    overall = wilson(int(hits.sum()), int(totals.sum()))
    baseline = majority_baseline(manifest)
    summary = facts(
        [
            (
                tell("All classes"),
                tell(
                    "{share} of {images:,} images ({interval})",
                    share=percentage(predictions.correct.mean()),
                    images=totals.sum(),
                    interval=percentage_range(overall),
                ),
            ),
            (tell("Mean over classes"), percentage(np.mean(hits[totals > 0] / totals[totals > 0]))),
            (tell("Baseline"), f"{percentage(baseline.value)} ({retell(baseline.name)})"),
        ]
    )
    order = sorted(np.flatnonzero(totals), key=lambda label: (hits[label] / totals[label], -totals[label]))
    rows = [_accuracy_row(manifest.classes[label], int(hits[label]), int(totals[label])) for label in order]
    head = (
        tell("class"), tell("accuracy"), tell("with 95 % interval"), tell("interval"), tell("correct"), tell("images")
    )  # fmt: skip
    return Section("Accuracy per class", summary + folded_table(head, rows, numeric=(1, 3, 4, 5)))


def confusion_section(predictions: Predictions, classes: Sequence[str]) -> Section:
    """Which classes are taken for which."""
    counts = predictions.confusion(len(classes))
    nothing = tell("No class was taken for another.")
    body = confusion_figures(classes, counts, tell("Validation images"), tell("images"), nothing)
    return Section("Confusion matrix", body)


def mistakes_section(predictions: Predictions, manifest: Images) -> Section:
    """The wrong answers given with the highest confidence, as thumbnails."""
    wrong = np.flatnonzero(~predictions.correct)
    if not len(wrong):
        words = tell("All {count:,} validation images were classified correctly.", count=len(predictions.label))
        return Section("Worst mistakes", notice(words, "good"))
    validation = manifest.subset("val")
    order = wrong[np.argsort(-predictions.probability[wrong], kind="stable")]
    cards = [_mistake_card(predictions, validation, row) for row in order[:MISTAKES]]
    words = tell(
        "{wrong:,} of {images:,} validation images got a wrong answer.",
        wrong=len(wrong),
        images=len(predictions.label),
    )
    if len(wrong) > MISTAKES:
        words += " " + tell("These {shown} were given with the highest confidence.", shown=MISTAKES)
    return Section("Worst mistakes", paragraph(words) + gallery(cards))


def calibration_section(predictions: Predictions) -> Section:
    """Whether the model is right as often as it says."""
    error, counts, hits, confidence = expected_calibration_error(predictions.probability, predictions.correct)
    accuracy = np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    intervals = np.array([wilson(int(hit), int(count)) for hit, count in zip(hits, counts, strict=True)])
    gap = float(confidence.sum() - hits.sum()) / max(1, counts.sum())
    leaning = (
        tell("On average the model is underconfident.") if gap < 0 else tell("On average the model is overconfident.")
    )
    if abs(gap) < NOTICEABLE_GAP:
        leaning = tell("On average the model is as confident as it is right.")
    edges = np.linspace(0, 1, len(counts) + 1)
    chart = reliability_chart(tell("Reliability"), edges, accuracy, intervals, counts)
    words = facts(
        [
            (tell("Calibration error"), tell("{error:.4f} (ECE, {bins} bins)", error=error, bins=len(counts))),
            (tell("Mean confidence"), percentage(predictions.probability.mean())),
            (tell("Accuracy"), percentage(predictions.correct.mean())),
        ]
    )
    text = paragraph(f"{leaning} " + tell("Bars below the dashed line mean more confidence than the answers deserve."))
    return Section("Calibration", columns(chart, text + words))


def data_section(run: RunDirectory, manifest: Images) -> Section:
    """Class balance, what the check warned about, and the files it put aside."""
    counts = _class_counts(manifest)
    train, validation, test = counts["train"], counts["val"], counts["test"]
    total = train + validation + test
    has_test = bool(test.any())
    rows = [
        (
            manifest.classes[label],
            bar(total[label] / total.max(), colour="third"),
            grouped(train[label]),
            grouped(validation[label]),
            *([grouped(test[label])] if has_test else []),
            percentage(total[label] / total.sum()),
        )
        for label in np.argsort(-total, kind="stable")
    ]
    counted = {
        "classes": len(manifest.classes), "train": train.sum(), "validation": validation.sum(), "test": test.sum(),
    }  # fmt: skip
    summary = tell("{classes:,} classes, {train:,} training and {validation:,} validation images.", **counted)
    if has_test:
        summary = tell(
            "{classes:,} classes, {train:,} training and {validation:,} validation and {test:,} test images.", **counted
        )
    extra = [tell("test")] if has_test else []
    head = (tell("class"), tell("images"), tell("training"), tell("validation"), *extra, tell("share"))
    balance = folded_table(head, rows, numeric=range(2, len(head)))
    parts = [paragraph(summary), *data_warnings(run), balance, *quarantined_files(run)]
    return Section("Data", join(parts))


def sample_grid(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Section:
    """Training samples after augmentation, as the network sees them.

    images: (sample, height, width, 3) uint8; labels: (sample,).
    """
    cards = [
        (picture(jpeg_uri(image), tell("training sample of class {name}", name=classes[label])), classes[label])
        for image, label in zip(images, labels, strict=True)
    ]
    words = tell(
        "Training samples after augmentation, {width} by {height} pixels.",
        width=images.shape[2],
        height=images.shape[1],
    )
    return Section("Samples as the network sees them", paragraph(words) + gallery(cards), anchor="samples")


def _accuracy_row(name: str, hits: int, total: int) -> tuple[object, ...]:
    interval = wilson(hits, total)
    return (
        name,
        percentage(hits / total),
        bar(hits / total, interval),
        percentage_range(interval),
        grouped(hits),
        grouped(total),
    )


def _mistake_card(predictions: Predictions, validation: Images, row: int) -> tuple[str, Markup]:
    path = str(validation.paths[predictions.index[row]])
    label, predicted = (validation.classes[column[row]] for column in (predictions.label, predictions.predicted))
    uri = thumbnail(validation.root / path)
    gone = Markup('<span class="missing">{}</span>').format(tell("cannot be read"))
    image = picture(uri, tell("{label} taken for {predicted}", label=label, predicted=predicted)) if uri else gone
    given, missed = percentage(predictions.probability[row]), percentage(predictions.label_probability[row])
    told = Markup(tell("<b>{label}</b> taken for <b>{predicted}</b>")).format(label=label, predicted=predicted)
    text = Markup("{}<br>{} {}, {} {}<br><small>{}</small>").format(told, given, predicted, missed, label, path)
    return image, text


def _class_counts(manifest: Images) -> dict[str, np.ndarray]:
    """Images per class (class,) of each split."""
    length = len(manifest.classes)
    return {
        split: np.bincount(manifest.labels[manifest.splits == split], minlength=length)
        for split in ("train", "val", "test")
    }
