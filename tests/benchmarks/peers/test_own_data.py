"""The comparison on data of one's own: the sets, the meter, how sides are asked, judged and recorded.

KIT_TEST_PICTURE_PEERS names the Python of an environment with torchvision, timm and ultralytics.
"""

import collections
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.peers import own_data, picture_sets
from benchmarks.peers.own_data import Settings, average_precision
from benchmarks.peers.picture_side import Job, Learnt, Meter, SideError, affordable, length, run_side
from benchmarks.peers.picture_table import table
from benchmarks.record import Validity, read_all
from challenges.detection.demo import generate
from common.errors import DataError, KitError

CLASSES = picture_sets.CLASSES

STAND_IN = '''
"""Knows every answer, or none."""
import sys
from pathlib import Path
from benchmarks.peers.picture_side import Learnt, serve

class StandIn:
    package = "psutil"
    def prepare(self, job):
        print("noise that is no answer")
    def train(self, job):
        sum(range(10_000_000))
        return Learnt(steps=40, samples=40 * 8, epochs=2.0)
    def predictions(self, job):
        return {str(file.relative_to(job.root("val"))): NAMES(file) for file in job.pictures("val")}

serve(StandIn())
'''


@pytest.fixture(scope="module", autouse=True)
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_sets, "VALIDATION_PER_CLASS", 2)
        yield


@pytest.fixture(scope="module")
def own_set(few, tmp_path_factory):
    return picture_sets.prepare("skewed-31", tmp_path_factory.mktemp("sets"), None, workers=0)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Two sides: the kit's knows every class, the other says always the first one."""
    folder = tmp_path / "stand_ins"
    folder.mkdir()
    (folder / "knows.py").write_text(STAND_IN.replace("NAMES(file)", "file.parent.name"))
    (folder / "guesses.py").write_text(STAND_IN.replace("NAMES(file)", f"{CLASSES[0]!r}"))
    root = Path(own_data.__file__).parents[2]
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={root}:{folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(own_data, "MODULES", {"kit": "knows", "plain": "guesses"})
    monkeypatch.setattr(own_data.sys, "executable", str(python))
    return python


@pytest.mark.parametrize(("kind", "total"), [("balanced", 100), ("skewed", 100), ("skewed", 31), ("gray", 2_000)])
def test_classes_have_the_counts_that_the_name_says(kind, total):
    counts = picture_sets.counts(kind, total)
    assert sum(counts) == total
    assert min(counts) > 0
    assert counts[0] / counts[-1] == pytest.approx(5.0 if kind == "skewed" else 1.0, rel=0.25)


def test_a_set_is_what_it_is_called_and_the_same_again(tmp_path, own_set):
    found = collections.Counter(file.parent.name for file in (own_set.folder / "train").rglob("*.jpg"))
    assert tuple(found[name] for name in CLASSES) == picture_sets.counts("skewed", 31)
    assert len(list((own_set.folder / "val").rglob("*.jpg"))) == 2 * len(CLASSES)
    again = picture_sets.prepare("skewed-31", tmp_path, None, workers=0)
    name = Path("train") / CLASSES[1] / "0000.jpg"
    assert (again.folder / name).read_bytes() == (own_set.folder / name).read_bytes()
    gray = picture_sets.prepare("gray-5", tmp_path, None, seed=3, workers=0)
    with Image.open(gray.folder / name) as image:
        assert image.mode == "L"
    assert gray.folder.name == "gray-5-seed3"


def test_real_photographs_are_parted_once(tmp_path):
    source = tmp_path / "real" / "dogs_cats"
    for name, count in (("cat", 10), ("dog", 5)):
        (source / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8)).save(source / name / f"{number}.jpg")
    own = picture_sets.prepare("dogs_cats", tmp_path / "cache", tmp_path / "real")
    parts = {part: {str(file.relative_to(own.folder / part)) for file in (own.folder / part).rglob("*.jpg")}
             for part in ("train", "val")}  # fmt: skip
    assert {part: len(files) for part, files in parts.items()} == {"train": 12, "val": 3}
    assert not parts["train"] & parts["val"]
    assert (own.task, own.is_real) == ("classify", True)


def test_any_folder_of_real_data_is_a_set(tmp_path):
    """Photographs keep a split of their own; files that hold boxes make it one to find objects in."""
    for part, count in (("train", 2), ("val", 1)):
        for name in ("leaf", "stem"):
            (tmp_path / "plants" / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / "plants" / part / name / f"{number}.jpg")
    (tmp_path / "plants" / "notes.txt").write_text("Taken in May.\n")
    own = picture_sets.prepare("plants", tmp_path / "cache", tmp_path)
    assert (own.folder, own.task, own.is_real) == (tmp_path / "plants", "classify", True)
    (tmp_path / "tabled" / "images").mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / "tabled" / "images" / f"{number}.png")
    rows = "".join(f"{number},{'T-shirt/top' if number < 5 else 'bag'}\n" for number in range(10))
    (tmp_path / "tabled" / "train.csv").write_text(f"id,label\n{rows}")
    own = picture_sets.prepare("tabled", tmp_path / "cache", tmp_path)
    assert {file.parent.name for file in (own.folder / "val").rglob("*.png")} == {"T-shirt-top", "bag"}
    generate(tmp_path / "street", images=(4, 2), seed=1, workers=0)
    own = picture_sets.prepare("street", tmp_path / "cache", tmp_path)
    assert (own.task, own.is_real) == ("detect", True)
    assert len(picture_sets.scenes_of(own.folder)) == 6


def test_scenes_are_drawn_for_the_set_alone_and_written_as_yolo_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_sets, "SCENES_VALIDATION", 3)
    own = picture_sets.prepare("scenes-6", tmp_path, None, seed=2, workers=0)
    assert (own.task, own.is_real, own.folder.name) == ("detect", False, "scenes-6-seed2")
    scenes = picture_sets.scenes_of(own.folder)
    assert (len(scenes.subset("train")), len(scenes.subset("val"))) == (6, 3)
    drawn = picture_sets.scenes_of(own.folder.with_name("scenes-6-seed2-drawn"))
    np.testing.assert_allclose(scenes.boxes, drawn.boxes, atol=0.01)
    assert f"path: {own.folder}" in (own.folder / "data.yaml").read_text()
    generate(tmp_path / "demo", images=(6, 3), seed=2, workers=0)
    assert not set(drawn.digests) & set(picture_sets.scenes_of(tmp_path / "demo").digests)


@pytest.mark.parametrize("name", ["colourful-100", "scenes-few", "balanced-few", "balanced-3", "dogs_cats"])
def test_unknown_sets_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=name):
        picture_sets.prepare(name, tmp_path, None)


def test_epochs_follow_from_two_short_trainings(tmp_path):
    assert length(60.0, (1, 2), (9.0, 14.0)) == pytest.approx(1 + 51 / 5)
    assert length(2.0, (1, 2), (9.0, 14.0)) == 1
    with pytest.raises(SideError, match="noise"):
        length(60.0, (1, 2), (9.0, 9.0))
    asked = []
    job = job_of(tmp_path, tmp_path, budget=60.0)

    def train(epochs, folder):
        asked.append(epochs)
        burn(0.03 * epochs)

    first = affordable(job, (1, 3), train)
    assert affordable(job, (1, 3), train) == first
    assert asked == [1, 3]
    assert first == pytest.approx(60 / 0.03, rel=0.5)


def burn(seconds):
    meter = Meter()
    while meter() < seconds:
        sum(range(50_000))


def job_of(data, folder, **fields):
    base = {"task": "classify", "model": "", "budget": 1.0, "size": 96, "seed": 0, "threads": 1}
    return Job(
        **{**base, "data": str(data), "folder": str(folder / "side"), "pace": str(folder / "pace.json"), **fields}
    )


def test_the_meter_counts_the_whole_process_tree():
    meter = Meter()
    subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.4: pass"], check=True)
    assert 0.35 < meter() < 2.0


def test_sides_are_judged_recorded_and_not_asked_twice(tmp_path, own_set, stand_ins, monkeypatch):
    settings = Settings(
        sets=("skewed-31",), budgets=(0.5,), seeds=(0, 1, 2), sides=("kit", "plain"), peer=stand_ins,
        cells=own_set.folder.parents[1] / "cells", output=tmp_path / "results",
    )  # fmt: skip
    monkeypatch.setattr(picture_sets, "prepare", lambda *arguments, **options: own_set)
    own_data.run(settings, ("python", "-m", "benchmarks.peers.own_data"), Console(quiet=True))
    (record,) = read_all([settings.output])
    assert (record.details["kit top1"], record.details["plain top1"]) == (1.0, 1 / len(CLASSES))
    assert record.protocol.windows == len(record.measurements["kit"].windows) == 3
    assert record.ratios["kit/plain"].pairs == 3

    monkeypatch.setattr(own_data, "run_side", lambda *arguments: pytest.fail("a kept cell was measured again"))
    own_data.run(settings, ("python", "-m", "benchmarks.peers.own_data"), Console(quiet=True))
    assert len(read_all([settings.output])) == 1
    assert "UNEQUAL_TIME" in {reason.code for reason in record.validity.reasons}
    assert "OTHER_COMMIT" not in {warning.code for warning in record.validity.warnings}
    assert "skewed-31" not in table([record])
    believed = replace(record, validity=Validity(valid=True))
    assert "| skewed-31 | 0.5 s | 3 | top1 | **1.000** | 0.200 | – | – | kit | " in table([believed])
    newer = replace(believed, created="2999", details={**record.details, "plain top1": 1.0})
    assert table([newer, believed]).count("skewed-31") == 1
    assert "| kit, plain | 2999, " in table([newer, believed])


def test_a_record_of_fewer_seeds_is_told_again_with_all(tmp_path, own_set, stand_ins, monkeypatch):
    monkeypatch.setattr(picture_sets, "prepare", lambda *arguments, **options: own_set)
    told = own_data.Answer(
        package="x 1", seconds=0.5, learnt=Learnt(steps=1, samples=1, epochs=1.0),
        predictions={str(file.relative_to(own_set.folder / "val")): CLASSES[0]
                     for file in (own_set.folder / "val").rglob("*.jpg")}, boxes=[],
    )  # fmt: skip
    asked = []
    monkeypatch.setattr(own_data, "run_side", lambda python, module, job: asked.append(job) or told)
    weights = tmp_path / "cats.safetensors"
    for commit, seeds in (("aa" * 20, (0,)), ("bb" * 20, (0, 1)), ("bb" * 20, (0, 1))):
        monkeypatch.setattr(own_data, "kit_version", lambda commit=commit: {"commit": commit})
        settings = Settings(
            sets=("skewed-31",), budgets=(0.5,), seeds=seeds, sides=("kit", "plain", "timm"), peer=stand_ins,
            cells=tmp_path / "cells", output=tmp_path / "results", weights=weights,
        )  # fmt: skip
        own_data.run(settings, ("python", "-m", "benchmarks.peers.own_data"), Console(quiet=True))
    records = read_all([tmp_path / "results"])
    assert sorted(record.protocol.windows for record in records) == [1, 2]
    warned = {record.protocol.windows: record.validity.warnings for record in records}
    assert "OTHER_COMMIT" not in {warning.code for warning in warned[1]}
    assert [warning.text for warning in warned[2] if warning.code == "OTHER_COMMIT"] == [
        "seed 0 of the kit was measured at aaaaaaaa."
    ]
    assert {record.workload.dataset for record in records} == {"skewed-31 from cats"}
    assert {job.weights for job in asked} == {str(weights)}
    assert [(Path(job.pace).name.split("-t1-")[1], job.seed) for job in asked] == [
        ("kit.json", 0), ("plain.json", 0), ("plain.json", 1), ("kit.json", 1)
    ]  # fmt: skip
    monkeypatch.setitem(own_data.MODULES, "timm", "a stand-in")
    others = replace(
        settings, weights=None, sides=("plain", "timm"), timm_script=stand_ins, cells=tmp_path / "others",
        output=tmp_path / "nothing",
    )  # fmt: skip
    own_data.run(others, ("python", "-m", "benchmarks.peers.own_data"), Console(quiet=True))
    assert len(list((tmp_path / "others" / "cells").iterdir())) == 4
    assert not (tmp_path / "nothing").exists()  # nothing of the kit's to compare with


def test_a_side_that_ends_early_is_told_with_its_last_words(tmp_path, own_set):
    with pytest.raises(SideError, match=r"No module named benchmarks\.no_such_side"):
        run_side(Path(sys.executable), "benchmarks.no_such_side", job_of(own_set.folder, tmp_path))
    with pytest.raises(KitError, match="--peer"):
        own_data.measure(Settings(cells=tmp_path), "plain", own_set, 1.0, 0)


def test_what_was_not_answered_is_no_figure(own_set):
    answer = own_data.Answer(
        package="x 1", seconds=1.0, learnt=Learnt(steps=1, samples=1, epochs=1.0), predictions={}, boxes=[]
    )
    with pytest.raises(DataError, match="0 answers for 10 pictures"):
        own_data.value_of(own_set, answer)


def test_boxes_are_judged_as_the_kit_judges_its_own(tmp_path):
    scenes = picture_sets.scenes_of(generate(tmp_path / "scenes", images=(2, 4), workers=0)).subset("val")
    rows = [
        (Path(scenes.paths[image]).name, scenes.classes[label - 1], 0.9, *map(float, corners))
        for image, label, corners in zip(scenes.image_of_box(), scenes.labels, scenes.boxes, strict=True)
    ]
    assert average_precision(scenes, rows) == pytest.approx(1.0)
    assert average_precision(scenes, []) == 0.0
    moved = [(*row[:3], row[3] + 500, row[4], row[5] + 500, row[6]) for row in rows]
    assert average_precision(scenes, rows[:1] + moved) < 1.0
    folder = picture_sets.as_yolo(tmp_path / "scenes", tmp_path / "yolo")
    again = picture_sets.scenes_of(folder).subset("val")
    assert again.classes == scenes.classes
    np.testing.assert_allclose(again.boxes, scenes.boxes, atol=0.01)


@pytest.mark.skipif("KIT_TEST_PICTURE_PEERS" not in os.environ, reason="KIT_TEST_PICTURE_PEERS names no Python")
@pytest.mark.parametrize("module", ["plain_peer", "ultralytics_peer"])
def test_a_peer_answers_for_every_picture(tmp_path, own_set, module):
    job = job_of(own_set.folder, tmp_path, budget=3.0)
    answer = run_side(Path(os.environ["KIT_TEST_PICTURE_PEERS"]), f"benchmarks.peers.{module}", job)
    assert answer.learnt.steps > 0
    assert answer.seconds > 2.0
    assert 0 <= own_data.value_of(own_set, answer) <= 1


@pytest.mark.skipif("KIT_TEST_PICTURE_PEERS" not in os.environ, reason="KIT_TEST_PICTURE_PEERS names no Python")
def test_a_detector_of_others_learns_from_scratch_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_sets, "SCENES_VALIDATION", 3)
    own = picture_sets.prepare("scenes-6", tmp_path, None, workers=0)
    job = job_of(own.folder, tmp_path, task="detect", size=300, budget=6.0)
    answer = run_side(Path(os.environ["KIT_TEST_PICTURE_PEERS"]), "benchmarks.peers.ultralytics_peer", job)
    assert answer.learnt.steps > 0
    assert {box[0] for box in answer.boxes} <= {file.name for file in job.pictures("val")}
    assert 0 <= own_data.value_of(own, answer) <= 1
    log = (Path(job.folder) / "side.log").read_text()
    assert "Downloading" not in log
