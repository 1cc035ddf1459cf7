"""Scenes as pictures in which leaks between splits are looked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from challenges.detection.scenes import Scenes
from common.vision.images import ImageFacts
from common.vision.leaks import LIKELY_GROUP, Pictures, find_leaks, groups, scoped


def pictures_of(scenes: Scenes, thumbnails: Sequence[bytes] = ()) -> Pictures:
    """thumbnails: of every image, where near-duplicates are looked for."""
    paths = scenes.paths.tolist()
    return Pictures(paths, scenes.digests.tolist(), scoped(groups(paths, LIKELY_GROUP), [""] * len(paths)), thumbnails)


def validation_leaks(scenes: Scenes, facts: Sequence[ImageFacts]) -> dict[str, Any]:
    """What the validation images have in training, as `find_leaks` tells it. facts: of the scenes, in their order."""
    parts = {}
    for split in ("train", "val"):
        rows = np.flatnonzero(scenes.splits == split)
        parts[split] = pictures_of(scenes.select(rows), [facts[row].thumbnail for row in rows.tolist()])
    return find_leaks(parts["train"], parts["val"])
