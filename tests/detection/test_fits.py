"""What recipes for scenes of one's own take from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from challenges.detection.challenge import CHALLENGE
from challenges.detection.fits import EPOCHS, PASSES, fits, lighter, whole_from
from challenges.detection.recipes import RECIPES
from common.errors import RecipeError
from common.machine.distributed import World
from common.run.fitting import apply
from tests.detection.builders import scenes_of


def scenes(root, count):
    """`count` training images and three for validation."""
    boxes = {image: [(1, 10, 10, 60, 60)] for image in range(count + 3)}
    return scenes_of(root, [(100, 80)] * (count + 3), boxes, splits=["train"] * count + ["val"] * 3)


@pytest.mark.parametrize("name", ["small", "small-512"])
@pytest.mark.parametrize(
    ("count", "epochs", "batch"), [(12, 100, 4), (292, 24, 4), (999, 12, 4), (1_000, 12, 8), (6_000, 12, 8)]
)
def test_a_run_sees_about_as_many_images_whatever_their_number(tmp_path, name, count, epochs, batch):
    recipe = RECIPES[name]
    assert recipe.fit == "data"
    found, told = apply(recipe, fits(recipe, scenes(tmp_path, count)), ())
    training = found.training
    assert training.epochs == epochs
    assert training.epochs / training.evaluate_every == 4
    assert training.epochs in EPOCHS or abs(training.epochs * count / PASSES - 1) < 0.05
    assert training.batch_size == batch
    assert f"{count:,} training images: {round(epochs * count / batch):,} steps of {batch}" in told[1]


def test_what_the_user_gave_stays(tmp_path):
    recipe = RECIPES["small"]
    found, told = apply(recipe, fits(recipe, scenes(tmp_path, 292)), ("training.epochs",))
    assert found.training.epochs == recipe.training.epochs
    assert "training.epochs stays" in told[1]


def test_the_challenge_reads_the_number_from_what_the_check_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr("challenges.detection.challenge.Scenes.read", lambda folder: scenes(tmp_path, 100))
    found = {fit.field: fit.value for fit in CHALLENGE.fits(RECIPES["small"], tmp_path)}
    assert found["training.epochs"] == np.round(PASSES / 100)


def test_a_batch_is_not_cut_into_single_images(tmp_path):
    recipe = RECIPES["demo"]
    with pytest.raises(RecipeError, match=r"leaves 1 to each of 4 processes[^~]*--training\.batch-size 8 or"):
        CHALLENGE.open_data(recipe, tmp_path, torch.device("cpu"), World(0, 4))


def test_a_lighter_recipe_looks_at_smaller_pictures_once():
    recipe = RECIPES["small"]
    flags, work = recipe.lighter()
    assert flags == ("--preprocessing.crop", "192", "--preprocessing.resize", "192")
    assert work == pytest.approx(0.41, abs=0.01)


def test_the_last_share_of_a_run_sees_whole_images():
    recipe = RECIPES["small"]
    training = replace(recipe.training, epochs=20, batch_size=4)
    data = replace(recipe.data, whole_share=0.5)
    assert whole_from(replace(recipe, training=training, data=data), 100) == 250  # of 500 steps
    for epochs, windows in ((8, 50), (2, 0)):  # the last six epochs are 150 steps
        short = replace(recipe, training=replace(training, epochs=epochs), data=data)
        assert whole_from(short, 100) == windows
    assert whole_from(replace(recipe, data=replace(data, whole_share=0.0)), 100) is None
    assert whole_from(replace(recipe, data=replace(data, tile=300)), 100) is None
    with pytest.raises(RecipeError, match="whole-share is 1"):
        replace(data, whole_share=1.5)


@pytest.mark.parametrize(("object_side", "sides"), [(40, ["192", "128"]), (8, ["192"])])
def test_pictures_become_as_small_as_their_objects_allow(tmp_path, object_side, sides):
    boxes = {image: [(1, 10, 10, 10 + object_side, 10 + object_side)] for image in range(6)}
    found = scenes_of(tmp_path, [(100, 100)] * 6, boxes, splits=["train"] * 3 + ["val"] * 3)
    ways = lighter(RECIPES["small"], found)
    assert [flags[1] for flags, _ in ways] == sides
    assert [work for _, work in ways] == [pytest.approx((int(side) / 300) ** 2) for side in sides]
    at_least = RECIPES["demo"]
    assert lighter(at_least, found) == []
