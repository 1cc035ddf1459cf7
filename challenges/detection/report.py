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
from common.language.telling import english, grouped, tell, tell_count
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
    "ap": english("AP (IoU 0.5 to 0.95)"),
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": english("AP of small objects"),
    "ap_medium": english("AP of medium objects"),
    "ap_large": english("AP of large objects"),
    "ar100": english("AR, 100 per image"),
    "voc_ap50": english("PASCAL VOC's AP50"),
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
        (tell(title), _metric(scores.metrics[name]) + _in_brackets(intervals.get(name)))
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
                _range(interval) if known else "",
                _metric(per_class["ap50"][place]),
                _metric(own.voc[place]),
                grouped(per_class["boxes"][place]),
                grouped(per_class["detections"][place]),
            )
        )
    head = (
        tell("class"), "AP", tell("with 95 % interval"), tell("interval"), "AP50", "VOC AP50", tell("boxes"),
        tell("detections"),
    )  # fmt: skip
    body = facts(pairs) + folded_table(head, rows, numeric=(1, 3, 4, 5, 6, 7))
    absent = [name for name, boxes in zip(classes, per_class["boxes"], strict=True) if not boxes]
    if absent:
        body += paragraph(tell("Without boxes in the validation images: {names}.", names=", ".join(absent)))
    words = tell("Intervals show how far a value would move with other validation images like these.")
    return Section("Average precision", body + paragraph(words))


def tiles_section(metrics: Mapping[str, float], recipe: Recipe) -> list[Section]:
    """Where tiles were searched: what whole images alone come to, which is all that the served model sees."""
    assert isinstance(recipe, DetectionRecipe)
    if UNTILED + "ap" not in metrics:
        return []
    ap, ap50 = (_metric(metrics[UNTILED + name]) for name in ("ap", "ap50"))
    words = tell(
        "Every figure and picture of this page is of images searched as a whole and in tiles of {tile} pixels, as kit "
        "predict does. The exported and served models look at whole images, which give an AP of {ap} and an AP50 of "
        "{ap50}. No published target is for tiles.",
        tile=recipe.data.tile, ap=ap, ap50=ap50,
    )  # fmt: skip
    return [Section("With and without tiles", notice(words))]


def curves_section(judged: Judged) -> Section:
    """Precision over recall at IoU 0.5, a curve for each of a few classes or pale curves and their mean; thresholds."""
    curves, classes = judged.scores.curves, judged.scenes.classes
    known = np.flatnonzero(np.isfinite(curves).all(1))
    if not len(known):
        return Section("Precision and recall", notice(tell("The validation images hold no boxes.")))
    legend = None
    if len(known) <= len(COLOURS):
        lines = [Line(classes[place], RECALLS, curves[place], COLOURS[n]) for n, place in enumerate(known)]
    else:
        lines = [Line(classes[place], RECALLS, curves[place], "muted", smoothed=True) for place in known]
        lines.append(Line(tell("mean"), RECALLS, curves[known].mean(0), "accent"))
        legend = [Key(tell("mean over classes"), "accent"), Key(tell("single classes"), "muted")]
    caption = tell("At IoU 0.5, made monotone. The area under a curve is the class's AP50.")
    title = tell("Precision over recall")
    chart = curve_chart(title, lines, tell("recall"), tell("precision"), legend, caption)
    return Section("Precision and recall", columns(chart, thresholds(judged)))


def confusion_section(judged: Judged) -> Section:
    """Which classes are taken for which, and for background."""
    counts = np.roll(confusion(judged.scenes, judged.table, SHOWN_SCORE), -1, axis=(0, 1))  # the background last
    nothing = tell("No box was missed or taken for another class, and nothing was found where there is nothing.")
    words = tell(
        "Detections from score {score:g} at IoU 0.5. The row “background” counts detections of nothing, the column "
        "“background” boxes that were missed.",
        score=SHOWN_SCORE,
    )
    names = (*judged.scenes.classes, tell("background"))
    figures = confusion_figures(names, counts, tell("Boxes"), tell("boxes"), nothing)
    return Section("Confusion matrix", paragraph(words) + figures)


def thresholds(judged: Judged) -> Markup:
    """From which score on a detection of each class should be believed."""
    rows = []
    found = best_thresholds(judged.scenes, judged.table, judged.scores.matches)
    for name, best in zip(judged.scenes.classes, found, strict=True):
        if best is None:
            rows.append((name, tell("never found"), "", "", ""))
        else:
            rows.append(
                (name, f"{best.score:.2f}", percentage(best.precision), percentage(best.recall), f"{best.f1:.3f}")
            )
    words = tell(
        "The score with the best balance of precision and recall (F1) at IoU 0.5. A missed object that costs more than "
        "a false alarm asks for a lower one, and the other way round. Chosen on these very images, so that new ones "
        "will come out slightly worse."
    )
    head = (tell("class"), tell("threshold"), tell("precision"), tell("recall"), "F1")
    return figure(folded_table(head, rows, numeric=(1, 2, 3, 4)), tell("Score thresholds"), caption=words)


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
            told = tell(
                "{found} found, {missed} missed, {false} false",
                found=errors.found[image], missed=errors.missed[image], false=errors.false[image],
            )  # fmt: skip
            made.append(_card(judged, image, is_found, told))
        return gallery(made, large=True)

    rule = tell(
        "Ranked by missed boxes plus false detections, among detections from score {score:g} at IoU 0.5. "
        "Solid lines are detections with their scores, dashed ones the boxes of the data.",
        score=SHOWN_SCORE,
    )
    nothing = notice(tell("No box was missed and nothing was found where there is nothing."), "good")
    sections = [Section("Worst images", paragraph(rule) + (cards(worst) if len(worst) else nothing))]
    if len(best):
        words = tell("Fewest mistakes, and among those with equally few the most boxes found.")
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
            grouped(train[place]),
            grouped(validation[place]),
            *_size_cells(sizes.get("classes", {}).get(scenes.classes[place])),
        )
        for place in np.argsort(-total, kind="stable")
    ]
    images = {split: int((scenes.splits == split).sum()) for split in ("train", "val")}
    empty = int((np.diff(scenes.offsets) == 0).sum())
    summary = tell(
        "{classes:,} classes, {train:,} training and {validation:,} validation images with {train_boxes:,} and "
        "{validation_boxes:,} boxes. {empty:,} images have no box, {ignored:,} boxes are crowds or difficult objects, "
        "which count neither way.",
        classes=len(scenes.classes), train=images["train"], validation=images["val"], train_boxes=train.sum(),
        validation_boxes=validation.sum(), empty=empty, ignored=scenes.ignored.sum(),
    )  # fmt: skip
    parts = [paragraph(summary), *data_warnings(run)]
    if sizes:
        told = tell(
            "Sizes are of objects once their image is squashed to {input} pixels: the root of their area, of the "
            "smallest 5 %, the median and the largest 5 %. The smallest default box has {smallest_default_box:g} "
            "pixels; reachable boxes overlap a default box by half.",
            **sizes,
        )
        if sizes.get("tile"):
            told += " " + tell(
                "Where a tile of {tile} pixels shows most of an object, it is squashed instead.", **sizes
            )
        parts.append(paragraph(told))
    head = (
        tell("class"), tell("boxes"), tell("training"), tell("validation"), tell("size in pixels"),
        tell("below smallest"), tell("reachable"),
    )  # fmt: skip
    table = folded_table(head if sizes else head[:4], rows if sizes else [row[:4] for row in rows], (2, 3, 4, 5, 6))
    quarantine = quarantined_files(run, tell("Some files were left out or changed; see the reasons."))
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
        count = tell_count("{count} box", "{count} boxes", int(real.sum()))
        cards.append((picture(jpeg_uri(shown, LARGE), tell("training sample with {boxes}", boxes=count)), count))
    words = tell(
        "Training samples after augmentation, {width} by {height} pixels, with the boxes to be learnt.",
        width=width,
        height=height,
    )
    return Section("Samples as the network sees them", paragraph(words) + gallery(cards, large=True), anchor="samples")


def _card(judged: Judged, image: int, is_found: np.ndarray, told: str) -> tuple[str, Markup]:
    path = str(judged.scenes.paths[image])
    text = Markup("{}<br><small>{}</small>").format(told, path)
    try:
        shown = read_picture(judged.scenes.root / path)
    except DataError:
        return Markup('<span class="missing">{}</span>').format(tell("cannot be read")), text
    scale = LARGE / max(shown.size)
    shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    _draw(shown, judged, image, is_found, scale)
    return picture(jpeg_uri(shown, LARGE), f"{path}: {told}"), text


def _draw(shown: Image.Image, judged: Judged, image: int, is_found: np.ndarray, scale: float) -> None:
    """Dashed the boxes of the data, those missed by name; over them the detections, the false ones called so."""
    scenes, table, matches = judged.scenes, judged.table, judged.scores.matches
    colours = class_colours(len(scenes.classes))
    boxes = np.arange(scenes.offsets[image], scenes.offsets[image + 1])
    ignored, missed = tell("ignored {name}"), tell("missed {name}")
    named = [
        "" if is_found[box] else (ignored if scenes.ignored[box] else missed).format(name=scenes.classes[label - 1])
        for box, label in zip(boxes.tolist(), scenes.labels[boxes].tolist(), strict=True)
    ]
    draw_boxes(shown, scenes.boxes[boxes] * scale, named, colours[scenes.labels[boxes] - 1], dashed=True)
    rows = np.flatnonzero((table.images == image) & (table.scores >= SHOWN_SCORE))
    is_false = ~matches.is_correct[rows] & ~matches.is_ignored[rows]
    captions = captions_of(table.labels[rows], table.scores[rows], scenes.classes)
    captions = [
        tell("false {name}", name=text) if wrong else text
        for text, wrong in zip(captions, is_false.tolist(), strict=True)
    ]
    draw_boxes(shown, table.boxes[rows] * scale, captions, colours[table.labels[rows] - 1])


def _size_cells(row: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    return " / ".join(f"{side:.0f}" for side in row["sides"]), percentage(row["below"]), percentage(row["recall"])


def _metric(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else tell("undefined")


def _in_brackets(interval: Sequence[float] | None) -> str:
    return f" ({_range(interval)})" if interval is not None else ""


def _range(interval: Sequence[float] | np.ndarray) -> str:
    return tell("{low:.3f} to {high:.3f}", low=interval[0], high=interval[1])
