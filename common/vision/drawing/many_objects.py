"""Photograph-like pictures of several objects, and the boxes around what can be seen of each."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from common.vision.drawing.objects import Array, Pixels
from common.vision.drawing.scene import (
    Camera,
    Placed,
    as_image,
    camera_at,
    clutter,
    defocus,
    develop,
    dot,
    lamp_light,
    march,
    place,
    room,
    shade,
    shadow_of,
    tone,
)

SUPERSAMPLING = 1.1  # sides of the rendered picture over those of the saved one
SEEN = 0.45  # share of an object's pixels that nothing hides; where less is seen, the object is taken away
CROWDED = 0.3  # share of the smaller of two objects' surroundings that may lie in the other's
ATTEMPTS = 25  # at finding a place for an object
NEAREST, FARTHEST = 1.1, -0.5  # positions on the floor, towards the camera; the wall stands at -1.2 or behind


@dataclass(frozen=True)
class Found:
    """An object in a picture.

    box:  left, top, right, bottom of what is seen of it, in pixels, the last two exclusive.
    area: square pixels that are seen of it.
    """

    name: str
    box: tuple[float, float, float, float]
    area: float


def render_several(
    names: list[str], random: np.random.Generator, width: int, height: int
) -> tuple[Image.Image, list[Found]]:
    """One RGB picture of objects of the named classes on a floor, and which of them found a place in it."""
    camera = _camera(random, round(width * SUPERSAMPLING), round(height * SUPERSAMPLING))
    light, ambient = lamp_light(random), random.uniform(0.25, 0.42)
    warmth = 1 + 0.16 * random.uniform(-1, 1) * np.array([1, 0.15, -1], np.float32)
    things = _arrange(names, camera, random)

    colour, depth = room(camera, light, ambient, random)
    silhouettes = [march(thing, camera, depth) for _, thing in things]
    clutter(camera, light, ambient, colour, depth, random)
    owner, nearest = _visible(silhouettes, depth)
    for number, (_, thing) in enumerate(things):
        if (owner == number).any():
            colour *= shadow_of(thing, camera, light, depth, ambient)[:, None]
    focus = float(np.linalg.norm(camera.origin)) + random.normal(0, 0.2)
    backdrop = defocus(as_image(colour * warmth, camera), depth, focus, camera, random)

    pixels = np.asarray(backdrop).reshape(-1, 3).copy()
    found = []
    for number, (name, thing) in enumerate(things):
        hits = np.flatnonzero(owner == number)
        if hits.size:
            around = colour[hits].mean(0)
            paint = shade(thing, camera, hits, nearest[hits], light, ambient, around, random)
            pixels[hits] = tone(paint * warmth)
            area = hits.size * (width * height) / (camera.width * camera.height)
            found.append(Found(name, _box(hits, camera, width, height), area))
    picture = Image.fromarray(pixels.reshape(camera.height, camera.width, 3))
    return develop(picture.resize((width, height), Image.Resampling.BICUBIC), random), found


def _camera(random: np.random.Generator, width: int, height: int) -> Camera:
    elevation, away = np.radians(random.uniform(20, 36)), random.uniform(3.2, 4.2)
    target = np.array([random.uniform(-0.1, 0.1), random.uniform(0.2, 0.4), random.uniform(0.0, 0.3)])
    origin = np.array([0, away * np.sin(elevation) + 0.25, away * np.cos(elevation)])
    roll = random.normal(0, 0.04)
    return camera_at(origin, target, roll, random.uniform(0.27, 0.37), width, height)


def _arrange(names: list[str], camera: Camera, random: np.random.Generator) -> list[tuple[str, Placed]]:
    """Put objects where the camera sees the floor, without one hiding much of another."""
    placed: list[tuple[str, Placed]] = []
    taken: list[Array] = []
    for name in names:
        thing = place(name, random)
        thing = _scaled(thing, random.uniform(0.55, 1.2))
        for _ in range(ATTEMPTS):
            column, row = random.uniform(0.08, 0.92) * camera.width, random.uniform(0.3, 0.97) * camera.height
            direction = camera.directions[:, int(row) * camera.width + int(column)]
            if direction[1] > -1e-3:
                continue
            spot = camera.origin - direction * (camera.origin[1] / direction[1])
            if not FARTHEST <= spot[2] <= NEAREST:
                continue
            moved = _moved(thing, np.array([spot[0], 0, spot[2]], np.float32))
            around = _surroundings(moved, camera)
            if around[0] < around[2] and not any(_crowded(around, other) for other in taken):
                placed.append((name, moved))
                taken.append(around)
                break
    return placed


def _scaled(thing: Placed, factor: float) -> Placed:
    return replace(
        thing,
        position=thing.position * factor,
        scale=thing.scale * factor,
        middle=thing.middle * factor,
        reach=thing.reach * factor,
    )


def _moved(thing: Placed, step: Array) -> Placed:
    return replace(thing, position=thing.position + step, middle=thing.middle + step)


def _surroundings(thing: Placed, camera: Camera) -> Array:
    """Left, top, right and bottom of the pixels whose rays meet the ball that holds the object; zeros for none."""
    offset = camera.origin - thing.middle
    b = dot(offset, camera.directions)
    seen = np.flatnonzero(b * b - (dot(offset, offset) - thing.reach**2) > 0)
    return np.asarray(_extent(seen, camera), np.float64) if seen.size else np.zeros(4)


def _extent(pixels: Pixels, camera: Camera) -> tuple[float, float, float, float]:
    rows, columns = np.divmod(pixels, camera.width)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def _crowded(first: Array, second: Array) -> bool:
    shared = np.clip(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0, None).prod()
    return bool(shared > CROWDED * min((first[2:] - first[:2]).prod(), (second[2:] - second[:2]).prod()))


def _visible(silhouettes: list[tuple[Pixels, Array]], depth: Array) -> tuple[Pixels, Array]:
    """Which object each pixel shows, -1 for none, and how far away it is: (pixel,) each.

    silhouettes: pixels and distances of each object in the empty room. Objects that are mostly hidden are taken away.
    """
    owner, nearest = np.full(depth.size, -1), depth.copy()
    for number, (hits, distances) in enumerate(silhouettes):
        ahead = distances < nearest[hits]
        owner[hits[ahead]], nearest[hits[ahead]] = number, distances[ahead]
    hidden = [
        number
        for number, (hits, _) in enumerate(silhouettes)
        if hits.size and np.count_nonzero(owner == number) < SEEN * hits.size
    ]
    if not hidden:
        return owner, nearest
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.float32))
    return _visible([nothing if number in hidden else kept for number, kept in enumerate(silhouettes)], depth)


def _box(hits: Pixels, camera: Camera, width: int, height: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = _extent(hits, camera)
    across, down = width / camera.width, height / camera.height
    return left * across, top * down, right * across, bottom * down
