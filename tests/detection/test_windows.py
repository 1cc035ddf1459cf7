"""Random windows and what they leave of the boxes, against the same written out box by box."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenges.detection.windows import ATTEMPTS, BOUNDS, place_boxes, random_windows


def written_out(height, width, boxes, numbers, scale):
    """One image's window: top, left, height, width."""
    for choice, down, across, top, left in numbers:
        kind = math.floor(choice * 7)
        if kind == 6:
            break
        shares = [scale[0] + (scale[1] - scale[0]) * number for number in (down, across)]
        if not 0.5 <= shares[1] / shares[0] <= 2:
            continue
        high, wide = (min(s, max(1, round(s * share))) for s, share in zip((height, width), shares, strict=True))
        y, x = min(math.floor(top * (height - high + 1)), height - high), math.floor(left * (width - wide + 1))
        ious, centres = [], []
        for x0, y0, x1, y1 in boxes:
            shared = max(0.0, min(x1, x + wide) - max(x0, x)) * max(0.0, min(y1, y + high) - max(y0, y))
            ious.append(shared / ((x1 - x0) * (y1 - y0) + wide * high - shared))
            centres.append(x < (x0 + x1) / 2 < x + wide and y < (y0 + y1) / 2 < y + high)
        if not boxes or (max(ious) >= BOUNDS[kind] and any(centres)):
            return y, x, high, wide
    return 0, 0, height, width


def placed(boxes, window, is_mirrored, is_upset, smallest):
    y, x, high, wide = window
    result = []
    for x0, y0, x1, y1 in boxes:
        if not (x < (x0 + x1) / 2 < x + wide and y < (y0 + y1) / 2 < y + high):
            continue
        left, right = max(0, (x0 - x) / wide), min(1, (x1 - x) / wide)
        top, bottom = max(0, (y0 - y) / high), min(1, (y1 - y) / high)
        if right - left < smallest or bottom - top < smallest:
            continue
        if is_mirrored:
            left, right = 1 - right, 1 - left
        if is_upset:
            top, bottom = 1 - bottom, 1 - top
        result.append((left, top, right, bottom))
    return np.array(result).reshape(-1, 4)


def random_scenes(seed, samples=24, fullest=6):
    generator = np.random.default_rng(seed)
    heights, widths = generator.integers(1, 500, (2, samples)).astype(np.int32)
    heights[:3], widths[:3] = [1, 1, 7], [1, 500, 2]
    sides = np.stack([widths, heights] * 2, axis=1)[:, None]
    first, second = generator.random((2, samples, fullest, 2))
    corners = np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)
    boxes = (corners * sides).astype(np.float32)
    present = np.arange(fullest) < generator.integers(0, fullest + 1, samples)[:, None]
    return generator, heights, widths, boxes, present


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.floats(0.05, 0.9), more=st.floats(0, 0.5))
def test_windows_and_boxes_equal_the_written_out_version(seed, low, more):
    generator, heights, widths, boxes, present = random_scenes(seed)
    scale = low, min(1.0, low + more)
    numbers = generator.random((len(heights), 9, 5))
    starts, sizes = random_windows(heights, widths, boxes, present, numbers, scale)
    mirrors, upsets = generator.random((2, len(heights))) < 0.5
    shares, kept = place_boxes(boxes, present, starts, sizes, mirrors, upsets, 0.02)
    for row, shown in enumerate(present):
        own = boxes[row, shown].astype(float).tolist()
        window = written_out(int(heights[row]), int(widths[row]), own, numbers[row].tolist(), scale)
        assert (*starts[row], *sizes[row]) == window
        expected = placed(own, window, mirrors[row], upsets[row], 0.02)
        np.testing.assert_allclose(shares[row, kept[row]], expected, atol=1e-6)


def test_windows_stay_inside_and_show_a_box():
    generator, heights, widths, boxes, present = random_scenes(3, samples=2_000)
    numbers = generator.random((len(heights), ATTEMPTS, 5))
    starts, sizes = random_windows(heights, widths, boxes, present, numbers, (0.3, 1.0))
    limits = np.stack([heights, widths], axis=1)
    assert (starts >= 0).all()
    assert (sizes >= 1).all()
    assert (starts + sizes <= limits).all()
    none = np.zeros(len(heights), bool)
    _, kept = place_boxes(boxes, present, starts, sizes, none, none, 0.0)
    assert (kept.any(1) == present.any(1)).all()
    assert 0.15 < (sizes == limits).all(1).mean() < 0.6, "the whole image is one choice of seven, more where few fit"


def test_an_image_without_boxes_takes_any_window():
    numbers = np.random.default_rng(0).random((500, ATTEMPTS, 5))
    heights = np.full(500, 200, np.int32)
    for fullest in (0, 3):
        boxes, present = np.zeros((500, fullest, 4), np.float32), np.zeros((500, fullest), bool)
        _, sizes = random_windows(heights, heights, boxes, present, numbers, (0.3, 1.0))
        whole = (sizes == 200).all(1).mean()
        assert whole == pytest.approx(1 / 6, abs=0.06)  # 1/7, and a little more as some windows' ratios do not fit
        shares, kept = place_boxes(boxes, present, np.zeros_like(sizes), sizes, *np.zeros((2, 500), bool), 0.0)
        assert shares.shape == (500, fullest, 4)
        assert not kept.any()


def test_small_remains_are_dropped():
    boxes = np.array([[[10, 10, 10.5, 40], [10, 10, 11.5, 40], [0, 0, 0, 0]]], np.float32)
    window = np.zeros((1, 2), np.int32), np.full((1, 2), 300, np.int32)
    _, kept = place_boxes(boxes, np.array([[True, True, True]]), *window, *np.zeros((2, 1), bool), 1 / 300)
    assert kept.tolist() == [[False, True, False]]


def test_windows_like_tiles_show_the_centre_of_a_box():
    generator, heights, widths, boxes, present = random_scenes(5, samples=200)
    numbers = generator.random((len(heights), ATTEMPTS, 5))
    starts, sizes = random_windows(heights, widths, boxes, present, numbers, (0.3, 1.0), tile=64)
    inside = np.stack([heights, widths], axis=1)
    assert (starts >= 0).all()
    assert (starts + sizes <= inside).all()
    is_large = (inside > 64).any(1)
    plain = random_windows(heights, widths, boxes, present, numbers, (0.3, 1.0))
    for tiled, usual in zip((starts, sizes), plain, strict=True):
        assert (tiled[~is_large] == usual[~is_large]).all()
    like_tiles = is_large & (sizes <= np.minimum(80, inside)).all(1) & (sizes >= np.minimum(48, inside)).all(1)
    assert like_tiles.sum() > 0.5 * is_large.sum()
    centres = (boxes[..., :2] + boxes[..., 2:])[..., ::-1] / 2
    shown = ((centres > starts[:, None]) & (centres < (starts + sizes)[:, None])).all(2) & present
    has_boxes = present.any(1)
    assert shown[has_boxes].any(1).all()
