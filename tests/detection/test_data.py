"""Scenes through DALI: boxes follow the pixels, the order resumes, the stream is the same at any world size."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from challenges.detection.data import SceneData
from challenges.detection.recipes import DataConfig
from common.machine.distributed import ALONE, World
from common.vision.preprocessing import ImagePreprocessing
from tests.detection.builders import paint, scenes_of

CPU = torch.device("cpu")
SQUASH = ImagePreprocessing(resize=100, crop=100, mode="squash")
COLOURS = {1: (255, 20, 20), 2: (20, 255, 20), 3: (20, 20, 255)}
PLAIN = {"saturation": (1.0, 1.0), "contrast": (1.0, 1.0), "brightness": (1.0, 1.0)}


def write(root, sizes, boxes, **options):
    scenes = scenes_of(root, sizes, boxes, **options)
    for index, (width, height) in enumerate(sizes):
        paint(width, height, boxes.get(index, ()), COLOURS).save(root / scenes.paths[index])
    return scenes


def batches(scenes, first=0, count=4, batch=8, world=ALONE, **config):
    data = SceneData(scenes, SQUASH, DataConfig(**config), device=CPU, world=world, seed=5)
    return list(islice(data.train_batches(first, batch, 1), count))


def pixels(batch):
    return SQUASH.pixels(batch["images"].numpy())


def extent(picture, label):
    """Left, top, right, bottom of the label's colour, as shares of the picture; where half a pixel counts, it does."""
    share = np.zeros(picture.shape[:2]) + (picture[..., label - 1].astype(float) - 20) / 235
    others = [channel for channel in range(3) if channel != label - 1]
    share -= np.maximum(picture[..., others].max(-1).astype(float) - 20, 0) / 235
    share = share.clip(0, 1)
    found = []
    for axis in (0, 1):  # columns, then rows
        profile = share.max(axis)
        covered = np.flatnonzero(profile > 0.5)
        found.append((covered[0], covered[-1] + 1))
    (left, right), (top, bottom) = found
    return np.array([left, top, right, bottom]) / picture.shape[0]


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Twelve pictures of three coloured rectangles each, far apart, and four for validation."""
    generator = np.random.default_rng(0)
    sizes = [tuple(generator.integers(180, 400, 2).tolist()) for _ in range(16)]
    boxes = {}
    for index, (width, height) in enumerate(sizes):
        boxes[index] = []
        for place, label in enumerate(generator.permutation([1, 2, 3]).tolist()):
            left = place * width / 3 + generator.uniform(2, width * 0.1)
            top = generator.uniform(2, height * 0.6)
            right, bottom = left + generator.uniform(0.1, 0.2) * width, top + generator.uniform(0.15, 0.35) * height
            boxes[index].append((label, *(float(int(value)) for value in (left, top, right, bottom))))
    return write(tmp_path_factory.mktemp("painted"), sizes, boxes, splits=["train"] * 12 + ["val"] * 4)


@pytest.mark.parametrize("flips", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)], ids=str)
def test_boxes_follow_the_pixels(painted, flips):
    seen = 0
    for batch in batches(painted, count=6, batch=12, flip=flips[0], vertical_flip=flips[1], **PLAIN):
        assert batch["boxes"].dtype == torch.float32
        assert batch["labels"].dtype == batch["index"].dtype == torch.int64
        for picture, boxes, labels in zip(pixels(batch), batch["boxes"].numpy(), batch["labels"].tolist(), strict=True):
            for box, label in zip(boxes, labels, strict=True):
                if label:
                    assert np.abs(extent(picture, label) - box).max() * 100 < 1.6
                    seen += 1
                else:
                    assert (box == 0).all()
    assert seen > 130


def test_colours_change_nothing_but_colours(painted):
    plain, coloured = batches(painted, count=1, **PLAIN)[0], batches(painted, count=1)[0]
    assert torch.equal(plain["boxes"], coloured["boxes"])
    assert not torch.equal(plain["images"], coloured["images"])


@pytest.mark.parametrize("name", ["saturation", "contrast", "brightness"])
def test_colour_factors_do_what_they_say(painted, name):
    plain = pixels(batches(painted, count=1, crop=False, **PLAIN)[0]).astype(float)
    changed = pixels(batches(painted, count=1, crop=False, **{**PLAIN, name: (0.5, 0.5)})[0]).astype(float)
    grey = (plain @ [0.299, 0.587, 0.114])[..., None]
    expected = {"saturation": (plain + grey) / 2, "contrast": (plain + 128) / 2, "brightness": plain / 2}[name]
    assert np.abs(changed - expected).max() < 1.6


def test_without_augmentation_an_image_is_seen_as_in_validation(painted):
    data = SceneData(painted, SQUASH, DataConfig(crop=False, flip=0.0, **PLAIN), device=CPU)
    batch = next(iter(data.train_batches(0, 12, 1)))
    validation = next(data.batches_of(data.train, batch["index"].numpy()))
    assert torch.equal(batch["images"], validation["images"])
    sides = np.stack([data.train.widths, data.train.heights] * 2, axis=1)[data.train.image_of_box()]
    expected = (data.train.boxes / sides).reshape(-1, 3, 4)[batch["index"].numpy()]
    np.testing.assert_allclose(batch["boxes"], expected, atol=1e-6)


def test_windows_end_where_whole_images_begin(painted):
    data = SceneData(painted, SQUASH, DataConfig(), device=CPU, seed=5, whole_from=2)
    found = list(islice(data.train_batches(0, 8, 1), 4))
    for step, batch in enumerate(found):
        (expected,) = batches(painted, first=step, count=1, crop=step < 2)
        assert all(torch.equal(batch[name], expected[name]) for name in expected)
    (resumed,) = islice(data.train_batches(3, 8, 1), 1)
    assert torch.equal(resumed["images"], found[3]["images"])


def test_validation_holds_every_image_once_over_all_ranks(painted):
    indices = []
    for rank in range(2):
        data = SceneData(painted, SQUASH, DataConfig(), device=CPU, world=World(rank, 2), evaluation_batch=3)
        for batch in data.validation_batches():
            assert set(batch) == {"images", "index"}
            assert batch["images"].shape[1:] == (3, 100, 100)
            assert batch["images"].is_contiguous(memory_format=torch.channels_last)
            indices += batch["index"].tolist()
    assert sorted(indices) == [0, 1, 2, 3]


def test_training_resumes_at_any_step_with_the_same_batches(painted):
    whole = batches(painted)
    resumed = batches(painted, first=2, count=2)
    for expected, given in zip(whole[2:], resumed, strict=True):
        assert all(torch.equal(expected[name], given[name]) for name in expected)


def test_two_ranks_see_together_what_one_sees_alone(painted):
    for alone, first, second in zip(
        batches(painted), batches(painted, world=World(0, 2)), batches(painted, world=World(1, 2)), strict=True
    ):
        for name in alone:
            assert torch.equal(alone[name], torch.cat([first[name], second[name]]))


def test_every_image_comes_once_per_epoch_in_batches_larger_than_the_data_too(painted):
    indices = torch.cat([batch["index"] for batch in batches(painted, count=3)])
    assert sorted(indices.tolist()) == sorted(list(range(12)) * 2)
    (batch,) = batches(painted, count=1, batch=30)
    assert torch.bincount(batch["index"]).min() >= 2
    assert len(batch["images"]) == len(batch["labels"]) == 30


def test_accumulated_micro_batches_are_the_parts_of_a_batch(painted):
    data = SceneData(painted, SQUASH, DataConfig(), device=CPU, seed=5)
    parts = list(islice(data.train_batches(0, 8, 2), 2))
    (whole,) = batches(painted, count=1)
    for name in whole:
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))


def test_images_without_boxes_and_ignored_boxes(tmp_path):
    boxes = {0: [(1, 10, 10, 40, 40)], 1: [(2, 5, 5, 30, 30), (3, 40, 40, 80, 80)]}
    scenes = write(tmp_path, [(90, 90)] * 3, boxes, ignored=[(0, 0), (1, 0)])
    for batch in batches(scenes, batch=3, count=2, **PLAIN):
        assert batch["labels"].shape == (3, 1), "the fullest image has one box to train on"
        for index, labels in zip(batch["index"].tolist(), batch["labels"].tolist(), strict=True):
            assert labels == ([3] if index == 1 else [0])


def test_data_without_any_box_can_be_read(tmp_path):
    scenes = write(tmp_path, [(90, 60)] * 2, {})
    (batch,) = batches(scenes, batch=4, count=1)
    assert batch["boxes"].shape == (4, 1, 4)
    assert not batch["labels"].any()


def test_extreme_sides(tmp_path):
    boxes = {0: [(1, 0, 0, 1, 1)], 1: [(2, 100, 0, 4000, 1)], 2: [(3, 0, 200, 1, 4500)]}
    scenes = write(tmp_path, [(1, 1), (5000, 1), (1, 5000)], boxes)
    for batch in batches(scenes, batch=6, count=3, vertical_flip=0.5):
        assert torch.isfinite(batch["images"]).all()
        boxes, shown = batch["boxes"], batch["labels"] > 0
        assert shown.any(1).all()
        assert (boxes[shown][:, 2:] > boxes[shown][:, :2]).all()
        assert ((boxes >= 0) & (boxes <= 1)).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_boxes_lie_in_the_upright_image(tmp_path, orientation):
    box = (1, 30, 40, 130, 90)
    scenes = scenes_of(tmp_path, [(200, 120)], {0: [box]}, suffix="jpg")
    upright = paint(200, 120, [box], COLOURS)
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    undo |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(Image.Transpose[undo[orientation]])
    stored.save(tmp_path / "0.jpg", quality=95, subsampling=0, exif=exif)
    for batch in batches(scenes, batch=4, count=2, vertical_flip=0.5, **PLAIN):
        for picture, boxes, labels in zip(pixels(batch), batch["boxes"].numpy(), batch["labels"].tolist(), strict=True):
            assert labels == [1]
            assert np.abs(extent(picture, 1) - boxes[0]).max() * 100 < 2.1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_become_rgb(tmp_path, mode):
    scenes = scenes_of(tmp_path, [(64, 48)], {0: [(1, 8, 8, 40, 40)]}, suffix="jpg", splits=["train"])
    paint(64, 48, [(1, 8, 8, 40, 40)], {1: (200, 200, 200)}).convert(mode).save(tmp_path / "0.jpg", quality=95)
    (batch,) = batches(scenes, batch=2, count=1, crop=False, flip=0.0, **PLAIN)
    picture = pixels(batch)[0]
    assert np.abs(picture[40, 40].astype(int) - 200).max() < 8
    assert np.abs(picture[95, 95].astype(int) - 12).max() < 8


def test_describe_names_the_data(painted):
    facts = SceneData(painted, SQUASH, DataConfig(), device=CPU).describe()
    assert (facts["train_samples"], facts["validation_samples"]) == (12, 4)
    assert facts["train_boxes"] == 36
