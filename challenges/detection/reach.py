"""How large objects are where the network looks, which of them its default boxes reach, and what would reach more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from challenges.detection.scenes import Scenes
from challenges.detection.tiles import SMALLEST_TILE, windows_of
from common.language.telling import english

if TYPE_CHECKING:
    from challenges.detection.boxes import DefaultBoxes

MATCHED = 0.5  # IoU from which on a default box learns an object
TINY_SHARE = 0.1  # of a class's boxes from which on their size is warned of
POOR_RECALL = 0.9
AT_ONCE = 1 << 14  # boxes whose overlaps are computed together: they fit into the processor's cache
LARGER = 512, "small-512"  # pixels of the larger input, and the recipe that has it
TILES_PER_SIDE = (1, 1.5, 2, 3, 4, 6, 8, 12, 16)  # that are tried, along the shorter side of the median image
TRIED = 20_000  # boxes, evenly spaced among all, that an alternative is tried on
NAMED = 3  # classes in a warning


@dataclass(frozen=True)
class View:
    """How a recipe's network looks at an image.

    image_size: pixels of the input's sides. tile: side in the image's pixels of the tiles besides it; None: no tiles.
    """

    image_size: int = 300
    tile: int | None = None


def object_sizes(scenes: Scenes, view: View) -> dict[str, Any]:
    """How large objects are in the network's input, what the default boxes can reach of them, and what would help.

    A class's row, and that of `all` boxes, has these, sizes being the root of an object's area in pixels of the input:
    recall: share of boxes that overlap a default box by MATCHED and more: the best recall before training moves them.
    sides:  quantiles 0.05, 0.5 and 0.95 of the size. below: share smaller than the smallest default box.
    tiny:   share so much smaller than it that none can overlap a default box by MATCHED.
    With tiles, each object counts where it is seen best. Where many are tiny, `alternatives` say what another view
    comes to: image_size, tile, recall, and looks, the windows per image. `warnings` are sentences about all this.
    """
    from challenges.detection.boxes import BY_IMAGE_SIZE

    counted = np.flatnonzero(~scenes.ignored)
    lengths, reached = _seen(scenes, counted, view)
    smallest = float(BY_IMAGE_SIZE[view.image_size].scales[0])

    def row(rows: NDArray[Any]) -> dict[str, Any]:
        return {
            "boxes": len(lengths[rows]),
            "recall": round(float(reached[rows].mean()), 4),
            "below": round(float((lengths[rows] < smallest).mean()), 4),
            "tiny": round(float((lengths[rows] < smallest * MATCHED**0.5).mean()), 4),
            "sides": [round(float(value), 1) for value in np.quantile(lengths[rows], (0.05, 0.5, 0.95))],
        }

    of_class = {name: scenes.labels[counted] == label for label, name in enumerate(scenes.classes, start=1)}
    sizes: dict[str, Any] = {
        "input": view.image_size,
        "tile": view.tile,
        "smallest_default_box": smallest,
        "classes": {name: row(rows) for name, rows in of_class.items() if rows.any()},
        "alternatives": [],
    }
    if len(counted):
        sizes["all"] = row(np.ones(len(counted), bool))
    if any(found["tiny"] >= TINY_SHARE for found in sizes["classes"].values()):
        sizes["alternatives"] = list(_alternatives(scenes, counted, view, sizes["all"]["recall"]))
    largest = max(scenes.widths.max(initial=0), scenes.heights.max(initial=0))
    sizes["warnings"] = [*_unused_tiles(view, int(largest)), *_size_warnings(sizes), *_shape_warnings(sizes)]
    return sizes


def best_overlaps(boxes: np.ndarray, default_boxes: "DefaultBoxes") -> np.ndarray:
    """The largest IoU of each box with any default box, (box,).

    boxes: (box, 4) left, top, right, bottom as shares of the image's sides.
    Among default boxes of one shape, whose centres form a grid, the one nearest in x and in y overlaps most.
    """
    anchors = default_boxes.boxes().numpy().astype(np.float64)
    pieces = [boxes[start : start + AT_ONCE] for start in range(0, len(boxes), AT_ONCE)]
    return np.concatenate([np.zeros(0), *(_best_overlaps(piece, anchors, default_boxes) for piece in pieces)])


def _best_overlaps(boxes: np.ndarray, anchors: np.ndarray, default_boxes: "DefaultBoxes") -> np.ndarray:
    best = np.zeros(len(boxes))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    start = 0
    for cells, shapes in zip(default_boxes.maps, default_boxes.shapes_per_cell, strict=True):
        for _ in range(shapes):
            grid = anchors[start : start + cells * cells]
            start += cells * cells
            half = grid[0, 2:] / 2
            centre = np.column_stack([_nearest(np.unique(grid[:, axis]), middle[:, axis]) for axis in (0, 1)])
            shared = np.minimum(boxes[:, 2:], centre + half) - np.maximum(boxes[:, :2], centre - half)
            overlap = np.clip(shared, 0, None).prod(1)
            best = np.maximum(best, overlap / (area + 4 * half.prod() - overlap))
    return best


def _nearest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The closest of ascending values to each wanted one."""
    after = np.searchsorted(values, wanted).clip(1, max(len(values) - 1, 1))
    high, low = values[np.minimum(after, len(values) - 1)], values[after - 1]
    nearest: np.ndarray = np.where(wanted - low <= high - wanted, low, high)
    return nearest


def _seen(scenes: Scenes, rows: NDArray[np.int64], view: View) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each of the boxes, (box,): its size in the input where it is largest; whether a default box reaches it."""
    from challenges.detection.boxes import BY_IMAGE_SIZE

    lengths, overlaps = np.zeros(len(rows)), np.zeros(len(rows))
    for places, shares in _looks(scenes, rows, view.tile):
        size = np.sqrt((shares[:, 2:] - shares[:, :2]).prod(1)) * view.image_size
        np.maximum.at(lengths, places, size)
        np.maximum.at(overlaps, places, best_overlaps(shares, BY_IMAGE_SIZE[view.image_size]))
    return lengths, overlaps >= MATCHED


def _looks(
    scenes: Scenes, rows: NDArray[np.int64], tile: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The boxes in every window that shows the whole of them: their places among `rows`, and shares of the window."""
    boxes = scenes.boxes[rows].astype(np.float64)
    sides = np.column_stack([scenes.widths, scenes.heights])[scenes.image_of_box()[rows]]
    yield np.arange(len(rows)), boxes / np.tile(sides, 2)
    if tile is None:
        return
    for width, height in np.unique(sides, axis=0).tolist():
        own = np.flatnonzero((sides == (width, height)).all(1))
        windows = windows_of(width, height, tile)[1:].astype(np.float64)
        starts, ends = windows[:, None, :2], windows[:, None, 2:]
        window, place = np.nonzero(((boxes[own, :2] >= starts) & (boxes[own, 2:] <= ends)).all(2))
        start, extent = windows[window, :2], windows[window, 2:] - windows[window, :2]
        yield own[place], (boxes[own[place]] - np.tile(start, 2)) / np.tile(extent, 2)


def _alternatives(scenes: Scenes, counted: NDArray[np.int64], view: View, recall: float) -> Iterator[dict[str, Any]]:
    """A larger input, and the largest tiles that reach POOR_RECALL or else those that reach most."""
    rows = counted[:: -(-len(counted) // TRIED)]
    if view.image_size < LARGER[0]:
        yield _alternative(scenes, rows, replace(view, image_size=LARGER[0]))
    side = float(np.median(np.minimum(scenes.widths, scenes.heights)))
    best: dict[str, Any] | None = None
    for parts in TILES_PER_SIDE:
        tile = int(side / parts)
        if tile < SMALLEST_TILE or (view.tile is not None and tile >= view.tile):
            continue
        tried = _alternative(scenes, rows, replace(view, tile=tile))
        if tried["recall"] > max(recall, best["recall"] if best else 0.0):
            best = tried
        if best and best["recall"] >= POOR_RECALL:
            break
    if best:
        yield best


def _alternative(scenes: Scenes, rows: NDArray[np.int64], view: View) -> dict[str, Any]:
    sizes = np.stack([scenes.widths, scenes.heights], axis=1)
    kinds, counts = np.unique(sizes, axis=0, return_counts=True)
    looks = [len(windows_of(width, height, view.tile)) for width, height in kinds.tolist()]
    return {
        "image_size": view.image_size,
        "tile": view.tile,
        "recall": round(float(_seen(scenes, rows, view)[1].mean()), 4),
        "looks": round(float(np.average(looks, weights=counts)), 1),
    }


def _unused_tiles(view: View, largest: int) -> list[str]:
    if view.tile is None or largest > view.tile:
        return []
    return [f"No image is larger than a tile of {view.tile} pixels (data.tile): all are searched as a whole."]


def _size_warnings(sizes: Mapping[str, Any]) -> list[str]:
    """One sentence about all boxes that are too small, and what would reach how many of them."""
    small = {name: row["tiny"] for name, row in sizes["classes"].items() if row["tiny"] >= TINY_SHARE}
    if not small:
        return []
    reachable = [english("reachable recall {recall:.0%}", recall=sizes["all"]["recall"])]
    for other in sizes["alternatives"]:
        if other["image_size"] != sizes["input"]:
            reachable.append(english("{recall:.0%} with RECIPE={larger}", recall=other["recall"], larger=LARGER[1]))
        else:
            tiles = english(
                "in tiles of {tile} px (--data.tile {tile}, {looks:.3g} looks an image)",
                tile=other["tile"],
                looks=other["looks"],
            )
            reachable.append(f"{other['recall']:.0%} {tiles}")
    where = f"{sizes['input']} px" + (english(" in tiles of {tile} px", tile=sizes["tile"]) if sizes["tile"] else "")
    told = english(
        "{tiny:.0%} of the boxes are too small for {where}: {reachable}.",
        tiny=sizes["all"]["tiny"],
        where=where,
        reachable=", ".join(reachable),
    )
    return [
        told if len(sizes["classes"]) == 1 else english("{told} Most of all {small}.", told=told, small=_shares(small))
    ]


def _shape_warnings(sizes: Mapping[str, Any]) -> list[str]:
    """One sentence about the classes that are large enough, and still out of the default boxes' reach."""
    missed = {
        name: 1 - row["recall"]
        for name, row in sizes["classes"].items()
        if row["tiny"] < TINY_SHARE and row["recall"] < POOR_RECALL
    }
    if not missed:
        return []
    return [
        english(
            "Boxes that overlap no default box by {matched:g} (IoU): {missed}. They are long or narrow; "
            "expect them to be found less often.",
            matched=MATCHED,
            missed=_shares(missed),
        )
    ]


def _shares(classes: Mapping[str, float]) -> str:
    """The classes with the largest shares, such as 'ball' (99 %), and how many more there are."""
    ordered = sorted(classes, key=lambda name: -classes[name])
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(f"'{name}' ({classes[name]:.0%})" for name in ordered[:NAMED]) + more
