import csv
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from challenges.classification.report import (
    Predictions,
    expected_calibration_error,
    majority_baseline,
    sample_grid,
    sections,
)
from common.report.page import write_report
from common.run.result import wilson
from common.run.run_directory import RunDirectory

CLASSES = ("apple & pear", "bird", "car")


@dataclass(frozen=True)
class Manifest:
    root: Path
    classes: tuple[str, ...]
    paths: np.ndarray
    labels: np.ndarray
    splits: np.ndarray

    def subset(self, split: str) -> "Manifest":
        rows = self.splits == split
        return replace(self, paths=self.paths[rows], labels=self.labels[rows], splits=self.splits[rows])


def make_manifest(root: Path, counts: dict[str, list[int]], classes: tuple[str, ...] = CLASSES) -> Manifest:
    """Rows in an order that mixes the splits, so that rows and validation indices differ."""
    rows = [
        (f"{label}/{split}-{number}.jpg", label, split)
        for label in range(len(classes))
        for split in ("train", "val")
        for number in range(counts[split][label])
    ]
    np.random.default_rng(0).shuffle(rows)
    paths, labels, splits = zip(*rows, strict=True)
    return Manifest(root, classes, np.array(paths), np.array([int(label) for label in labels]), np.array(splits))


def make_predictions(run: RunDirectory, manifest: Manifest, accuracy: float, seed: int = 0) -> Predictions:
    """Answers in a shuffled order, right with the given probability."""
    generator = np.random.default_rng(seed)
    validation = manifest.subset("val")
    index = generator.permutation(len(validation.labels))
    label = validation.labels[index]
    shift = generator.integers(1, len(manifest.classes), len(label))
    wrong = generator.random(len(label)) >= accuracy
    probability = generator.uniform(0.4, 1.0, len(label)).astype(np.float32)
    columns = {
        "index": index,
        "label": label,
        "predicted": np.where(wrong, (label + shift) % len(manifest.classes), label),
        "probability": probability,
        "label_probability": np.where(wrong, (1 - probability) / 2, probability).astype(np.float32),
    }
    run.path.mkdir(parents=True, exist_ok=True)
    np.savez(run.predictions_file, **columns)
    return Predictions(**columns)


def write_data_files(run: RunDirectory, quarantined: int, warnings: list[str]) -> None:
    run.data.mkdir(parents=True, exist_ok=True)
    with (run.data / "quarantine.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "code", "reason"))
        writer.writerows((f"bird/bad-{number}.jpg", "truncated", "ends <early>") for number in range(quarantined))
    (run.data / "check.json").write_text(json.dumps({"warnings": warnings}))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_manifest(tmp_path / "photos", {"train": [40, 80, 20], "val": [10, 20, 5]})


def text_of(run: RunDirectory, manifest: Manifest) -> dict[str, str]:
    return {section.title: str(section.html).replace("\u00a0", " ") for section in sections(run, manifest)}


def test_before_the_first_evaluation_there_is_the_data(run, manifest):
    shown = text_of(run, manifest)
    assert list(shown) == ["Data"]
    assert "3 classes, 140 training and 35 validation images." in shown["Data"]
    cells = re.findall(r"<td[^>]*>([^<]+)</td>", shown["Data"])
    assert cells == ["bird", "80", "20", "57.1 %", "apple &amp; pear", "40", "10", "28.6 %", "car", "20", "5", "14.3 %"]


def test_confusion_equals_scikit_learns(run, manifest):
    predictions = make_predictions(run, manifest, accuracy=0.6)
    expected = confusion_matrix(predictions.label, predictions.predicted, labels=np.arange(4))
    assert np.array_equal(predictions.confusion(4), expected)


def test_every_section_joins_the_page(run, manifest):
    make_predictions(run, manifest, accuracy=0.8)
    write_data_files(run, 2, ["bird has four times the images of car"])
    titles = ["Accuracy per class", "Confusion matrix", "Worst mistakes", "Calibration", "Data"]
    made = sections(run, manifest)
    assert [section.title for section in made] == titles
    page = write_report(run, made).read_text()
    assert [title for title in titles if f"<h2>{title}</h2>" in page] == titles


def test_accuracy_of_each_class_with_its_interval_the_weakest_first(run, manifest):
    predictions = make_predictions(run, manifest, accuracy=0.7)
    shown = text_of(run, manifest)["Accuracy per class"]
    expected = []
    for label, name in enumerate(CLASSES):
        own = predictions.label == label
        hits, total = int((predictions.predicted[own] == label).sum()), int(own.sum())
        low, high = wilson(hits, total)
        expected.append((hits / total, name, f"{100 * low:.1f} to {100 * high:.1f} %", hits, total))
    expected.sort()
    body = shown[shown.index("<tbody>", shown.index("with 95 % interval")) :]
    assert re.findall(r"<tr><td>([^<]+)</td>", body) == [name.replace("&", "&amp;") for _, name, *_ in expected]
    for _, _, interval, hits, total in expected:
        assert f'{interval}</td><td class="number">{hits}</td><td class="number">{total}</td>' in body
    overall = wilson(int(predictions.correct.sum()), 35)
    assert f"of 35 images ({100 * overall[0]:.1f} to {100 * overall[1]:.1f} %)" in shown


def test_the_majority_is_the_trainings_and_its_share_the_validations(tmp_path):
    manifest = make_manifest(tmp_path, {"train": [10, 30, 20], "val": [6, 3, 1]})
    baseline = majority_baseline(manifest)
    assert baseline.value == pytest.approx(0.3)
    assert "bird" in baseline.name


def test_few_classes_show_counts(run, manifest):
    predictions = make_predictions(run, manifest, accuracy=0.6)
    shown = text_of(run, manifest)["Confusion matrix"]
    expected = np.zeros((3, 3), int)
    for label, predicted in zip(predictions.label, predictions.predicted, strict=True):
        expected[label, predicted] += 1
    cells = re.findall(r'<td class="(?:right|wrong)[^>]*>(\d+)</td>', shown)
    assert [int(cell) for cell in cells] == expected.ravel().tolist()


def test_many_classes_show_a_heat_map_and_the_most_confused_pairs(run, tmp_path):
    classes = tuple(f"class {number}" for number in range(40))
    manifest = make_manifest(tmp_path, {"train": [3] * 40, "val": [5] * 40}, classes)
    predictions = make_predictions(run, manifest, accuracy=1.0)
    predictions.predicted[predictions.label == 7] = 9
    predictions.predicted[np.flatnonzero(predictions.label == 3)[:2]] = 4
    np.savez(run.predictions_file, **vars(predictions))
    shown = text_of(run, manifest)
    rows = re.findall(
        r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>", shown["Confusion matrix"]
    )
    assert rows == [("class 7", "class 9", "5", "100.0 %"), ("class 3", "class 4", "2", "40.0 %")]
    assert "<svg" in shown["Confusion matrix"]
    assert "<summary>10 more</summary>" in shown["Accuracy per class"]


def test_the_worst_mistakes_come_first_with_their_pictures(run, manifest):
    predictions = make_predictions(run, manifest, accuracy=0.5)
    validation = manifest.subset("val")
    wrong = np.flatnonzero(predictions.predicted != predictions.label)
    order = sorted(wrong, key=lambda row: -predictions.probability[row])
    worst = str(validation.paths[predictions.index[order[0]]])
    (manifest.root / worst).parent.mkdir(parents=True)
    Image.new("RGB", (400, 300), (200, 30, 30)).save(manifest.root / worst)
    shown = text_of(run, manifest)["Worst mistakes"]
    assert f"{len(wrong)} of 35 validation images got a wrong answer." in shown
    listed = re.findall(r"<small>(.*?)</small>", shown)
    assert listed == [str(validation.paths[predictions.index[row]]) for row in order]
    assert shown.count("data:image/jpeg") == 1
    assert shown.index("data:image/jpeg") < shown.index(worst)
    assert shown.count("cannot be read") == len(wrong) - 1
    label = CLASSES[predictions.label[order[0]]].replace("&", "&amp;")
    assert f"<b>{label}</b> taken for" in shown


def test_without_mistakes_the_page_says_so(run, manifest):
    make_predictions(run, manifest, accuracy=1.0)
    shown = text_of(run, manifest)
    assert "All 35 validation images were classified correctly." in shown["Worst mistakes"]
    assert "<details>" not in shown["Confusion matrix"]


def test_only_the_worst_of_many_mistakes_are_shown(run, tmp_path):
    manifest = make_manifest(tmp_path, {"train": [1, 1, 1], "val": [40, 40, 40]})
    make_predictions(run, manifest, accuracy=0.0)
    shown = text_of(run, manifest)["Worst mistakes"]
    assert shown.count("<figure>") == 24
    assert "These 24 were given with the highest confidence." in shown


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_the_slow_definition(bins):
    generator = np.random.default_rng(1)
    probability = np.concatenate([generator.random(500), [0.0, 1.0, 0.5]]).astype(np.float32)
    correct = generator.random(503) < probability**2
    slow, counts = 0.0, []
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = (probability > low) & (probability <= high) | ((place == 0) & (probability == 0))
        counts.append(int(inside.sum()))
        if inside.any():
            slow += inside.mean() * abs(correct[inside].mean() - probability[inside].mean(dtype=np.float64))
    error, found, hits, _ = expected_calibration_error(probability, correct, bins)
    assert error == pytest.approx(slow, abs=1e-7)
    assert found.tolist() == counts
    assert hits.sum() == correct.sum()


@pytest.mark.parametrize(("accuracy", "words"), [(0.2, "overconfident"), (1.0, "underconfident")])
def test_calibration_in_words(accuracy, words, run, manifest):
    make_predictions(run, manifest, accuracy)
    assert f"the model is {words}" in text_of(run, manifest)["Calibration"]


def test_quarantined_files_and_warnings_are_named(run, manifest):
    write_data_files(run, 1, ["<b>few</b> images"])
    shown = text_of(run, manifest)["Data"]
    assert "1 file was left out" in shown
    assert "<td>bird/bad-0.jpg</td><td>truncated</td><td>ends &lt;early&gt;</td>" in shown
    assert "&lt;b&gt;few&lt;/b&gt; images" in shown
    write_data_files(run, 250, [])
    shown = text_of(run, manifest)["Data"]
    assert shown.count("bad-") == 200
    assert "data/quarantine.csv" in shown
    write_data_files(run, 0, [])
    assert "No file had to be left out." in text_of(run, manifest)["Data"]


def test_samples_are_shown_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    section = sample_grid(images, np.array([0, 1, 2, 1]), CLASSES)
    assert section.html.count("data:image/jpeg") == 4
    assert "96 by 96 pixels" in section.html
    assert "apple &amp; pear" in section.html
