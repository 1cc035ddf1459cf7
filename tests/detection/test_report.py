import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from challenges.detection.analysis import best_thresholds, class_scores, image_errors
from challenges.detection.detections import DetectionTable
from challenges.detection.evaluation import evaluate
from challenges.detection.recipes import RECIPES
from challenges.detection.report import sample_grid, sections
from challenges.detection.scenes import Scenes
from common.report.page import write_report
from common.run.run_directory import RunDirectory
from tests.detection.builders import paint, scenes_of

COLOURS = {1: (220, 40, 40), 2: (40, 220, 40), 3: (40, 40, 220)}
RECIPE = RECIPES["small"]
TITLES = ["Average precision", "Precision and recall", "Confusion matrix", "Worst images", "Best images", "Data"]
BOXES = {
    0: [(1, 5, 5, 30, 30), (2, 40, 40, 70, 70)],
    1: [(1, 10, 10, 50, 50)],
    2: [(2, 20, 20, 60, 60), (1, 0, 0, 10, 10)],
    3: [(1, 5, 5, 25, 25), (2, 50, 5, 75, 30), (1, 40, 40, 60, 60)],
}
SPLITS = ["train", "val", "val", "val"]


def table_of(*rows: tuple[int, int, float, tuple[float, ...]]) -> DetectionTable:
    """Rows of (image, label, score, box)."""
    images, labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return DetectionTable(
        np.array(images, np.int64),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
    )


TABLE = table_of(
    (0, 1, 0.9, (10, 10, 50, 50)),
    (0, 3, 0.4, (60, 60, 75, 75)),
    (1, 2, 0.8, (21, 20, 60, 60)),
    (1, 1, 0.2, (0, 0, 10, 10)),
    (2, 1, 0.95, (5, 5, 25, 25)),
    (2, 2, 0.85, (51, 5, 75, 30)),
    (2, 2, 0.7, (40, 40, 60, 60)),
    (2, 1, 0.1, (0, 0, 80, 80)),
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    made = scenes_of(tmp_path, [(80, 80)] * 4, BOXES, splits=SPLITS, classes=("c & at", "dog", "owl"))
    for image, boxes in BOXES.items():
        paint(80, 80, boxes, COLOURS).save(tmp_path / f"{image}.png")
    return made


def keep(run: RunDirectory, table: DetectionTable) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    np.savez(run.predictions_file, **table.columns())


def keep_evaluation(run, record):
    rest = {"interval_method": "bootstrap", "step": 1, "precision": "fp32", "weights": [1, 1]}
    run.evaluation_file.write_text(json.dumps(rest | record))


def text_of(run: RunDirectory, scenes: Scenes) -> dict[str, str]:
    return {section.title: str(section.html).replace("\u00a0", " ") for section in sections(run, scenes, RECIPE)}


def cells_of(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_before_the_first_evaluation_there_is_the_data(run, scenes):
    shown = text_of(run, scenes)
    assert list(shown) == ["Data"]
    assert "3 classes, 1 training and 3 validation images with 2 and 6 boxes." in shown["Data"]
    assert cells_of(shown["Data"])[1:] == [
        ["c & at".replace("&", "&amp;"), "", "1", "4"],
        ["dog", "", "1", "2"],
        ["owl", "", "0", "0"],
    ]


def test_every_section_joins_the_page(run, scenes, monkeypatch):
    monkeypatch.setattr("challenges.detection.report.WORST", 1)
    keep(run, TABLE)
    made = sections(run, scenes, RECIPE)
    assert [section.title for section in made] == TITLES
    page = write_report(run, made).read_text()
    assert [title for title in TITLES if f"<h2>{title}</h2>" in page] == TITLES


def test_the_page_says_what_whole_images_give_where_tiles_were_searched(run, scenes):
    keep(run, TABLE)
    keep_evaluation(run, {"metrics": {"ap": 0.5, "untiled_ap": 0.25, "untiled_ap50": 0.375}, "intervals": {}})
    shown = text_of(run, scenes)["With and without tiles"]
    assert "look at whole images, which give an AP of 0.250 and an AP50 of 0.375" in shown
    keep_evaluation(run, {"metrics": {"ap": 0.5}, "intervals": {}})
    assert "With and without tiles" not in text_of(run, scenes)


def test_average_precision_of_each_class_the_weakest_first(run, scenes):
    keep(run, TABLE)
    keep_evaluation(run, {"metrics": {}, "intervals": {"ap": [0.1, 0.9]}})
    shown = text_of(run, scenes)["Average precision"]
    validation = scenes.subset("val")
    scores, own = evaluate(validation, TABLE, resamples=0), class_scores(validation, TABLE)
    assert f"{scores.metrics['ap']:.3f} (0.100 to 0.900)" in shown
    rows = [row for row in cells_of(shown) if len(row) == 8]
    assert [row[0] for row in rows] == (
        ["c &amp; at", "dog"] if scores.per_class["ap"][0] < scores.per_class["ap"][1] else ["dog", "c &amp; at"]
    )
    for row in rows:
        place = 0 if row[0] != "dog" else 1
        low, high = own.interval[place]
        assert row[1] == f"{scores.per_class['ap'][place]:.3f}"
        assert row[3] == f"{low:.3f} to {high:.3f}"
        assert row[4:6] == [f"{scores.per_class['ap50'][place]:.3f}", f"{own.voc[place]:.3f}"]
        assert row[6:] == [str(scores.per_class["boxes"][place]), str(scores.per_class["detections"][place])]
    assert "Without boxes in the validation images: owl." in shown


def test_intervals_hold_the_value_and_shrink_with_more_images(tmp_path):
    generator = np.random.default_rng(0)
    widths = []
    for count in (20, 200):
        scenes = scenes_of(tmp_path, [(100, 100)] * count, {image: [(1, 10, 10, 60, 60)] for image in range(count)})
        shift = generator.choice([0, 6, 12, 40], count)
        table = table_of(*((image, 1, 0.5, (10 + s, 10, 60 + s, 60)) for image, s in enumerate(shift.tolist())))
        ((low, high), *_) = class_scores(scenes, table).interval
        assert low <= evaluate(scenes, table, resamples=0).per_class["ap"][0] <= high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_the_confusion_matrix_counts_misses_and_false_detections(run, scenes):
    keep(run, TABLE)
    shown = text_of(run, scenes)["Confusion matrix"]
    counts = [int(cell) for cell in re.findall(r'<td class="(?:right|wrong)[^>]*>(\d+)</td>', shown)]
    # cats: two found, one taken for a dog, one missed; dogs: two found; one owl where there is nothing
    assert counts == [2, 1, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_thresholds_are_the_best_of_all_scores(tmp_path):
    generator = np.random.default_rng(3)
    boxes = {image: [(1 + (image + k) % 2, 20 * k, 0, 20 * k + 15, 15) for k in range(4)] for image in range(20)}
    scenes = scenes_of(tmp_path, [(100, 100)] * 20, boxes, ignored=[(3, 1)])
    rows = []
    for image, own in boxes.items():
        for label, *box in own:
            if generator.random() < 0.8:
                rows.append((image, label, round(generator.beta(4, 2), 1), tuple(box)))
            if generator.random() < 0.5:
                rows.append((image, label, round(generator.beta(2, 4), 1), (box[0], 50, box[2], 70)))
    rows.sort(key=lambda row: (row[0], -row[2]))
    table = table_of(*rows)
    matches = evaluate(scenes, table, resamples=0).matches
    found = best_thresholds(scenes, table, matches)
    assert found[2] is None
    for label in (1, 2):
        total = int(((scenes.labels == label) & ~scenes.ignored).sum())
        options = []
        for score in sorted(set(table.scores.tolist()), reverse=True):
            chosen = (table.labels == label) & (table.scores >= score) & ~matches.is_ignored
            hits = int(matches.is_correct[chosen].sum())
            precision, recall = hits / max(1, chosen.sum()), hits / total
            options.append((2 * precision * recall / max(precision + recall, 1e-12), score, precision, recall))
        best = max(options, key=lambda option: (round(option[0], 12), option[1]))
        mine = found[label - 1]
        assert (mine.f1, mine.score, mine.precision, mine.recall) == pytest.approx(best)


def test_images_are_ranked_by_their_mistakes(tmp_path):
    scenes = scenes_of(tmp_path, [(80, 80)] * 4, BOXES, ignored=[(2, 1)])
    table = table_of(
        (1, 1, 0.9, (10, 10, 50, 50)),
        (2, 1, 0.9, (60, 60, 70, 70)),
        (2, 1, 0.8, (0, 0, 10, 10)),
        (3, 1, 0.9, (5, 5, 25, 25)),
        (3, 2, 0.2, (50, 5, 75, 30)),
        (3, 1, 0.1, (40, 40, 60, 60)),
    )
    errors = image_errors(scenes, table, evaluate(scenes, table, resamples=0).matches, 0.3)
    assert errors.found.tolist() == [0, 1, 0, 1]
    assert errors.missed.tolist() == [2, 0, 1, 2]
    assert errors.false.tolist() == [0, 0, 1, 0]
    assert errors.worst().tolist() == [0, 2, 3]
    assert errors.best().tolist() == [1, 3]


def test_the_worst_images_come_first_with_what_went_wrong(run, scenes):
    keep(run, TABLE)
    (scenes.root / "2.png").unlink()
    shown = text_of(run, scenes)
    listed = re.findall(r"(\d found, \d missed, \d false)<br><small>(.*?)</small>", shown["Worst images"])
    assert listed == [
        ("2 found, 1 missed, 1 false", "3.png"),
        ("1 found, 0 missed, 1 false", "1.png"),
        ("1 found, 1 missed, 0 false", "2.png"),
    ]
    assert shown["Worst images"].count("data:image/jpeg") == 2
    assert "cannot be read" in shown["Worst images"]
    assert "Best images" not in shown  # all are among the worst


def test_detections_without_a_mistake(run, scenes):
    validation = scenes.subset("val")
    owners = validation.image_of_box()
    rows = zip(owners.tolist(), validation.labels.tolist(), validation.boxes.tolist(), strict=True)
    keep(run, table_of(*((image, label, 0.9, tuple(box)) for image, label, box in rows)))
    shown = text_of(run, scenes)
    assert "No box was missed" in shown["Worst images"]
    assert "No box was missed" in shown["Confusion matrix"]
    assert shown["Best images"].count("data:image/jpeg") == 3


def test_a_detector_that_finds_nothing(run, scenes):
    keep(run, table_of())
    shown = text_of(run, scenes)
    assert "never found" in shown["Precision and recall"]
    assert shown["Worst images"].count("data:image/jpeg") == 3
    assert "Best images" not in shown


def test_validation_images_without_boxes(run, tmp_path):
    scenes = scenes_of(tmp_path, [(80, 80)] * 2, {0: [(1, 0, 0, 9, 9)]}, splits=["train", "val"])
    keep(run, table_of((0, 1, 0.9, (1, 1, 20, 20))))
    shown = text_of(run, scenes)
    assert "hold no boxes" in shown["Precision and recall"]
    assert "undefined" in shown["Average precision"]
    assert "0 found, 0 missed, 1 false" in shown["Worst images"]


def test_many_classes_have_pale_curves_and_a_mean(run, tmp_path):
    classes = tuple(f"class {number}" for number in range(20))
    boxes = {image: [(image % 20 + 1, 10, 10, 40, 40)] for image in range(40)}
    scenes = scenes_of(tmp_path, [(80, 80)] * 40, boxes, classes=classes, splits=["val"] * 40)
    keep(run, table_of(*((image, image % 20 + 1, 0.5, (10, 10, 40, 40)) for image in range(0, 40, 2))))
    shown = text_of(run, scenes)
    assert "mean over classes" in shown["Precision and recall"]
    assert "Share of each true class" in shown["Confusion matrix"]


def test_the_checks_findings_are_shown(run, scenes):
    run.data.mkdir(parents=True)
    row = {"boxes": 5, "recall": 0.98, "below": 0.4, "sides": [5.0, 12.4, 30.0]}
    sizes = {"input": 300, "smallest_default_box": 21.0, "classes": {"dog": row}}
    (run.data / "check.json").write_text(json.dumps({"warnings": ["<b>small</b> dogs"], "sizes": sizes}))
    with (run.data / "quarantine.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "code", "reason"), ("9.png", "degenerate-box", "no width")])
    shown = text_of(run, scenes)["Data"]
    assert "&lt;b&gt;small&lt;/b&gt; dogs" in shown
    (dog,) = [row for row in cells_of(shown) if row and row[0] == "dog"]
    assert dog[4:] == ["5 / 12 / 30", "40.0 %", "98.0 %"]
    assert "<td>9.png</td><td>degenerate-box</td><td>no width</td>" in shown


def test_samples_show_their_boxes():
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    boxes, labels = np.zeros((3, 2, 4), np.float32), np.zeros((3, 2), np.int64)
    boxes[0], labels[0] = [[0, 0, 0.5, 0.5], [0.4, 0.4, 1, 1]], [1, 2]
    boxes[1, 0], labels[1, 0] = [0.1, 0.1, 0.9, 0.9], 2
    section = sample_grid(images, boxes, labels, ("cat", "dog"))
    assert section.html.count("data:image/jpeg") == 3
    assert [re.findall(r"<figcaption>(.*?)</figcaption>", section.html)] == [["2 boxes", "1 box", "0 boxes"]]
    assert "96 by 96 pixels" in section.html
