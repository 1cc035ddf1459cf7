"""Ten everyday objects as signed distance functions, each of random proportions.

An object stands on y = 0, is about 1 high or wide and centred on the y axis. Its function takes x, y and z, float32
arrays of one shape, and returns distances that are not larger than the true ones, so that rays can step that far.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Pixels = NDArray[np.integer]
"""Positions in a picture that was laid out flat."""
Distance = Callable[[Array, Array, Array], Array]
Builder = Callable[[np.random.Generator], Distance]


def _length(*parts: Array) -> Array:
    total = parts[0] * parts[0]
    for part in parts[1:]:
        total += part * part
    return np.sqrt(total, out=total)


def _union(first: Array, *others: Array) -> Array:
    """Distance to the nearest of several solids."""
    for other in others:
        first = np.minimum(first, other)
    return first


def _rounded(across: Array, along: Array) -> Array:
    """Distance to a corner region from the signed excess in two directions."""
    inside = np.minimum(np.maximum(across, along), 0)
    return inside + _length(np.maximum(across, 0), np.maximum(along, 0))


def _cylinder(across: Array, along: Array, radius: float, half: float) -> Array:
    """across: distance from the axis; along: position on it, 0 in the middle."""
    return _rounded(across - radius, np.abs(along) - half)


def _box(x: Array, y: Array, z: Array, half: tuple[float, float, float]) -> Array:
    a, b, c = np.abs(x) - half[0], np.abs(y) - half[1], np.abs(z) - half[2]
    inside = np.minimum(np.maximum(np.maximum(a, b), c), 0)
    return inside + _length(np.maximum(a, 0), np.maximum(b, 0), np.maximum(c, 0))


def _ring(across: Array, along: Array, radius: float, thickness: float) -> Array:
    return _length(across - radius, along) - thickness


def _cone(across: Array, y: Array, low: tuple[float, float], high: tuple[float, float]) -> Array:
    """Signed distance to a cone between (radius, y) `low` and `high`, negative inside, cut flat at both ends."""
    slope = (high[0] - low[0]) / (high[1] - low[1])
    side = (across - (low[0] + slope * (y - low[1]))) / (1 + slope * slope) ** 0.5
    middle, half = (low[1] + high[1]) / 2, (high[1] - low[1]) / 2
    return _rounded(side, np.abs(y - middle) - half)


def bottle(random: np.random.Generator) -> Distance:
    radius, neck = random.uniform(0.17, 0.26), random.uniform(0.055, 0.085)
    shoulder = random.uniform(0.48, 0.62)
    top = shoulder + random.uniform(0.12, 0.24)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across = _length(x, z)
        body = _cylinder(across, y - shoulder / 2, radius - 0.02, shoulder / 2 - 0.02) - 0.02
        slanted = _cone(across, y, (radius, shoulder - 0.02), (neck, top))
        upper = _cylinder(across, y - (top + 1) / 2, neck, (1 - top) / 2)
        lip = _cylinder(across, y - 0.96, neck + 0.022, 0.035)
        return _union(body, slanted, upper, lip)

    return distance


def bowl(random: np.random.Generator) -> Distance:
    radius, rim = random.uniform(0.5, 0.6), random.uniform(0.36, 0.5)
    foot = random.uniform(0.16, 0.26)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across = _length(x, z)
        shell = np.maximum(np.abs(_length(across, y - radius - 0.03) - radius) - 0.025, y - rim)
        return _union(shell, _cylinder(across, y - 0.04, foot, 0.05))

    return distance


def chair(random: np.random.Generator) -> Distance:
    half, seat = random.uniform(0.22, 0.28), random.uniform(0.42, 0.5)
    leg = random.uniform(0.022, 0.04)
    slats = random.random() < 0.6

    def distance(x: Array, y: Array, z: Array) -> Array:
        across, behind = np.abs(x), z + half - leg
        legs = _box(across - half + leg, y - seat / 2, np.abs(z) - half + leg, (leg, seat / 2, leg))
        plate = _box(x, y - seat, z, (half, 0.03, half))
        if slats:
            posts = _box(across - half + leg, y - (seat + 1) / 2, behind, (leg, (1 - seat) / 2, leg))
            rails = _box(x, np.abs(y - seat - (1 - seat) * 0.65) - 0.13, behind, (half, 0.05, 0.02))
            back = np.minimum(posts, rails)
        else:
            back = _box(x, y - (seat + 1) / 2, behind, (half, (1 - seat) / 2, 0.028))
        return _union(legs, plate, back)

    return distance


def doughnut(random: np.random.Generator) -> Distance:
    thickness = random.uniform(0.13, 0.19)
    radius = random.uniform(0.3, 0.38)
    flat = random.uniform(0.8, 1.0)

    def distance(x: Array, y: Array, z: Array) -> Array:
        return flat * _ring(_length(x, z), (y - thickness * flat) / flat, radius, thickness)

    return distance


def dumbbell(random: np.random.Generator) -> Distance:
    radius, half = random.uniform(0.2, 0.28), random.uniform(0.06, 0.11)
    apart, bar = random.uniform(0.36, 0.44), random.uniform(0.04, 0.06)
    balls = random.random() < 0.35

    def distance(x: Array, y: Array, z: Array) -> Array:
        across, along = _length(y - radius, z), np.abs(x)
        handle = _cylinder(across, x, bar, apart)
        if balls:
            return _union(handle, _length(across, along - apart) - radius)
        plates = _cylinder(across, along - apart, radius - 0.02, half - 0.02) - 0.02
        small = _cylinder(across, along - apart + half + 0.03, radius * 0.7, 0.035)
        return _union(handle, plates, small)

    return distance


def hammer(random: np.random.Generator) -> Distance:
    grip, reach = random.uniform(0.035, 0.05), random.uniform(0.2, 0.28)
    thick = random.uniform(0.07, 0.1)
    square = random.random() < 0.5

    def distance(x: Array, y: Array, z: Array) -> Array:
        handle = _rounded(_length(x, z * 0.8) - grip, np.abs(y - 0.46) - 0.46)
        head = y - 0.88
        face = (
            _box(x + reach / 2, head, z, (reach / 2, thick, thick))
            if square
            else _cylinder(_length(head, z), x + reach / 2, thick, reach / 2)
        )
        claw = _box(x - reach / 2, head + x * x * 0.9, z, (reach / 2, thick * 0.42, thick * 0.8)) * 0.75
        return _union(handle, face, claw)

    return distance


def lamp(random: np.random.Generator) -> Distance:
    foot, stem = random.uniform(0.16, 0.24), random.uniform(0.018, 0.035)
    low, high = random.uniform(0.3, 0.38), random.uniform(0.12, 0.24)
    start = random.uniform(0.5, 0.62)
    slope = (high - low) / (1 - start)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across = _length(x, z)
        base = _cylinder(across, y - 0.03, foot, 0.03)
        pole = _cylinder(across, y - 0.45, stem, 0.45)
        outer = _cone(across, y, (low, start), (high, 1.0))
        inner = _cone(across, y, (low - 0.03 - 0.1 * slope, start - 0.1), (high - 0.03 + 0.1 * slope, 1.1))
        shade = np.maximum(outer, -inner)
        return _union(base, pole, shade)

    return distance


def mug(random: np.random.Generator) -> Distance:
    radius, height = random.uniform(0.27, 0.36), random.uniform(0.62, 0.86)
    hold, thickness = random.uniform(0.16, 0.22), random.uniform(0.035, 0.05)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across = _length(x, z)
        outer = _cylinder(across, y - height / 2, radius, height / 2)
        inner = _cylinder(across, y - height / 2 - 0.06, radius - 0.035, height / 2)
        ring = _ring(_length(x - radius, (y - height / 2) * 0.85), z, hold, thickness)
        return _union(np.maximum(outer, -inner), np.maximum(ring, radius - 0.02 - across))

    return distance


def mushroom(random: np.random.Generator) -> Distance:
    radius, edge = random.uniform(0.34, 0.46), random.uniform(0.48, 0.6)
    stem, tall = random.uniform(0.08, 0.14), random.uniform(0.3, 0.42)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across = _length(x, z)
        stalk = _cone(across, y, (stem * 1.35, 0.0), (stem, edge + 0.1))
        squeeze = tall / radius
        cap = np.maximum((_length(across, (y - edge) / squeeze) - radius) * min(squeeze, 1.0), edge - y)
        return _union(stalk, cap)

    return distance


def teapot(random: np.random.Generator) -> Distance:
    radius, squeeze = random.uniform(0.3, 0.36), random.uniform(0.75, 0.95)
    spout, hold = random.uniform(0.5, 0.58), random.uniform(0.15, 0.19)

    def distance(x: Array, y: Array, z: Array) -> Array:
        across, middle = _length(x, z), radius * squeeze
        body = (_length(across, (y - middle) / squeeze) - radius) * squeeze
        knob = _length(across, y - 2 * middle - 0.03) - 0.055
        share = np.clip(((x - 0.2) * (spout - 0.2) + (y - middle * 0.8) * 0.32) / ((spout - 0.2) ** 2 + 0.32**2), 0, 1)
        nozzle = _length(x - 0.2 - share * (spout - 0.2), y - middle * 0.8 - share * 0.32, z) - (0.095 - 0.05 * share)
        ring = _ring(_length(x + radius, (y - middle) * 0.9), z, hold, 0.035)
        return _union(body, knob, nozzle, ring)

    return distance


OBJECTS: dict[str, Builder] = {
    "bottle": bottle,
    "bowl": bowl,
    "chair": chair,
    "doughnut": doughnut,
    "dumbbell": dumbbell,
    "hammer": hammer,
    "lamp": lamp,
    "mug": mug,
    "mushroom": mushroom,
    "teapot": teapot,
}
