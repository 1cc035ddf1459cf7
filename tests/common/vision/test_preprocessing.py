"""The pixel contract: random windows within bounds, normalisation undone, bad sizes refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RecipeError
from common.vision.preprocessing import ImagePreprocessing
from common.vision.random_crops import random_resized_crops


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32))
def test_windows_stay_inside_and_are_not_empty(height, width, seed):
    uniform = np.random.default_rng(seed).random((5, 10, 4))
    sides = [np.full(5, side, dtype=np.int32) for side in (height, width)]
    starts, sizes = random_resized_crops(*sides, uniform, (0.08, 1.0), (3 / 4, 4 / 3))
    assert (starts >= 0).all()
    assert (sizes >= 1).all()
    assert (starts + sizes <= [height, width]).all()


def slow_window(height, width, uniform, area, ratio):
    """The published procedure, one attempt after the other."""
    for a, r, top, left in uniform:
        target = height * width * (area[0] + (area[1] - area[0]) * a)
        shape = np.exp(np.log(ratio[0]) + (np.log(ratio[1]) - np.log(ratio[0])) * r)
        w, h = round(np.sqrt(target * shape)), round(np.sqrt(target / shape))
        if 1 <= w <= width and 1 <= h <= height:
            return [min(int(top * (height - h + 1)), height - h), min(int(left * (width - w + 1)), width - w), h, w]
    w, h = min(width, max(1, round(height * ratio[1]))), min(height, max(1, round(width / ratio[0])))
    return [int((height - h + 1) / 2), int((width - w + 1) / 2), h, w]


def test_windows_equal_a_written_out_loop():
    generator = np.random.default_rng(0)
    heights, widths = generator.integers(20, 500, (2, 300)).astype(np.int32)
    uniform = generator.random((300, 10, 4))
    starts, sizes = random_resized_crops(heights, widths, uniform, (0.3, 1.0), (0.5, 2.0))
    for i in range(300):
        expected = slow_window(heights[i], widths[i], uniform[i], (0.3, 1.0), (0.5, 2.0))
        assert [*starts[i], *sizes[i]] == expected


def test_window_areas_are_spread_over_the_range():
    uniform = np.random.default_rng(1).random((4000, 10, 4))
    sides = np.full(4000, 400, dtype=np.int32)
    _, sizes = random_resized_crops(sides, sides, uniform, (0.08, 1.0), (3 / 4, 4 / 3))
    share = sizes.prod(1) / 160_000
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert 0.45 < share.mean() < 0.56  # windows that do not fit are drawn again, which thins out the largest


def test_pixels_undo_the_normalisation():
    contract = ImagePreprocessing()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.uint8)
    normalised = ((pixels - np.float32(contract.mean)) / np.float32(contract.std)).transpose(0, 3, 1, 2)
    assert np.array_equal(contract.pixels(normalised.astype(np.float32)), pixels)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(RecipeError, match="crop"):
        ImagePreprocessing(resize=64, crop=96)
