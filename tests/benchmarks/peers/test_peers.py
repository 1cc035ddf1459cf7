"""The peers do the kit's work: the same crops, the same scale, honest shortcuts only."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.peers.photographs import PillowImages, PillowLoader, plain_training_step, random_crop
from common.vision.preprocessing import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture
def photograph(tmp_path):
    """A smooth picture of 900 x 600 pixels, as JPEG."""
    down, across = np.mgrid[0:600, 0:900]
    pixels = np.stack([across / 900, down / 600, (np.sin(across / 60) + 1) / 2], axis=2) * 255
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)
    return path


def crop_of(path, seed: int, **options) -> np.ndarray:
    random.seed(seed)
    return PillowImages([path], [0], **options)[0][0].numpy()


def test_crops_stay_inside_and_within_their_bounds():
    random.seed(0)
    shares, aspects = [], []
    for _ in range(2000):
        left, top, width, height = random_crop(400, 400)
        assert 0 <= left <= 400 - width
        assert 0 <= top <= 400 - height
        shares.append(width * height / 400**2)
        aspects.append(width / height)
    assert 0.075 < min(shares) < max(shares) <= 1
    assert 0.74 < min(aspects) < max(aspects) < 1.35
    assert np.median(aspects) == pytest.approx(1, abs=0.05)


def test_a_picture_too_narrow_for_any_crop_gives_its_middle():
    assert random_crop(1000, 10) == (493, 0, 13, 10)


def test_crops_are_as_large_as_asked_and_flipped_half_of_the_time(photograph):
    crops = [crop_of(photograph, seed, size=64) for seed in range(200)]
    assert crops[0].shape == (64, 64, 3)
    rising = [crop[:, -1, 0].mean() > crop[:, 0, 0].mean() for crop in crops]
    assert 0.4 < np.mean(rising) < 0.6


def test_draft_mode_shows_the_same_part_of_the_photograph(photograph):
    for seed in range(20):
        fast = crop_of(photograph, seed, size=64, draft=True).astype(int)
        full = crop_of(photograph, seed, size=64, draft=False).astype(int)
        assert np.abs(fast - full).mean() < 2


def test_the_orientation_is_applied(tmp_path, photograph):
    with Image.open(photograph) as image:
        upright = image.copy()
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = tmp_path / "rotated.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(rotated, exif=exif, quality=95)
    for seed in range(5):
        difference = crop_of(rotated, seed, size=64, draft=False).astype(int) - crop_of(
            photograph, seed, size=64, draft=False
        )
        assert np.abs(difference).mean() < 3


def test_batches_are_normalised_and_channels_last(photograph):
    loader = PillowLoader([photograph] * 4, [0, 1, 2, 3], batch_size=2, workers=0, size=32)
    batch = next(iter(loader))
    images = batch["images"]
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    mean, deviation = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = images * deviation + mean
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255.001


def test_the_loader_never_ends(photograph):
    batches = iter(PillowLoader([photograph] * 4, [0] * 4, batch_size=2, workers=0, size=32))
    assert sum(len(next(batches)["label"]) for _ in range(5)) == 10


def test_the_plain_step_learns_its_batch_as_written_by_hand():
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))

    batch = {"images": torch.randn(4, 3, 2, 2), "label": torch.tensor([0, 1, 2, 0])}
    trained, expected = model(), model()
    step = plain_training_step(trained, batch, lr=0.05)
    assert [step() for _ in range(3)] == [4, 4, 4]
    momentum = [torch.zeros_like(parameter) for parameter in expected.parameters()]
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(expected(batch["images"]), batch["label"], label_smoothing=0.1)
        gradients = torch.autograd.grad(loss, list(expected.parameters()))
        with torch.no_grad():
            for parameter, gradient, buffer in zip(expected.parameters(), gradients, momentum, strict=True):
                buffer.mul_(0.9).add_(gradient + 1e-4 * parameter)
                parameter.sub_(0.05 * buffer)
    for one, other in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)
