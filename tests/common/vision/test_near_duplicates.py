import io

import numpy as np
import pytest
from PIL import Image

from common.vision.near_duplicates import nearest_copies, sets_of_copies, thumbnail


def scene(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def seen(image: Image.Image) -> bytes:
    return thumbnail(np.asarray(image))


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


@pytest.mark.parametrize("change", ["saved", "smaller", "larger", "touched"])
def test_copies_are_found_and_nothing_else(change):
    changes = {
        "saved": lambda image: saved_again(image, 40),
        "smaller": lambda image: image.resize((83, 62), Image.Resampling.LANCZOS),
        "larger": lambda image: image.resize((301, 226), Image.Resampling.LANCZOS),
        "touched": lambda image: image.point(lambda level: min(255, level + 2)),
    }
    learnt = [seen(scene(seed)) for seed in range(40)]
    judged = [seen(changes[change](scene(seed))) for seed in (7, 3, 31)] + [seen(scene(seed)) for seed in range(50, 70)]
    assert nearest_copies(learnt, judged).tolist() == [7, 3, 31, *[-1] * 20]


def test_other_colours_and_flat_pictures_are_no_copies():
    image = np.array(scene(1))
    red = image.copy()
    red[..., 0] = 255 - red[..., 0]
    flat = [seen(Image.new("RGB", (50, 40), (level, level, level))) for level in (200, 200)]
    assert nearest_copies([thumbnail(image), flat[0]], [thumbnail(red), flat[1]]).tolist() == [-1, -1]
    assert nearest_copies([], [flat[0]]).tolist() == [-1]
    assert nearest_copies([flat[0]], []).tolist() == []


def test_chains_of_copies_are_one_set():
    fades = [np.asarray(scene(2), np.float32) * (1 - 0.01 * step) for step in range(8)]
    pictures = [thumbnail(fade.round().astype(np.uint8)) for fade in fades]
    assert nearest_copies(pictures[:1], pictures[-1:]).tolist() == [-1]  # too far apart by themselves
    numbers = sets_of_copies([*pictures, seen(scene(3)), seen(scene(4)), seen(saved_again(scene(3), 60))])
    assert len(set(numbers[:8].tolist())) == 1
    assert numbers[8] == numbers[10] != numbers[9] != numbers[0]
    assert sets_of_copies([]).tolist() == []


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (63, 64), (1000, 700)])
def test_any_size_has_a_thumbnail(size):
    assert len(seen(scene(0, *size))) == 16 * 16 + 4 * 4 * 3
