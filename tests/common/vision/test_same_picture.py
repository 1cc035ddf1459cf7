"""Pictures made of one: found whatever was done to them; others are not."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.vision.same_picture import SAME, Look
from tests.common.vision.picture_files import encode


def scene(seed: int) -> Image.Image:
    """200 x 150 pixels of overlapping patches of many sizes."""
    draw = np.random.default_rng(seed)
    picture = np.full((150, 200, 3), draw.integers(60, 200, 3), np.uint8)
    for _ in range(60):
        top, left = draw.integers(0, 150), draw.integers(0, 200)
        tall, wide = draw.integers(4, 40, 2)
        picture[top : top + tall, left : left + wide] = draw.integers(0, 256, 3)
    return Image.fromarray(picture)


def saved_again(picture):
    import io

    return Image.open(io.BytesIO(encode(picture, "JPEG", quality=25)))


def how_alike(one, other):
    """Whichever lies best in the other."""
    return max(one.as_part().laid_over(other), other.as_part().laid_over(one))


CHANGES = {
    "recompressed": (saved_again, "near-identical"),
    "half the size": (lambda one: one.resize((100, 75)), "near-identical"),
    "cropped": (lambda one: one.crop((20, 12, 160, 120)), "part"),
    "cropped to half and enlarged": (lambda one: one.crop((70, 30, 175, 109)).resize((300, 226)), "part"),
    "mirrored": (ImageOps.mirror, "mirrored"),
    "all of it": (lambda one: saved_again(ImageOps.mirror(one.crop((5, 10, 180, 140)))), "mirrored"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_made_of_a_picture_is_known_either_way_round(name):
    change, kind = CHANGES[name]
    for seed in range(2):
        one, other = Look.of(scene(seed)), Look.of(change(scene(seed)))
        cosine, found = how_alike(one, other)
        assert cosine >= SAME
        assert found == kind
        assert how_alike(other, one)[0] == pytest.approx(cosine)


def test_other_pictures_and_flat_ones_are_not():
    looks = [Look.of(scene(seed)) for seed in range(6)]
    cosines = [how_alike(looks[i], looks[j])[0] for i in range(6) for j in range(i)]
    assert max(cosines) < 0.7
    flat = Look.of(Image.new("RGB", (60, 60), (90, 90, 90)))
    assert how_alike(flat, flat)[0] == 0


def test_a_thin_picture_fits_into_none_and_breaks_nothing():
    assert how_alike(Look.of(Image.new("L", (400, 3))), Look.of(scene(1)))[0] == 0
