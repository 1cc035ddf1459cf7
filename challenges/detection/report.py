"""The detection sections of a run's page: precision, confusion, thresholds, the worst and best images, the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from challenges.detection.analysis import (
    best_thresholds,
    class_scores,
    found_boxes,
    image_errors,
)
from challenges.detection.detections import UNTILED, DetectionTable
from challenges.detection.drawing import captions_of, draw_boxes, read_picture
from challenges.detection.evaluation import RECALLS, Scores, confusion, evaluate
from challenges.detection.palette import class_colours
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.scenes import Scenes
from common.errors import DataError
from common.report.confusion import confusion_figures
from common.report.data import check_record, data_warnings, quarantined_files
from common.report.elements import (
    Key,
    Markup,
    Section,
    bar,
    columns,
    facts,
    figure,
    folded_table,
    gallery,
    join,
    notice,
    paragraph,
    percentage,
    picture,
)
from common.report.pictures import LARGE, jpeg_uri
from common.report.plots import Colour, Line, curve_chart
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory

SHOWN_SCORE = 0.3  # from which detections are counted and drawn on the page, as `kit predict` does
WORST, BEST = 12, 6  # images drawn
COLOURS: tuple[Colour, ...] = ("accent", "second", "third", "bad", "good", "muted")
NAMES = {
    "ap": "AP (IoU 0.5 to 0.95)",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP of small objects",
    "ap_medium": "AP of medium objects",
    "ap_large": "AP of large objects",
    "ar100": "AR, 100 per image",
    "voc_ap50": "PASCAL VOC's AP50",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """The last evaluation's detections on the validation scenes, and how good they are."""

    scenes: Scenes
    table: DetectionTable
    scores: Scores


def sections(run: RunDirectory, scenes: Scenes, recipe: Recipe) -> list[Section]:
    """Everything the run's files allow: the data section always, the others once there are predictions."""
    parts: list[Section] = []
    if run.predictions_file.is_file():
        validation = scenes.subset("val")
        with np.load(run.predictions_file) as stored:
            table = DetectionTable.from_columns(stored)
        judged = Judged(validation, table, evaluate(validation, table, resamples=0))
        evaluation = run.evaluation() if run.evaluation_file.is_file() else {}
        parts = [
            precision_section(judged, evaluation.get("intervals", {})),
            *tiles_section(evaluation.get("metrics", {}), recipe),
            curves_section(judged),
            confusion_section(judged),
            *picture_sections(judged),
        ]
    return [*parts, data_section(run, scenes)]


def precision_section(judged: Judged, intervals: Mapping[str, Sequence[float]]) -> Section:
    """The metrics, and the average precision of every class with its interval, the weakest class first."""
    scores, classes = judged.scores, judged.scenes.classes
    pairs = [
        (title, _metric(scores.metrics[name]) + _in_brackets(intervals.get(name)))
        for name, title in NAMES.items()
        if name in scores.metrics
    ]
    per_class, own = scores.per_class, class_scores(judged.scenes, judged.table)
    rows = []
    for place in sorted(np.flatnonzero(per_class["boxes"]), key=lambda place: per_class["ap"][place]):
        ap, interval = float(per_class["ap"][place]), own.interval[place]
        known = bool(np.isfinite(interval).all())
        rows.append(
            (
                classes[place],
                _metric(ap),
                bar(ap, (float(interval[0]), float(interval[1])) if known else None),
                f"{interval[0]:.3f} to {interval[1]:.3f}" if known else "",
                _metric(per_class["ap50"][place]),
                _metric(own.voc[place]),
                f"{per_class['boxes'][place]:,}",
                f"{per_class['detections'][place]:,}",
            )
        )
    head = ("class", "AP", "with 95 % interval", "interval", "AP50", "VOC AP50", "boxes", "detections")
    body = facts(pairs) + folded_table(head, rows, numeric=(1, 3, 4, 5, 6, 7))
    absent = [name for name, boxes in zip(classes, per_class["boxes"], strict=True) if not boxes]
    if absent:
        body += paragraph(f"Without boxes in the validation images: {', '.join(absent)}.")
    words = "Intervals show how far a value would move with other validation images like these."
    return Section("Average precision", body + paragraph(words))


def tiles_section(metrics: Mapping[str, float], recipe: Recipe) -> list[Section]:
    """Where tiles were searched: what whole images alone come to, which is all that the served model sees."""
    assert isinstance(recipe, DetectionRecipe)
    if UNTILED + "ap" not in metrics:
        return []
    ap, ap50 = (_metric(metrics[UNTILED + name]) for name in ("ap", "ap50"))
    words = (
        f"Every figure and picture of this page is of images searched as a whole and in tiles of {recipe.data.tile} "
        "pixels, as kit predict does. The exported and served models look at whole images, which give an AP of "
        f"{ap} and an AP50 of {ap50}. No published target is for tiles."
    )
    return [Section("With and without tiles", notice(words))]


def curves_section(judged: Judged) -> Section:
    """Precision over recall at IoU 0.5, a curve for each of a few classes or pale curves and their mean; thresholds."""
    curves, classes = judged.scores.curves, judged.scenes.classes
    known = np.flatnonzero(np.isfinite(curves).all(1))
    if not len(known):
        return Section("Precision and recall", notice("The validation images hold no boxes."))
    legend = None
    if len(known) <= len(COLOURS):
        lines = [Line(classes[place], RECALLS, curves[place], COLOURS[n]) for n, place in enumerate(known)]
    else:
        lines = [Line(classes[place], RECALLS, curves[place], "muted", smoothed=True) for place in known]
        lines.append(Line("mean", RECALLS, curves[known].mean(0), "accent"))
        legend = [Key("mean over classes", "accent"), Key("single classes", "muted")]
    caption = "At IoU 0.5, made monotone. The area under a curve is the class's AP50."
    chart = curve_chart("Precision over recall", lines, "recall", "precision", legend, caption)
    return Section("Precision and recall", columns(chart, thresholds(judged)))


def confusion_section(judged: Judged) -> Section:
    """Which classes are taken for which, and for background."""
    counts = np.roll(confusion(judged.scenes, judged.table, SHOWN_SCORE), -1, axis=(0, 1))  # the background last
    nothing = "No box was missed or taken for another class, and nothing was found where there is nothing."
    words = (
        f"Detections from score {SHOWN_SCORE:g} at IoU 0.5. The row “background” counts detections of nothing, "
        "the column “background” boxes that were missed."
    )
    names = (*judged.scenes.classes, "background")
    return Section("Confusion matrix", paragraph(words) + confusion_figures(names, counts, "Boxes", "boxes", nothing))


def thresholds(judged: Judged) -> Markup:
    """From which score on a detection of each class should be believed."""
    rows = []
    found = best_thresholds(judged.scenes, judged.table, judged.scores.matches)
    for name, best in zip(judged.scenes.classes, found, strict=True):
        if best is None:
            rows.append((name, "never found", "", "", ""))
        else:
            rows.append(
                (name, f"{best.score:.2f}", percentage(best.precision), percentage(best.recall), f"{best.f1:.3f}")
            )
    words = (
        "The score with the best balance of precision and recall (F1) at IoU 0.5. A missed object that costs more than "
        "a false alarm asks for a lower one, and the other way round. Chosen on these very images, so that new ones "
        "will come out slightly worse."
    )
    head = ("class", "threshold", "precision", "recall", "F1")
    return figure(folded_table(head, rows, numeric=(1, 2, 3, 4)), "Score thresholds", caption=words)


def picture_sections(judged: Judged) -> list[Section]:
    """The images with most mistakes and those with fewest, detections and boxes drawn."""
    errors = image_errors(judged.scenes, judged.table, judged.scores.matches, SHOWN_SCORE)
    worst = errors.worst()[:WORST]
    best = errors.best()
    best = best[~np.isin(best, worst)][:BEST]
    is_found = found_boxes(judged.table, judged.scores.matches, SHOWN_SCORE)

    def cards(images: np.ndarray) -> Markup:
        made = []
        for image in images.tolist():
            told = f"{errors.found[image]} found, {errors.missed[image]} missed, {errors.false[image]} false"
            made.append(_card(judged, image, is_found, told))
        return gallery(made, large=True)

    rule = (
        f"Ranked by missed boxes plus false detections, among detections from score {SHOWN_SCORE:g} at IoU 0.5. "
        "Solid lines are detections with their scores, dashed ones the boxes of the data."
    )
    nothing = notice("No box was missed and nothing was found where there is nothing.", "good")
    sections = [Section("Worst images", paragraph(rule) + (cards(worst) if len(worst) else nothing))]
    if len(best):
        words = "Fewest mistakes, and among those with equally few the most boxes found."
        sections.append(Section("Best images", paragraph(words) + cards(best)))
    return sections


def data_section(run: RunDirectory, scenes: Scenes) -> Section:
    """Class balance, how large objects are for the network, what the check warned about and put aside."""
    record = check_record(run)
    labels, splits = scenes.labels[~scenes.ignored], scenes.splits[scenes.image_of_box()][~scenes.ignored]
    train, validation = (
        np.bincount(labels[splits == split], minlength=len(scenes.classes) + 1)[1:] for split in ("train", "val")
    )
    total = train + validation
    sizes: Mapping[str, Any] = record.get("sizes", {})
    rows = [
        (
            scenes.classes[place],
            bar(total[place] / max(1, total.max()), colour="third"),
            f"{train[place]:,}",
            f"{validation[place]:,}",
            *_size_cells(sizes.get("classes", {}).get(scenes.classes[place])),
        )
        for place in np.argsort(-total, kind="stable")
    ]
    images = {split: int((scenes.splits == split).sum()) for split in ("train", "val")}
    empty = int((np.diff(scenes.offsets) == 0).sum())
    summary = (
        f"{len(scenes.classes):,} classes, {images['train']:,} training and {images['val']:,} validation images with "
        f"{train.sum():,} and {validation.sum():,} boxes. {empty:,} images have no box, {scenes.ignored.sum():,} boxes "
        "are crowds or difficult objects, which count neither way."
    )
    parts = [paragraph(summary), *data_warnings(run)]
    if sizes:
        where = f", or the tile of {sizes['tile']} pixels that shows most," if sizes.get("tile") else ""
        parts.append(
            paragraph(
                f"Sizes are of objects once their image{where} is squashed to {sizes['input']} pixels: the root of "
                f"their area, of the smallest 5 %, the median and the largest 5 %. The smallest default box has "
                f"{sizes['smallest_default_box']:g} pixels; reachable boxes overlap a default box by half."
            )
        )
    head = ("class", "boxes", "training", "validation", "size in pixels", "below smallest", "reachable")
    table = folded_table(head if sizes else head[:4], rows if sizes else [row[:4] for row in rows], (2, 3, 4, 5, 6))
    quarantine = quarantined_files(run, "left out or changed; see the reasons")
    return Section("Data", join([*parts, table, *quarantine]))


def sample_grid(images: np.ndarray, boxes: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> Section:
    """Training samples after augmentation, as the network sees them, with the boxes it learns from.

    images: (sample, height, width, 3) uint8; boxes: (sample, box, 4) left, top, right, bottom as shares;
    labels: (sample, box), 0 in the padding.
    """
    height, width = images.shape[1:3]
    cards = []
    for image, shares, own in zip(images, boxes, labels, strict=True):
        real = own > 0
        shown = Image.fromarray(image)
        names = [classes[label - 1] for label in own[real]]
        sides = shares[real] * [width, height, width, height]
        draw_boxes(shown, sides, names, class_colours(len(classes))[own[real] - 1])
        count = f"{real.sum()} {'box' if real.sum() == 1 else 'boxes'}"
        cards.append((picture(jpeg_uri(shown, LARGE), f"training sample with {count}"), count))
    words = f"Training samples after augmentation, {width} by {height} pixels, with the boxes to be learnt."
    return Section("Samples as the network sees them", paragraph(words) + gallery(cards, large=True), anchor="samples")


def _card(judged: Judged, image: int, is_found: np.ndarray, told: str) -> tuple[str, Markup]:
    path = str(judged.scenes.paths[image])
    text = Markup("{}<br><small>{}</small>").format(told, path)
    try:
        shown = read_picture(judged.scenes.root / path)
    except DataError:
        return Markup('<span class="missing">cannot be read</span>'), text
    scale = LARGE / max(shown.size)
    shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    _draw(shown, judged, image, is_found, scale)
    return picture(jpeg_uri(shown, LARGE), f"{path}: {told}"), text


def _draw(shown: Image.Image, judged: Judged, image: int, is_found: np.ndarray, scale: float) -> None:
    """Dashed the boxes of the data, those missed by name; over them the detections, the false ones called so."""
    scenes, table, matches = judged.scenes, judged.table, judged.scores.matches
    colours = class_colours(len(scenes.classes))
    boxes = np.arange(scenes.offsets[image], scenes.offsets[image + 1])
    named = [
        "" if is_found[box] else f"{'ignored' if scenes.ignored[box] else 'missed'} {scenes.classes[label - 1]}"
        for box, label in zip(boxes.tolist(), scenes.labels[boxes].tolist(), strict=True)
    ]
    draw_boxes(shown, scenes.boxes[boxes] * scale, named, colours[scenes.labels[boxes] - 1], dashed=True)
    rows = np.flatnonzero((table.images == image) & (table.scores >= SHOWN_SCORE))
    is_false = ~matches.is_correct[rows] & ~matches.is_ignored[rows]
    captions = captions_of(table.labels[rows], table.scores[rows], scenes.classes)
    captions = [f"false {text}" if wrong else text for text, wrong in zip(captions, is_false.tolist(), strict=True)]
    draw_boxes(shown, table.boxes[rows] * scale, captions, colours[table.labels[rows] - 1])


def _size_cells(row: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    return " / ".join(f"{side:.0f}" for side in row["sides"]), percentage(row["below"]), percentage(row["recall"])


def _metric(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "undefined"


def _in_brackets(interval: Sequence[float] | None) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval is not None else ""
