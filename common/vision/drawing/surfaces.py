"""Colours of floors, walls and objects: seamless noise and what is drawn with it, in linear light."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@cache
def _noise() -> Array:
    """Smooth noise in 0..1 that repeats seamlessly, (256, 256) float32: octaves of blurred random numbers."""
    random, side = np.random.default_rng(20), 256
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(random.standard_normal((side, side))) / frequency**1.1
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum)
    noise: Array = np.clip(0.5 + field / field.std() * 0.2, 0, 1).astype(np.float32)
    return noise


def grain_at(u: Array, v: Array) -> Array:
    """The noise at (u, v), one unit being one repetition."""
    rows, columns = (v * 256).astype(np.int32) & 255, (u * 256).astype(np.int32) & 255
    grain: Array = _noise()[rows, columns]
    return grain


def _colour(hue: float, strength: float, value: float) -> Array:
    """Hue, saturation and value to linear light, (3,)."""
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    light: Array = ((value * (1 - strength + strength * wheel)) ** 2.2).astype(np.float32)
    return light


def any_colour(random: np.random.Generator) -> Array:
    return _colour(random.random(), random.uniform(0.05, 0.85), random.uniform(0.3, 0.95))


def surface_colours(random: np.random.Generator) -> tuple[Array, Array]:
    """Two related colours of a floor or wall in linear light: wood, stone, plaster or cloth, seldom a bright one."""
    hue, strength, value = (
        (random.uniform(0.03, 0.13), random.uniform(0.15, 0.6), random.uniform(0.4, 0.9)),
        (random.uniform(0.0, 1.0), random.uniform(0.0, 0.12), random.uniform(0.35, 0.95)),
        (random.uniform(0.45, 0.68), random.uniform(0.1, 0.4), random.uniform(0.4, 0.85)),
        (random.uniform(0.0, 1.0), random.uniform(0.2, 0.5), random.uniform(0.4, 0.85)),
    )[random.choice(4, p=(0.4, 0.3, 0.15, 0.15))]
    other = float(np.clip(value * random.uniform(0.82, 1.12), 0.2, 0.95))
    return _colour(hue, strength, value), _colour(
        hue + random.normal(0, 0.02), strength * random.uniform(0.6, 1.2), other
    )


def texture(u: Array, v: Array, random: np.random.Generator) -> Array:
    """A surface's colours, (pixel, 3) in linear light: planks, tiles, cloth, stone, bricks or paint."""
    first, second = surface_colours(random)
    kind, scale = random.integers(6), random.uniform(0.8, 1.6)
    angle = random.uniform(0, np.pi)
    c, s = float(np.cos(angle)) * scale, float(np.sin(angle)) * scale
    u, v = u * c - v * s, u * s + v * c
    cloudy = grain_at(u * 0.35, v * 0.35)
    if kind == 0:
        board = np.floor(u * 3)
        tone = (board * 0.618) % 1
        mix = 0.55 * tone + 0.45 * grain_at(u * 1.5 + tone, v * 0.12 + tone)
        dark = np.where((u * 3) % 1 < 0.05, 0.5, 1.0)
    elif kind == 1:
        mix = ((np.floor(u * 2) + np.floor(v * 2)) % 2) * 0.7 + 0.3 * cloudy
        dark = np.where(((u * 2) % 1 < 0.05) | ((v * 2) % 1 < 0.05), 0.6, 1.0)
    elif kind == 2:
        mix = (
            0.25 * (((u * 2.5) % 1 < 0.5) * 1.0 + ((v * 2.5) % 1 < 0.5)) + 0.25 * ((u * 2.5) % 1 < 0.1) + 0.25 * cloudy
        )
        dark = 0.85 + 0.15 * grain_at(u * 3, v * 3)
    elif kind == 3:
        mix, dark = cloudy, 0.7 + 0.6 * grain_at(u * 2.2, v * 2.2)
    elif kind == 4:
        row = np.floor(v * 4)
        along = u * 2 + 0.5 * (row % 2)
        mix = ((np.floor(along) * 0.37 + row * 0.73) % 1) * 0.6 + 0.4 * cloudy
        dark = np.where(((v * 4) % 1 < 0.09) | (along % 1 < 0.045), 0.5, 1.0)
    else:
        mix, dark = 0.7 * cloudy, 0.95 + 0.1 * grain_at(u, v)
    return (first + (second - first) * mix[:, None]) * np.asarray(dark, np.float32)[:, None]


def pattern(points: Array, around: Array, random: np.random.Generator) -> Array:
    """The paint on the object, (hit, 3) in linear light: plain, banded, two-tone, blotched, speckled or grained.

    around: (3,), the colour behind the object, from which it stands out more often than not.
    """
    x, y, z = points
    choices = [any_colour(random) for _ in range(3)]
    first = max(choices, key=lambda choice: float(np.abs(np.sqrt(choice) - np.sqrt(around)).sum()))
    second = any_colour(random)
    kind, scale = random.choice(6, p=(0.5, 0.1, 0.1, 0.1, 0.1, 0.1)), random.uniform(0.7, 1.5)
    grain = grain_at(x * 0.5 + z * 0.31, y * 0.5)
    if kind == 0:
        mix = 0.15 * grain
    elif kind == 1:
        mix = ((y * 6 * scale + random.random()) % 1 < random.uniform(0.25, 0.6)).astype(np.float32)
    elif kind == 2:
        mix = (y + 0.3 * x > random.uniform(0.3, 0.7)).astype(np.float32)
    elif kind == 3:
        mix = np.clip((grain_at((x + 0.7 * z) * 0.4 * scale, (y + 0.4 * z) * 0.4 * scale) - 0.5) * 9 + 0.5, 0, 1)
    elif kind == 4:
        mix = np.clip((grain_at((x + 0.7 * z) * 1.3, (y + 0.4 * z) * 1.3) - 0.66) * 12, 0, 1)
    else:
        mix = grain_at(x * 0.9 + z * 0.6, y * 0.08)
    return (first + (second - first) * mix[:, None]) * (0.85 + 0.3 * grain)[:, None]
