"""Tiles cover every pixel, overlap enough, and never leave the image."""

import itertools

import numpy as np
import pytest

from challenges.detection.recipes import RECIPES, DataConfig
from challenges.detection.tiles import OVERLAP, windows_of
from common.errors import RecipeError

SIDES = (1, 63, 64, 65, 100, 127, 128, 129, 300, 1001)


@pytest.mark.parametrize("tile", [64, 65, 100])
def test_tiles_cover_every_pixel_and_overlap(tile):
    for width, height in itertools.product(SIDES, SIDES):
        windows = windows_of(width, height, tile)
        assert windows[0].tolist() == [0, 0, width, height]
        if max(width, height) <= tile:
            assert len(windows) == 1
            continue
        tiles = windows[1:]
        assert (tiles[:, :2] >= 0).all()
        assert (tiles[:, 2:] <= [width, height]).all()
        assert (tiles[:, 2:] - tiles[:, :2] == [min(tile, width), min(tile, height)]).all()
        for low, high, length in ((0, 2, width), (1, 3, height)):
            spans = sorted(set(zip(tiles[:, low].tolist(), tiles[:, high].tolist(), strict=True)))
            assert (spans[0][0], spans[-1][1]) == (0, length)
            assert all(end - start >= tile * OVERLAP for (_, end), (start, _) in itertools.pairwise(spans))
        pairs = len(np.unique(tiles[:, 0])) * len(np.unique(tiles[:, 1]))
        assert len(tiles) == pairs == len(np.unique(tiles, axis=0))


def test_without_tiles_the_whole_image_is_the_only_window():
    assert windows_of(5000, 3, None).tolist() == [[0, 0, 5000, 3]]


@pytest.mark.parametrize("tile", [-5, 0, 63])
def test_tiles_too_small_to_show_anything_are_refused(tile):
    with pytest.raises(RecipeError, match="64 pixels or more"):
        DataConfig(tile=tile)


def test_no_recipe_tiles_unasked():
    assert all(recipe.data.tile is None for recipe in RECIPES.values())
