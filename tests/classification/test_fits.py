"""What recipes for photographs of one's own take from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from challenges.classification.fits import fits
from challenges.classification.manifest import Manifest
from challenges.classification.recipes import RECIPES, ModelConfig, starts_as_identity
from common.run.fitting import apply
from common.run.overrides import apply_overrides
from common.storage.weight_files import save_weights, weights_metadata
from common.vision.preprocessing import ImagePreprocessing
from common.vision.resnet import ResNet

PHOTOS, FINETUNE = RECIPES["photos"], RECIPES["finetune"]


def manifest(counts, size=(480, 640), sizes=None):
    """`counts` training photographs per class and one validation photograph each, of (height, width) pixels."""
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.arange(len(counts))])
    number = len(labels)
    heights, widths = np.asarray(sizes or [size] * number, np.int32).T
    splits = np.asarray(["train"] * sum(counts) + ["val"] * len(counts), object)
    empty, zeros = np.full(number, "", object), np.zeros(number, np.int64)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return Manifest(Path(), names, empty, labels, widths, heights, splits, zeros, zeros, empty, "")


def fitted(recipe, data, modes=None, chosen=()):
    found, told = apply(recipe, fits(recipe, data, {"modes": modes or {"RGB": len(data)}}), chosen)
    assert all(line.startswith("fit: ") and ", " in line for line in told)
    return found


@pytest.mark.parametrize(("count", "depth"), [(100, 18), (4_998, 18), (5_000, 50), (200_000, 50)])
def test_few_photographs_get_a_small_network(count, depth):
    model = fitted(PHOTOS, manifest([count // 2] * 2)).model
    assert model.depth == depth
    assert model.zero_init_last_norm == (depth == 50)


def test_eighteen_layers_start_whole_under_adamw_where_time_is_short():
    flags, _ = fitted(PHOTOS, manifest([3_000, 3_000])).lighter()
    assert "--model.no-zero-init-last-norm" in flags
    assert apply_overrides(PHOTOS, flags, "kit train").model == ModelConfig(depth=18, zero_init_last_norm=False)
    flags, _ = RECIPES["imagenet-90e"].lighter()
    assert "--model.depth" in flags
    assert "--model.no-zero-init-last-norm" not in flags


@pytest.mark.parametrize("recipe", [PHOTOS, replace(FINETUNE, weights=Path("w.pth"))])
@pytest.mark.parametrize("count", [20, 100, 500, 2_000, 20_000])
def test_every_run_makes_enough_steps_and_no_more_passes_than_it_needs(recipe, count):
    training = fitted(recipe, manifest([count // 2] * 2)).training
    steps = training.epochs * count / training.batch_size
    assert steps >= 140
    assert training.epochs * count <= 15 * max(count, 20_000)
    assert 5 <= training.epochs / training.evaluate_every <= 8


def test_the_demo_starts_its_blocks_by_the_same_rule():
    demo = RECIPES["demo"]
    assert demo.model.zero_init_last_norm == starts_as_identity(demo.model.depth, demo.optimizer.name)


def test_a_smaller_batch_takes_smaller_steps_where_steps_grow_with_gradients():
    recipe = replace(FINETUNE, weights=Path("w.pth"))
    sgd = replace(recipe, optimizer=replace(recipe.optimizer, name="sgd"))
    assert fitted(recipe, manifest([120, 120])).optimizer == recipe.optimizer
    for count in (120, 5_000):
        found = fitted(sgd, manifest([count, count]))
        assert found.optimizer.peak_lr / found.training.batch_size == pytest.approx(0.01 / 64)
    assert found.model == recipe.model
    assert found.preprocessing == recipe.preprocessing


def test_weights_say_their_network_and_the_pictures_that_they_know(tmp_path):
    model = ResNet(depth=18, num_classes=2, zero_init_last_norm=False)
    own, foreign = tmp_path / "own.safetensors", tmp_path / "foreign.pth"
    known = ImagePreprocessing(resize=55, crop=48)
    save_weights(model.state_dict(), own, weights_metadata(["a", "b"], known.to_plain()))
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, foreign)
    for path, crop in ((own, 48), (foreign, FINETUNE.preprocessing.crop)):
        found = fitted(replace(FINETUNE, weights=path), manifest([20, 20]))
        assert (found.model.depth, found.preprocessing.crop) == (18, crop)
        assert found.preprocessing.mean == FINETUNE.preprocessing.mean
        assert path != own or found.preprocessing == known


def test_small_pictures_get_a_small_input():
    assert fitted(PHOTOS, manifest([50, 50], (28, 28))).preprocessing.crop == 64
    assert fitted(PHOTOS, manifest([50, 50], (64, 200))).preprocessing.crop == 64
    assert fitted(PHOTOS, manifest([50, 50])).preprocessing.crop == 96


@pytest.mark.parametrize(
    ("counts", "balance"), [([100, 100], 0.0), ([100, 51], 0.0), ([100, 50], 1.0), ([500, 3], 1.0)]
)
def test_rare_classes_count_from_two_to_one_on(counts, balance):
    assert fitted(PHOTOS, manifest(counts)).balance == balance


def test_scans_are_hardly_cropped():
    scans, photographs = manifest([50, 50]), manifest([1, 1], sizes=[(480, 640), (480, 640), (30, 40), (30, 40)])
    assert fitted(PHOTOS, scans, {"L": 102}).data.area == (0.6, 1.0)
    assert fitted(PHOTOS, scans, {"L": 101, "RGB": 1}).data.area == PHOTOS.data.area
    assert fitted(
        PHOTOS, manifest([2, 1], sizes=[(48, 64), (30, 40), (48, 64), (48, 64), (48, 64)]), {"L": 5}
    ).data == (PHOTOS.data)
    assert fitted(PHOTOS, photographs).data.area == PHOTOS.data.area


def test_what_the_user_gave_stays():
    found = fitted(PHOTOS, manifest([50, 50]), chosen={"model.depth", "preprocessing.crop", "training.epochs"})
    assert (found.model.depth, found.preprocessing) == (PHOTOS.model.depth, PHOTOS.preprocessing)
    assert found.training.epochs == PHOTOS.training.epochs
    assert found.training.batch_size == 8


def test_photographs_are_seen_in_other_light_and_the_fit_says_when_not_to():
    found = {fit.field: fit for fit in fits(PHOTOS, manifest([50, 50]), {"modes": {"RGB": 100}})}
    assert found["data.colour"].value == PHOTOS.data.colour > 0
    assert "--data.colour 0" in found["data.colour"].reason
    assert "data.colour" not in {fit.field for fit in fits(FINETUNE, manifest([50, 50]), {"modes": {"RGB": 100}})}
