"""Scenes with 16 bits per channel."""

import numpy as np
from PIL import Image

from tests.common.vision.picture_files import encode, photograph
from tests.detection.test_check import CAT, check, one_image


def test_scenes_of_twelve_bits_in_sixteen_are_told(tmp_path):
    grey = np.asarray(photograph().convert("L")).astype(np.uint16)
    for name, factor in (("narrow", 16), ("full", 257)):
        picture = encode(Image.fromarray(grey * np.uint16(factor)), "PNG")
        root = one_image(tmp_path / name, picture, [CAT], (60, 44), name="a.png")
        told = any("nearly black" in warning for warning in check(root, tmp_path / f"{name}-out").warnings)
        assert told == (name == "narrow")
