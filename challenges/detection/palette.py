"""Colours that tell classes apart, for readers who see all colours and for those who do not."""

from functools import cache

import numpy as np

OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""Okabe and Ito's set without black, made to survive every kind of colour blindness (jfly.uni-koeln.de/color, 2008)."""

_LEVELS = 10  # per channel, of the colours to choose from after those
_LIGHTNESS, _CHROMA = (0.5, 0.93), 0.08  # OKLab; keeps colours off black, white and grey, which photographs are full of

_SIGHT = np.array(  # linear RGB as seen with all cones, without L, M and S cones: Machado et al. 2009, severity 1
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
_TO_LMS = np.array(  # Ottosson 2020, the two matrices of OKLab
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@cache
def class_colours(count: int) -> np.ndarray:
    """(count, 3) uint8 RGB, one per class in the order of the classes; the first ones never depend on the count.

    After Okabe and Ito's seven, each colour is the one farthest from all before it, for the kind of sight that tells
    it apart worst. Beyond a few dozen neighbours look alike to anyone.
    """
    chosen = np.array([[int(code[place : place + 2], 16) for place in (1, 3, 5)] for code in OKABE_ITO], np.uint8)
    if count > len(chosen):
        chosen = np.concatenate([chosen, _farthest(chosen, count - len(chosen))])
    chosen = chosen[:count]
    chosen.setflags(write=False)
    return chosen


def appearance(colours: np.ndarray) -> np.ndarray:
    """OKLab coordinates of sRGB colours (colour, 3) uint8 for four kinds of sight: (sight, colour, 3)."""
    shares = colours / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ _SIGHT.transpose(0, 2, 1), 0, 1)
    places: np.ndarray = np.cbrt(seen @ _TO_LMS.T) @ _TO_LAB.T
    return places


def ink_on(colours: np.ndarray) -> np.ndarray:
    """Black or white, whichever is read more easily on each colour: (colour, 3) uint8 of the same shape."""
    shares = colours / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])  # WCAG 2; black and white contrast equally at 0.179
    return np.where(luminance[:, None] > 0.179, 0, 255).astype(np.uint8).repeat(3, axis=1)


def _farthest(taken: np.ndarray, count: int) -> np.ndarray:
    levels = np.linspace(0, 255, _LEVELS).astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    usual = appearance(candidates)[0]
    usable = (usual[:, 0] > _LIGHTNESS[0]) & (usual[:, 0] < _LIGHTNESS[1]) & (np.hypot(*usual[:, 1:].T) > _CHROMA)
    candidates = candidates[usable]
    places = appearance(candidates)
    nearest = np.min([_distance(places, place) for place in appearance(taken).swapaxes(0, 1)], axis=0)
    found = []
    for _ in range(count):
        best = int(nearest.argmax())
        found.append(candidates[best])
        nearest = np.minimum(nearest, _distance(places, places[:, best]))
    return np.array(found, np.uint8)


def _distance(places: np.ndarray, place: np.ndarray) -> np.ndarray:
    """How far colours (sight, colour, 3) are from one (sight, 3), for the sight that confuses them most: (colour,)."""
    distances: np.ndarray = np.linalg.norm(places - place[:, None], axis=-1).min(axis=0)
    return distances
