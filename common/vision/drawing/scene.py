"""Photograph-like pictures of one object: textured floor and wall, lamp light, shadows, clutter, a camera's faults."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from common.vision.drawing.objects import OBJECTS, Array, Distance, Pixels
from common.vision.drawing.surfaces import any_colour, grain_at, pattern, surface_colours, texture

SUPERSAMPLING = 1.25  # sides of the rendered picture over those of the saved one
STEPS, SHADOW_STEPS = 36, 14  # along a ray; more change no pixel visibly


def dot(first: Array, second: Array) -> Array:
    """The scalar product over the first axis, element by element: the same bits on any number of BLAS threads."""
    product: Array = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return product


def rotate(matrix: Array, points: Array) -> Array:
    return np.stack([dot(row, points) for row in matrix])


@dataclass(frozen=True)
class Camera:
    """Where every pixel looks: origin (3,), unit directions (3, pixel), and the picture's height and width."""

    origin: Array
    directions: Array
    height: int
    width: int


@dataclass(frozen=True)
class Placed:
    """An object in the scene: a world point p is `rotation.T @ (p - position) / scale` in the object's own space.

    middle, reach: a ball in world space that holds the object.
    """

    distance: Distance
    rotation: Array
    position: Array
    scale: float
    middle: Array
    reach: float

    def inside_out(self, points: Array) -> Array:
        return rotate(self.rotation.T, points - self.position[:, None]) / self.scale

    def turned(self, direction: Array) -> Array:
        return rotate(self.rotation.T, direction)


def render(name: str, random: np.random.Generator, size: int) -> Image.Image:
    """One RGB picture of an object of the named class, its sides around `size` pixels."""
    width = round(size * random.uniform(0.8, 1.25))
    height = round(size * random.uniform(0.8, 1.25))
    thing = place(name, random)
    camera = _camera(random, round(width * SUPERSAMPLING), round(height * SUPERSAMPLING))
    light = lamp_light(random)
    warmth = 1 + 0.16 * random.uniform(-1, 1) * np.array([1, 0.15, -1], np.float32)
    ambient = random.uniform(0.22, 0.42)

    colour, depth = room(camera, light, ambient, random)
    clutter(camera, light, ambient, colour, depth, random)
    colour *= shadow_of(thing, camera, light, depth, ambient)[:, None]
    backdrop = as_image(colour * warmth, camera)
    focus = float(np.linalg.norm(camera.origin - thing.position))
    backdrop = defocus(backdrop, depth, focus, camera, random)

    hits, distances = march(thing, camera, depth)
    around = colour[hits].mean(0) if hits.size else colour.mean(0)
    paint = shade(thing, camera, hits, distances, light, ambient, around, random) * warmth
    picture = _paste(backdrop, paint, hits, camera)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return develop(_obstruct(picture, random), random)


def place(name: str, random: np.random.Generator) -> Placed:
    """An object of the named class, of random proportions and heading, standing on the floor at the origin."""
    distance = OBJECTS[name](random)
    yaw, around = random.normal(0, 0.4) + random.choice((0, np.pi)), random.uniform(0, 2 * np.pi)
    tilt = random.normal(0, 0.07)
    rotation = _turn_y(around) @ _turn_x(tilt) @ _turn_y(yaw - around)
    grid = np.stack(np.meshgrid(*(np.linspace(-0.7, 1.1, 22, dtype=np.float32),) * 3)).reshape(3, -1)
    near = grid[:, distance(*grid) < 0.05]
    middle = (near.max(1) + near.min(1)) / 2
    scale = random.uniform(0.95, 1.15) * 0.58 / float(np.sqrt(((near - middle[:, None]) ** 2).sum(0).max()))
    turned = rotate(rotation, near) * scale
    position = np.array([0, -turned[1].min() - 0.03 * scale, 0], np.float32)
    reach = float(np.sqrt(((near - middle[:, None]) ** 2).sum(0).max()) + 0.05) * scale
    return Placed(distance, rotation, position, scale, rotate(rotation, middle) * scale + position, reach)


def _turn_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)


def _turn_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def _camera(random: np.random.Generator, width: int, height: int) -> Camera:
    elevation, away = np.radians(random.uniform(16, 32)), random.uniform(2.6, 3.6)
    target = np.array([random.uniform(-0.08, 0.08), random.uniform(0.34, 0.46), 0])
    origin = np.array([0, away * np.sin(elevation) + 0.25, away * np.cos(elevation)])
    roll = random.normal(0, 0.05)
    return camera_at(origin, target, roll, random.uniform(0.2, 0.25), width, height)


def camera_at(origin: Array, target: Array, roll: float, spread: float, width: int, height: int) -> Camera:
    """A camera that looks from one point to another, turned by `roll` radians about that line.

    spread: tangent of half the angle that the smaller side of the picture sees.
    """
    forward = (target - origin) / np.linalg.norm(target - origin)
    right = np.cross(forward, [np.sin(roll), np.cos(roll), 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    spread = spread / min(width, height) * 2
    across = ((np.arange(width) - (width - 1) / 2) * spread).astype(np.float32)
    upward = (((height - 1) / 2 - np.arange(height)) * spread).astype(np.float32)
    forward, right, up = (axis.astype(np.float32)[:, None, None] for axis in (forward, right, up))
    directions = (forward + right * across + up * upward[:, None]).reshape(3, -1)
    directions /= np.sqrt(dot(directions, directions))
    return Camera(origin.astype(np.float32), directions, height, width)


def lamp_light(random: np.random.Generator) -> Array:
    """The unit direction towards the lamp, (3,)."""
    around, up = random.uniform(0, 2 * np.pi), np.radians(random.uniform(28, 70))
    light = np.array([np.cos(around) * np.cos(up), np.sin(up), np.sin(around) * np.cos(up) * 0.8 + 0.25])
    direction: Array = (light / np.linalg.norm(light)).astype(np.float32)
    return direction


def room(camera: Camera, light: Array, ambient: float, random: np.random.Generator) -> tuple[Array, Array]:
    """Colours (pixel, 3) and depths (pixel,) of the empty room: a floor and a wall behind."""
    origin, y, z = camera.origin, camera.directions[1], camera.directions[2]
    wall = -random.uniform(1.2, 3.5)
    with np.errstate(divide="ignore"):
        to_floor = np.where(y < -1e-4, -origin[1] / np.minimum(y, -1e-4), np.inf)
        to_wall = np.where(z < -1e-4, (wall - origin[2]) / np.minimum(z, -1e-4), np.inf)
    depth = np.minimum(np.minimum(to_floor, to_wall), 60.0).astype(np.float32)
    px, py, pz = (origin[axis] + camera.directions[axis] * depth for axis in range(3))
    floor = to_floor <= to_wall
    colour = np.empty((depth.size, 3), np.float32)
    colour[floor] = texture(px[floor], pz[floor], random) * (ambient + 0.85 * light[1])
    facing = max(float(light[2]), 0.0)
    falloff = 1 / (1 + 0.06 * ((px[~floor] - 3 * light[0]) ** 2 + (py[~floor] - 1.5) ** 2))
    colour[~floor] = texture(px[~floor], py[~floor], random) * ((ambient + 0.75 * facing + 0.1) * falloff)[:, None]
    crease = np.where(floor, np.abs(pz - wall), np.abs(py))
    colour *= (1 - 0.35 * np.exp(-3 * crease))[:, None]
    spot = 1 / (1 + 0.12 * ((px - light[0]) ** 2 + (pz - light[2]) ** 2))
    colour *= np.where(floor, 0.35 + 0.75 * spot, 1.0)[:, None].astype(np.float32)
    return colour, depth


def clutter(
    camera: Camera, light: Array, ambient: float, colour: Array, depth: Array, random: np.random.Generator
) -> None:
    """Paint balls and boxes that stand about into `colour` and `depth`, with the shade beneath them."""
    for _ in range(random.choice(4, p=(0.6, 0.2, 0.12, 0.08))):
        size, forward = random.uniform(0.1, 0.3), random.uniform(-1.6, 0.7)
        aside = random.uniform(0.35 if forward < -0.8 else 0.75, 1.8) * random.choice((-1, 1))
        centre = np.array([aside, size, forward], np.float32)
        floor = camera.origin[:, None] + camera.directions * depth
        gap = (floor[0] - centre[0] - 0.5 * size * -light[0]) ** 2 + (floor[2] - centre[2] + 0.5 * size * light[2]) ** 2
        near = (np.abs(floor[1]) < 0.02) & (gap < 9 * size * size)
        colour[near] *= (1 - 0.6 * np.exp(-gap[near] / (1.1 * size * size)))[:, None]
        if random.random() < 0.45:
            seen, distances, normals = _ball(camera, centre, size)
        else:
            seen, distances, normals = _block(camera, centre, size, random)
        ahead = distances < depth[seen]
        seen, distances, normals = seen[ahead], distances[ahead], normals[:, ahead]
        points = camera.origin[:, None] + camera.directions[:, seen] * distances
        lit = ambient * (0.65 + 0.35 * normals[1]) + 0.85 * np.maximum(dot(light, normals), 0)
        paint = any_colour(random) * (0.7 + 0.5 * grain_at(points[0] + points[2], points[1]))[:, None]
        colour[seen] = paint * lit[:, None]
        depth[seen] = distances


def _ball(camera: Camera, centre: Array, size: float) -> tuple[Pixels, Array, Array]:
    """Pixels that see the ball, their depths and normals (3, pixel)."""
    offset = camera.origin - centre
    b = dot(offset, camera.directions)
    inside = b * b - (dot(offset, offset) - size * size)
    seen = np.flatnonzero(inside > 0)
    distances = -b[seen] - np.sqrt(inside[seen])
    normals = (offset[:, None] + camera.directions[:, seen] * distances) / size
    return seen, distances, normals


def _block(camera: Camera, centre: Array, size: float, random: np.random.Generator) -> tuple[Pixels, Array, Array]:
    """Pixels that see a box of random proportions and heading, their depths and normals (3, pixel)."""
    half = np.array([size * random.uniform(0.5, 1.3), size, size * random.uniform(0.5, 1.3)], np.float32)
    turn = _turn_y(random.uniform(0, np.pi))
    origin, directions = rotate(turn.T, camera.origin - centre), rotate(turn.T, camera.directions)
    directions = np.where(np.abs(directions) < 1e-5, np.float32(1e-5), directions)
    near = (-np.sign(directions) * half[:, None] - origin[:, None]) / directions
    far = (np.sign(directions) * half[:, None] - origin[:, None]) / directions
    entering = near.max(0)
    seen = np.flatnonzero((entering < far.min(0)) & (entering > 0))
    side = near[:, seen].argmax(0)
    normals = np.zeros((3, seen.size), np.float32)
    normals[side, np.arange(seen.size)] = -np.sign(directions[side, seen])
    return seen, entering[seen], rotate(turn, normals)


def march(thing: Placed, camera: Camera, depth: Array) -> tuple[Pixels, Array]:
    """Pixels that see the object before anything else, and their distances in world units."""
    offset = camera.origin - thing.middle
    b = dot(offset, camera.directions)
    within = b * b - (dot(offset, offset) - thing.reach**2)
    rays = np.flatnonzero(within > 0)
    half = np.sqrt(within[rays])
    travelled, limit = (-b[rays] - half) / thing.scale, np.minimum(-b[rays] + half, depth[rays]) / thing.scale
    origin = thing.inside_out(camera.origin[:, None])[:, 0]
    directions = thing.turned(camera.directions[:, rays])
    tolerance = 0.0015
    found: list[tuple[Pixels, Array]] = []
    for _ in range(STEPS):
        gap = thing.distance(*(origin[axis] + directions[axis] * travelled for axis in range(3)))
        hit = gap < tolerance
        if hit.any():
            found.append((rays[hit], travelled[hit]))
        travelled = travelled + gap
        going = ~hit & (travelled < limit)
        rays, travelled, limit, directions = rays[going], travelled[going], limit[going], directions[:, going]
        if not rays.size:
            break
    close = thing.distance(*(origin[axis] + directions[axis] * travelled for axis in range(3))) < 0.01
    found.append((rays[close], travelled[close]))
    hits, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    ahead = distances * thing.scale < depth[hits]
    return hits[ahead], distances[ahead] * thing.scale


def _lit(thing: Placed, points: Array, light: Array, start: float) -> Array:
    """How much of the light reaches points in the object's own space, 0..1 with soft edges."""
    free, travelled = np.ones(points.shape[1], np.float32), np.full(points.shape[1], start, np.float32)
    for _ in range(SHADOW_STEPS):
        gap = thing.distance(*(points[axis] + light[axis] * travelled for axis in range(3)))
        free = np.minimum(free, 9 * gap / travelled)
        travelled += np.clip(gap, 0.03, 0.25)
    return np.clip(free, 0, 1)


def shadow_of(thing: Placed, camera: Camera, light: Array, depth: Array, ambient: float) -> Array:
    """What the object's shadow leaves of each pixel's light, (pixel,); computed for every third pixel and smoothed."""
    grid = np.arange(depth.size).reshape(camera.height, camera.width)[1::3, 1::3]
    sample = grid.ravel()
    points = camera.origin[:, None] + camera.directions[:, sample] * depth[sample]
    near = np.flatnonzero(((points - thing.position[:, None]) ** 2).sum(0) < (3.0 * thing.scale) ** 2)
    left = np.ones(sample.size, np.float32)
    if near.size:
        local = thing.inside_out(points[:, near])
        darkest = ambient / (ambient + 0.85 * float(light[1]))
        direct = _lit(thing, local, thing.turned(light), 0.02)
        closeness = np.clip(thing.distance(*local) / 0.22, 0.25, 1)
        left[near] = (darkest + (1 - darkest) * direct) * closeness
    small = Image.fromarray((left * 255).astype(np.uint8).reshape(grid.shape))
    return np.asarray(small.resize((camera.width, camera.height), Image.Resampling.BICUBIC)).ravel() / np.float32(255)


def shade(
    thing: Placed,
    camera: Camera,
    hits: Pixels,
    distances: Array,
    light: Array,
    ambient: float,
    around: Array,
    random: np.random.Generator,
) -> Array:
    """The object's colours in linear light, (hit, 3)."""
    directions = thing.turned(camera.directions[:, hits])
    points = thing.inside_out(camera.origin[:, None]) + directions * (distances / thing.scale)
    step = 0.004
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    normals = sum(
        corner[:, None] * thing.distance(*(points[axis] + corner[axis] * step for axis in range(3)))
        for corner in corners
    )
    normals = normals / (np.sqrt(dot(normals, normals)) + 1e-9)
    sun, up = thing.turned(light), thing.turned(np.array([0, 1, 0], np.float32))
    open_sky = np.clip(0.35 + thing.distance(*(points + 0.1 * normals)) / 0.1 * 0.65, 0.2, 1)
    facing = np.maximum(dot(sun, normals), 0)
    direct = facing * _lit(thing, points + 0.012 * normals, sun, 0.03)
    halfway = sun[:, None] - directions
    halfway /= np.sqrt(dot(halfway, halfway))
    gloss, sharpness = random.choice([0.03, 0.15, 0.5, 0.9]), random.choice([8, 24, 70])
    shine = gloss * np.maximum(dot(halfway, normals), 0) ** sharpness * (facing > 0) * (direct > 0.05)
    sky = dot(up, normals)
    soft = ambient * (0.75 + 0.3 * sky) * open_sky
    edge = (1 + dot(directions, normals)) ** 3 * gloss * 0.35
    paint = pattern(points, around, random)
    colour: Array = (paint * (soft + 0.95 * direct)[:, None] + (shine + edge * ambient)[:, None]).astype(np.float32)
    return colour


def tone(colour: Array) -> Array:
    """Linear light to uint8 levels, with a film's soft shoulder."""
    bent = np.clip(colour / (0.75 + 0.25 * colour) * 0.92, 0, 1) ** np.float32(1 / 2.2)
    return (bent * 255).astype(np.uint8)


def as_image(colour: Array, camera: Camera) -> Image.Image:
    """Linear light (pixel, 3) as a picture."""
    return Image.fromarray(tone(colour).reshape(camera.height, camera.width, 3))


def defocus(
    backdrop: Image.Image, depth: Array, focus: float, camera: Camera, random: np.random.Generator
) -> Image.Image:
    """Blur what is far behind or before the object."""
    blur = random.uniform(1.5, 4.5) * camera.width / 200
    away = np.clip(np.abs(depth - focus) / focus * 2.2 - 0.15, 0, 1)
    mask = Image.fromarray((away * 255).astype(np.uint8).reshape(camera.height, camera.width))
    return Image.composite(backdrop.filter(ImageFilter.GaussianBlur(blur)), backdrop, mask)


def _paste(backdrop: Image.Image, paint: Array, hits: Pixels, camera: Camera) -> Image.Image:
    pixels = np.asarray(backdrop).reshape(-1, 3).copy()
    pixels[hits] = tone(paint)
    return Image.fromarray(pixels.reshape(camera.height, camera.width, 3))


def _obstruct(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """In an eighth of the pictures, something out of focus is in the way: a stalk or a corner."""
    if random.random() > 0.12:
        return picture
    width, height = picture.size
    small = (max(width // 2, 1), max(height // 2, 1))
    columns, rows = np.meshgrid(np.arange(small[0]) / small[0], np.arange(small[1]) / small[1])
    angle, through = random.uniform(0, np.pi), random.uniform(0.15, 0.85, 2)
    away = (columns - through[0]) * np.sin(angle) - (rows - through[1]) * np.cos(angle)
    thickness = random.uniform(0.02, 0.06)
    cover = np.clip((thickness - np.abs(away)) / 0.03 + 0.5, 0, 1)
    mask = Image.fromarray((cover * random.uniform(200, 255)).astype(np.uint8)).resize(picture.size)
    colour = tuple(int(255 * c ** (1 / 2.2) * 0.7) for c in surface_colours(random)[0])
    return Image.composite(Image.new("RGB", picture.size, colour), picture, mask)


def develop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Exposure, contrast, vignette, softness and sensor noise."""
    if random.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0)))
    pixels = np.asarray(picture, np.float32)
    height, width = pixels.shape[:2]
    rows, columns = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    metered = np.clip(random.uniform(110, 150) / (pixels.mean() + 1), 0.8, 2.2)
    exposure = metered * (1 - random.uniform(0, 0.22) * (rows**2 + columns**2))
    contrast = random.uniform(0.85, 1.15)
    pixels = ((pixels - 110) * contrast + 110) * exposure[..., None]
    noise = random.standard_normal((height, width, 3), np.float32)
    pixels += noise * random.uniform(0.5, 6.0) * (0.5 + np.sqrt(np.clip(pixels, 0, 255) / 255))
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
