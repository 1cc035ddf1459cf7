"""Photographs through DALI: Pillow's pixels, resumable order, the same stream at any world size."""

import io
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from challenges.classification import data as photographs
from challenges.classification.check import check
from challenges.classification.data import PhotographData
from challenges.classification.recipes import DataConfig
from common.errors import DataError, RecipeError
from common.machine.distributed import ALONE, World
from common.training.randomness import uniform_numbers
from common.vision.dali.images import serving_pipeline
from common.vision.preprocessing import ImagePreprocessing

CPU = torch.device("cpu")
SMALL = ImagePreprocessing(resize=36, crop=32)
DRIFT = 0.25  # mean absolute difference from Pillow, of 255: Pillow rounds to bytes after each of its two passes


def photograph(height: int, width: int, seed: int) -> Image.Image:
    """Smooth colours with edges, so that a shift by a fraction of a pixel shows."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    picture.paste(tuple(generator.integers(0, 256, 3).tolist()), (width // 3, height // 4, width // 2, height // 2))
    return picture


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    sides = [(120, 200), (200, 121), (97, 131), (256, 257), (64, 64), (300, 111)]
    for index in range(24):
        folder = root / ("train" if index < 16 else "val") / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if index % 5 == 0 else 1
        photograph(*sides[index % len(sides)], seed=index).save(folder / f"{index}.jpg", quality=92, exif=exif)
    return check(root, tmp_path_factory.mktemp("check"), workers=1, progress=lambda *_: None).manifest


def pillow(encoded: bytes, contract: ImagePreprocessing) -> np.ndarray:
    """Evaluation preprocessing as torchvision does it, on bytes."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    width, height = picture.size
    if contract.mode == "squash":
        return np.asarray(picture.resize((contract.crop, contract.crop), Image.Resampling.BILINEAR), np.float32)
    if width < height:
        size = contract.resize, int(contract.resize * height / width)
    else:
        size = int(contract.resize * width / height), contract.resize
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - contract.crop) / 2) for side in size)
    return np.asarray(picture.crop((left, top, left + contract.crop, top + contract.crop)), np.float32)


def restored_array(images: np.ndarray, contract: ImagePreprocessing) -> np.ndarray:
    """(batch, 3, height, width) normalised -> (batch, height, width, 3) on the 0..255 scale."""
    return images.transpose(0, 2, 3, 1) * np.float32(contract.std) + np.float32(contract.mean)


def restored(images: torch.Tensor, contract: ImagePreprocessing) -> np.ndarray:
    return restored_array(images.numpy(), contract)


@pytest.mark.parametrize(
    "contract", [SMALL, ImagePreprocessing(resize=64, crop=64, mode="squash")], ids=lambda c: c.mode
)
def test_validation_agrees_with_pillow(manifest, contract):
    data = PhotographData(manifest, contract, DataConfig(), device=CPU)
    seen = 0
    for batch in data.validation_batches():
        for image, index in zip(restored(batch["images"], contract), batch["index"], strict=True):
            expected = pillow((manifest.root / data.validation.paths[index]).read_bytes(), contract)
            assert np.abs(image - expected).mean() < DRIFT
            assert np.abs(image - expected).max() <= 2.01
            seen += 1
    assert seen == data.num_validation == 8


def test_serving_runs_the_graph_of_validation(manifest):
    data = PhotographData(manifest, SMALL, DataConfig(), device=CPU)
    (batch,) = data.validation_batches()
    pipeline = serving_pipeline(SMALL, batch_size=8, num_threads=1)
    files = [np.fromfile(manifest.root / path, dtype=np.uint8) for path in data.validation.paths]
    pipeline.feed_input("encoded", files)
    assert np.array_equal(np.asarray(pipeline.run()[0].as_tensor()), batch["images"].numpy())


def test_a_gpu_graph_can_be_built_and_serialised_here():
    pipeline = serving_pipeline(SMALL, batch_size=8, num_threads=1, device_id=None)
    assert len(pipeline.serialize()) > 500


def batches(manifest, first=0, count=4, world=ALONE, **config):
    data = PhotographData(manifest, SMALL, DataConfig(**config), device=CPU, world=world, seed=5)
    return list(islice(data.train_batches(first, 8, 1), count))


def test_training_resumes_at_any_step_with_the_same_pixels(manifest):
    whole = batches(manifest)
    resumed = batches(manifest, first=2, count=2)
    for expected, given in zip(whole[2:], resumed, strict=True):
        assert all(torch.equal(expected[name], given[name]) for name in expected)


def test_two_ranks_see_together_what_one_sees_alone(manifest):
    for alone, first, second in zip(
        batches(manifest), batches(manifest, world=World(0, 2)), batches(manifest, world=World(1, 2)), strict=True
    ):
        for name in alone:
            assert torch.equal(alone[name], torch.cat([first[name], second[name]]))


def test_every_photograph_comes_once_per_epoch(manifest):
    indices = torch.cat([batch["index"] for batch in batches(manifest, count=2)])
    assert sorted(indices.tolist()) == list(range(16))


def test_images_are_channels_last_and_normalised(manifest):
    (batch,) = batches(manifest, count=1)
    assert batch["images"].shape == (8, 3, 32, 32)
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert abs(batch["images"].mean()) < 1.5


def test_without_augmentation_a_flip_is_the_mirror_image(manifest):
    plain = batches(manifest, count=1, area=(1.0, 1.0), ratio=(0.2, 5.0), flip=0.0)[0]
    flipped = batches(manifest, count=1, area=(1.0, 1.0), ratio=(0.2, 5.0), flip=1.0)[0]
    assert torch.equal(plain["images"], flipped["images"].flip(3))


def test_colours_vary_by_the_given_share_and_windows_do_not(manifest):
    """Brightness is what differs most: the mean of a picture moves by a factor within the bounds."""
    whole = {"area": (1.0, 1.0), "ratio": (0.2, 5.0), "flip": 0.0}
    plain, coloured = (batches(manifest, count=2, colour=colour, **whole) for colour in (0.0, 0.3))
    ratios = torch.cat(
        [
            torch.from_numpy(
                restored(b["images"], SMALL).mean((1, 2, 3)) / restored(a["images"], SMALL).mean((1, 2, 3))
            )
            for a, b in zip(plain, coloured, strict=True)
        ]
    )
    assert 0.7 - 0.05 < ratios.min() < 0.95
    assert 1.05 < ratios.max() < 1.3 + 0.05


def test_pictures_are_turned_by_the_degrees_drawn_for_them(manifest):
    """Pillow's turned picture is the nearest to DALI's at the angle that was drawn, among all that could be."""
    whole = {"area": (1.0, 1.0), "ratio": (0.2, 5.0), "flip": 0.0}
    plain, turned = (restored(batches(manifest, count=1, rotation=degrees, **whole)[0]["images"], SMALL)
                     for degrees in (0.0, 30.0))  # fmt: skip
    drawn = 30 * (2 * uniform_numbers(5, 0, 8, 42)[:, -1] - 1)
    middle = slice(8, 24)  # what stays in sight at any angle
    for before, after, angle in zip(plain, turned, drawn, strict=True):
        picture = Image.fromarray(before.round().clip(0, 255).astype(np.uint8))
        tried = {
            degrees: np.asarray(picture.rotate(degrees, Image.Resampling.BILINEAR), np.float32)[middle, middle]
            for degrees in range(-30, 31, 2)
        }
        nearest = min(tried, key=lambda degrees: np.abs(tried[degrees] - after[middle, middle]).mean())
        assert nearest == pytest.approx(angle, abs=2.5)


@pytest.mark.parametrize("given", [{"colour": 1.0}, {"colour": -0.1}, {"rotation": 181.0}, {"rotation": -1.0}], ids=str)
def test_how_pictures_vary_is_refused_out_of_range(given):
    with pytest.raises(RecipeError, match=rf"data\.{next(iter(given))} is"):
        DataConfig(**given)


def test_a_file_damaged_after_the_check_is_named(manifest):
    data = PhotographData(manifest, SMALL, DataConfig(), device=CPU)
    victim = manifest.root / data.validation.paths[3]
    content = victim.read_bytes()
    victim.write_bytes(b"not a picture")
    try:
        with pytest.raises(DataError, match=victim.name):
            list(data.validation_batches())
    finally:
        victim.write_bytes(content)


def test_a_pipeline_makes_room_for_the_batch_of_its_rank(manifest, monkeypatch):
    made = []
    monkeypatch.setattr(
        photographs, "picture_batches", lambda *_, batch_size, threads: made.append((batch_size, threads))
    )
    monkeypatch.setattr(photographs, "usable_cores", lambda: 6)
    ours = PhotographData(manifest, SMALL, DataConfig(), device=CPU, world=World(1, 4, 1, 2))
    ours.train_batches(0, 32, 2)
    assert made == [(32 // 4 // 2, 3)]
