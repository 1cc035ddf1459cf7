import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from rich.console import Console
from torch import Tensor, nn

from challenges.detection.data import SceneData
from challenges.detection.detections import Detections
from challenges.detection.predict import Targets, gather, predict
from challenges.detection.recipes import RECIPES, DetectionRecipe
from common.challenge import Trained
from common.errors import DataError
from common.files import write_text
from common.question import Question
from common.run.run_directory import RunDirectory
from tests.common.vision.picture_files import oriented
from tests.detection.builders import scenes_of
from tests.detection.test_video import find_red
from tests.detection.video_maker import make_video

RED = (220, 20, 20)
CPU = torch.device("cpu")


class FindRed(nn.Module):
    def detect(self, images: Tensor) -> Detections:
        return find_red(images)

    def place(self, device: torch.device) -> "FindRed":
        return self


def finds_red(run: RunDirectory, recipe: DetectionRecipe) -> Trained:
    """A trained model that needs no weights."""
    scenes = scenes_of(run.path.parent, [(300, 300)], {0: [(1, 0, 0, 9, 9)]}, classes=("cat", "dog"))
    scenes = replace(scenes, category_ids=(7, 18))
    return Trained(None, run, recipe, SceneData(scenes, recipe.preprocessing, recipe.data, device=CPU), FindRed())


def save(
    path: Path, size: tuple[int, int] = (200, 100), box: tuple[int, ...] | None = (40, 20, 100, 60), **options
) -> None:
    """A grey picture with a red box."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    if box:
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = RED
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def ask(tmp_path: Path):
    """Run `predict` and return what it printed and the output folder."""

    def call(*inputs: Path, recipe: DetectionRecipe = RECIPES["small"], **options) -> tuple[str, Path]:
        run = RunDirectory(tmp_path / "run")
        run.create(recipe, {"model": "ssd300", "recipe": "demo", "command": "kit", "data": {}})
        console = Console(record=True, width=160, file=SimpleNamespace(write=len, flush=lambda: None))
        output = tmp_path / "run" / "predictions"
        predict(finds_red(run, recipe), Question(tuple(inputs), **options), output, CPU, console)
        return console.export_text(), output

    return call


def test_an_image_gets_a_table_a_copy_and_its_boxes(ask, tmp_path):
    save(tmp_path / "street.png")
    text, output = ask(tmp_path / "street.png")
    assert sorted(path.name for path in output.iterdir()) == ["detections.csv", "detections.json", "street.png"]
    (row,) = [line for line in text.splitlines() if "dog" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")][1:3] == ["dog", "0.90"]
    assert np.abs(np.array(row.strip("│").split("│")[3:], float) - [40, 20, 100, 60]).max() <= 1
    assert "Shown: scores from 0.3 on. The metric counts all above 0.05." in text
    with Image.open(output / "street.png") as copy:
        assert copy.size == (400, 200)  # enlarged, so that the label can be read
        assert np.asarray(copy)[195, 395].tolist() == [90, 90, 90]
        assert len(copy.getcolors(1 << 20)) > 2


def test_the_json_is_cocos_with_scores(ask, tmp_path):
    save(tmp_path / "a.jpg", quality=95)
    save(tmp_path / "b.jpg", box=None)
    _, output = ask(tmp_path / "a.jpg", tmp_path / "b.jpg", threshold=0.05)
    record = json.loads((output / "detections.json").read_text())
    assert [(image["id"], image["width"], image["height"]) for image in record["images"]] == [
        (1, 200, 100),
        (2, 200, 100),
    ]
    assert record["categories"] == [{"id": 7, "name": "cat"}, {"id": 18, "name": "dog"}]
    best, weak = record["annotations"]
    assert (best["image_id"], best["category_id"], best["score"]) == (1, 18, pytest.approx(0.9, abs=1e-5))
    assert np.abs(np.subtract(best["bbox"], [40, 20, 60, 40])).max() < 1.5
    assert (weak["category_id"], weak["score"]) == (7, pytest.approx(0.1, abs=1e-5))
    truth = COCO(str(output / "detections.json"))
    results = truth.loadRes(record["annotations"])
    assert len(results.getAnnIds()) == 2
    with (output / "detections.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["class"], row["score"]) for row in rows] == [("dog", "0.9000"), ("cat", "0.1000")]
    assert rows[0]["file"] == str(tmp_path / "a.jpg")


def test_boxes_are_in_the_upright_pictures_pixels(ask, tmp_path):
    save(tmp_path / "a.jpg", quality=95, exif=oriented(6))
    _, output = ask(tmp_path / "a.jpg")
    record = json.loads((output / "detections.json").read_text())
    assert (record["images"][0]["width"], record["images"][0]["height"]) == (100, 200)
    assert np.abs(np.subtract(record["annotations"][0]["bbox"], [40, 40, 40, 60])).max() < 2
    with Image.open(output / "a.jpg") as copy:
        assert copy.size == (200, 400)


def test_equal_names_never_overwrite_each_other(ask, tmp_path):
    for name in ("x/cat.jpg", "y/cat.jpg", "y/cat.jpeg", "y/CAT.JPG", "y/cat.png"):
        save(tmp_path / name)
    _, output = ask(tmp_path / "x" / "cat.jpg", tmp_path / "y" / "cat.jpg", tmp_path / "x", tmp_path / "y")
    copies = sorted(str(path.relative_to(output)) for path in output.rglob("*cat*") if path.is_file())
    copies += sorted(str(path.relative_to(output)) for path in output.rglob("*CAT*") if path.is_file())
    assert copies == ["cat-2.jpg", "cat.jpg", "y/cat-2.jpg", "y/cat.png", "y/CAT.jpg"]
    assert len(json.loads((output / "detections.json").read_text())["images"]) == 5


def test_inputs_are_never_written_over(tmp_path):
    save(tmp_path / "cat.jpg")
    targets = Targets(tmp_path, [tmp_path / "cat.jpg"])
    assert targets.choose(Path("cat.jpg"), ".jpg") == tmp_path / "cat-2.jpg"
    assert targets.choose(Path("detections.json"), ".json") == tmp_path / "detections-2.json"


def test_names_as_long_as_the_system_takes_get_copies_of_their_own(tmp_path):
    targets, place = Targets(tmp_path, []), Path("photos") / f"{'写' * 83}.mp4"
    chosen = [targets.choose(place, ending, ".jsonl") for ending in (".mp4", ".mp4")]
    assert len(set(chosen)) == 2
    for path in chosen:
        write_text(path.with_suffix(".jsonl"), "{}")


def test_a_folder_is_searched_but_not_for_earlier_answers(tmp_path):
    for name in ("in/a.jpg", "in/deep/b.PNG", "in/out/a.jpg", "in/clip.mov", "in/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = gather([tmp_path / "in", tmp_path / "in" / "a.jpg"], tmp_path / "in" / "out")
    assert [str(one.place) for one in found] == ["in/a.jpg", "in/clip.mov", "in/deep/b.PNG"]
    assert [one.is_video for one in found] == [False, True, False]


def test_unreadable_files_are_named_and_left_out(ask, tmp_path):
    save(tmp_path / "a.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    text, output = ask(tmp_path / "a.jpg", tmp_path / "bad.jpg", tmp_path / "bad.mp4", tmp_path / "gone.png")
    assert f"left out: {tmp_path / 'bad.jpg'}: no known image format" in text
    assert f"left out: {tmp_path / 'gone.png'}: no such file" in text
    assert f"left out: {tmp_path / 'bad.mp4'} cannot be read as a video" in text
    assert len(json.loads((output / "detections.json").read_text())["images"]) == 1


def test_nothing_readable_is_an_error(ask, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no readable image or video"):
        ask(tmp_path / "bad.jpg")
    with pytest.raises(DataError, match="no readable image or video"):
        ask(tmp_path / "bad.mp4")


def test_a_video_gets_an_annotated_copy_and_its_speed(ask, tmp_path):
    (tmp_path / "clips").mkdir()
    make_video(tmp_path / "clips" / "a.mp4")
    text, output = ask(tmp_path / "clips")
    assert (output / "clips" / "a.mp4").is_file()
    assert len((output / "clips" / "a.jsonl").read_text().splitlines()) == 13
    assert "13 detections in 13 frames" in text
    assert "frames/s" in text
    assert not (output / "detections.json").exists()


def test_long_answers_are_cut_in_the_table_only(ask, tmp_path):
    for number in range(25):
        save(tmp_path / "many" / f"{number:02d}.png", size=(20, 10), box=(4, 2, 12, 8))
    text, output = ask(tmp_path / "many")
    assert "and 5 more images" in text
    assert "19.png" in text
    assert "20.png" not in text
    assert len(json.loads((output / "detections.json").read_text())["annotations"]) == 25


def test_an_image_without_a_find_says_so(ask, tmp_path):
    save(tmp_path / "a.png", box=None)
    text, output = ask(tmp_path / "a.png")
    assert "nothing found" in text
    assert (output / "a.png").is_file()


def test_tiles_find_what_a_whole_picture_is_too_coarse_for(ask, tmp_path):
    save(tmp_path / "a.png", size=(1500, 900), box=(760, 430, 763, 433))
    recipe = replace(RECIPES["small"], data=replace(RECIPES["small"].data, tile=300))
    text, output = ask(tmp_path / "a.png", recipe=recipe)
    assert "Searched: whole images and tiles of 300 pixels." in text
    (found,) = json.loads((output / "detections.json").read_text())["annotations"]
    assert np.abs(np.subtract(found["bbox"], [760, 430, 3, 3])).max() < 1.5
