"""Scenes as batches: the checked images with their boxes, read by DALI in an order that can resume anywhere."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from challenges.detection.recipes import DataConfig
from challenges.detection.scenes import Scenes
from challenges.detection.tiles import windows_of
from challenges.detection.windows import ATTEMPTS, NUMBERS, place_boxes, random_windows
from common.machine.distributed import ALONE, World
from common.machine.processes import usable_cores
from common.training.randomness import Share, shuffled_shares, uniform_numbers
from common.training.task import Batch, DataModule
from common.vision.dali.images import decode_and_preprocess, decode_window
from common.vision.dali.loader import Columns, dali_device, encode_path, picture_batches
from common.vision.preprocessing import ImagePreprocessing

SMALLEST_BOX = 1.0  # pixels of the network's input: what clipping leaves smaller is not trained on
FLIPS, COLOURS = 2, 3  # random numbers per sample besides those of its windows

_COLUMNS = {  # what the training graph takes: name -> type and number of dimensions
    "path": (types.UINT8, 1),
    "boxes": (types.FLOAT, 2),
    "labels": (types.INT64, 1),
    "index": (types.INT64, 0),
    "start": (types.INT32, 1),
    "size": (types.INT32, 1),
    "mirror": (types.INT32, 0),
    "upset": (types.INT32, 0),
    "colour": (types.FLOAT, 1),
}


class SceneData(DataModule):
    """The training and validation images of a data set with boxes.

    Batches hold `images` (batch, 3, crop, crop) float32 normalised, in channels-last memory, and `index` (batch,)
    int64, the row within the split. Training batches also hold `boxes` (batch, box, 4) float32 left, top, right, bottom
    as shares of what the network sees, and `labels` (batch, box) int64 with 0 in the padding; every batch has as many
    boxes as the fullest training image. Ignored boxes are not among them.

    whole_from: the step from which on training sees whole images and no windows; None: none.
    """

    sample_unit = "image"

    def __init__(
        self,
        scenes: Scenes,
        preprocessing: ImagePreprocessing,
        config: DataConfig,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int = 16,
        whole_from: int | None = None,
    ) -> None:
        self.scenes, self.preprocessing, self._config = scenes, preprocessing, config
        self.train, self.validation = scenes.subset("train"), scenes.subset("val")
        self.num_train, self.num_validation = len(self.train), len(self.validation)
        self.num_classes = len(scenes.classes)
        self._device, self._world, self._seed, self._evaluation_batch = device, world, seed, evaluation_batch
        self._whole_from = math.inf if whole_from is None else whole_from
        self._threads = config.threads or max(1, usable_cores() // world.local_size)
        self._targets = _Targets(self.train)

    def mean_file_bytes(self) -> float:
        """Of a hundred files at most, spread over the training images."""
        some = self.train.paths[:: max(1, self.num_train // 100)]
        return float(np.mean([(self.train.root / path).stat().st_size for path in some]))

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        shares = shuffled_shares(
            self.num_train, batch_size, first_step, seed=self._seed, world=self._world, accumulation=accumulation
        )
        files, names = _encoded_paths(self.train), self._train_columns()

        def columns() -> Iterator[Columns]:
            for share in shares:
                paths = [files[sample] for sample in share.samples]
                values = {"path": paths, "index": share.samples, **self._augmented(share, batch_size)}
                yield tuple(values[name] for name in names)

        graph = _train_graph(self.preprocessing, names, dali_device(self._device))
        return self._load(
            columns(), graph, ("images", "boxes", "labels", "index"), batch_size // self._world.size // accumulation
        )

    def validation_batches(self) -> Iterable[Batch]:
        return self.searched(self.validation, np.arange(self._world.rank, self.num_validation, self._world.size))

    def searched(self, scenes: Scenes, rows: NDArray[np.int64]) -> Iterator[Batch]:
        """The given images as they are searched for objects: as `batches_of`, or with the recipe's tiles window by
        window, with the windows' left, top, right, bottom in pixels as `window` (batch, 4) int32.
        """
        if self._config.tile is None:
            return self.batches_of(scenes, rows)
        return self._windows_of(scenes, rows, self._config.tile)

    def batches_of(self, scenes: Scenes, rows: NDArray[np.int64]) -> Iterator[Batch]:
        """The given images of a split, preprocessed as for validation, in their order."""
        files = _encoded_paths(scenes)

        def columns() -> Iterator[Columns]:
            for begin in range(0, len(rows), self._evaluation_batch):
                part = rows[begin : begin + self._evaluation_batch]
                yield [files[row] for row in part], part

        graph = _validation_graph(self.preprocessing, dali_device(self._device))
        return self._load(columns(), graph, ("images", "index"), self._evaluation_batch)

    def _windows_of(self, scenes: Scenes, rows: NDArray[np.int64], tile: int) -> Iterator[Batch]:
        files = _encoded_paths(scenes)

        def looks() -> Iterator[tuple[int, NDArray[np.int32]]]:
            for row in rows.tolist():
                for window in windows_of(int(scenes.widths[row]), int(scenes.heights[row]), tile):
                    yield row, window

        def columns() -> Iterator[Columns]:
            coming = looks()
            while part := list(islice(coming, self._evaluation_batch)):
                index, windows = np.array([row for row, _ in part]), np.stack([window for _, window in part])
                starts, sizes = windows[:, 1::-1], (windows[:, 2:] - windows[:, :2])[:, ::-1]  # height first
                yield [files[row] for row in index], index, windows, *map(np.ascontiguousarray, (starts, sizes))

        graph = _windows_graph(self.preprocessing, dali_device(self._device))
        return self._load(columns(), graph, ("images", "index", "window"), self._evaluation_batch)

    def describe(self) -> dict[str, object]:
        return {
            **super().describe(),
            "root": str(self.scenes.root),
            "fingerprint": self.scenes.fingerprint,
            "classes": list(self.scenes.classes),
            "train_boxes": len(self.train.boxes),
            "validation_boxes": len(self.validation.boxes),
        }

    def _train_columns(self) -> tuple[str, ...]:
        """The columns of the training graph; it does no work for what the recipe leaves as it is."""
        config = self._config
        ranges = config.saturation, config.contrast, config.brightness
        unused = {"upset": config.vertical_flip == 0, "colour": all(bounds == (1.0, 1.0) for bounds in ranges)}
        return tuple(name for name in _COLUMNS if not unused.get(name, False))

    def _augmented(self, share: Share, batch_size: int) -> dict[str, NDArray[Any]]:
        """Boxes and labels as the batch has them; window, flips and colours as the graph applies them."""
        config, samples = self._config, share.samples
        random = uniform_numbers(self._seed, share.step, batch_size, FLIPS + COLOURS + ATTEMPTS * NUMBERS)[share.rows]
        heights, widths = self.train.heights[samples], self.train.widths[samples]
        boxes, labels = self._targets.padded(samples)
        if config.crop and share.step < self._whole_from:
            attempts = random[:, FLIPS + COLOURS :].reshape(-1, ATTEMPTS, NUMBERS)
            fullest = int((labels > 0).sum(1).max(initial=0))  # padding that no image of the batch needs costs time
            shown = boxes[:, :fullest], labels[:, :fullest] > 0
            starts, sizes = random_windows(heights, widths, *shown, attempts, config.crop_scale, config.tile)
        else:
            sizes = np.stack([heights, widths], axis=1).astype(np.int32)
            starts = np.zeros_like(sizes)
        mirror, upset = random[:, 0] < config.flip, random[:, 1] < config.vertical_flip
        smallest = SMALLEST_BOX / self.preprocessing.crop
        boxes, kept = place_boxes(boxes, labels > 0, starts, sizes, mirror, upset, smallest)
        boxes, labels = np.where(kept[..., None], boxes, np.float32(0)), np.where(kept, labels, 0)
        low, high = np.array([config.saturation, config.contrast, config.brightness]).T
        colour = (low + (high - low) * random[:, FLIPS : FLIPS + COLOURS]).astype(np.float32)
        return {
            "boxes": boxes,
            "labels": labels,
            "start": starts,
            "size": sizes,
            "mirror": mirror.astype(np.int32),
            "upset": upset.astype(np.int32),
            "colour": colour,
        }

    def _load(
        self, columns: Iterator[Columns], graph: Callable[..., Pipeline], names: tuple[str, ...], batch_size: int
    ) -> Iterator[Batch]:
        return picture_batches(graph, columns, names, self._device, batch_size=batch_size, threads=self._threads)


class _Targets:
    """The boxes that training aims at, padded on demand."""

    def __init__(self, scenes: Scenes) -> None:
        wanted = ~scenes.ignored
        self._counts = np.bincount(scenes.image_of_box()[wanted], minlength=len(scenes))
        self._offsets = np.cumsum(self._counts) - self._counts
        self._boxes = np.append(scenes.boxes[wanted], np.zeros((1, 4), np.float32), axis=0)  # the last row is padding
        self._labels = np.append(scenes.labels[wanted], 0)
        self._width = max(1, self._counts.max(initial=0))

    def padded(self, samples: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Boxes (sample, box, 4) in the original images' pixels and labels (sample, box), 0 in the padding."""
        places = np.arange(self._width)
        rows = np.where(places < self._counts[samples][:, None], self._offsets[samples][:, None] + places, -1)
        return self._boxes[rows], self._labels[rows]


def _encoded_paths(scenes: Scenes) -> list[NDArray[np.uint8]]:
    return [encode_path(str(scenes.root / path)) for path in scenes.paths]


def _train_graph(preprocessing: ImagePreprocessing, names: tuple[str, ...], device: str) -> Callable[..., Pipeline]:
    @pipeline_def
    def graph(source: Callable[[], Columns]) -> tuple[DataNode, ...]:
        dtypes, dimensions = zip(*(_COLUMNS[name] for name in names), strict=True)
        nodes = fn.external_source(source=source, num_outputs=len(names), dtype=list(dtypes), ndim=list(dimensions))
        column = dict(zip(names, nodes, strict=True))
        images = decode_window(
            fn.io.file.read(column["path"]),
            column["start"],
            column["size"],
            column["mirror"],
            preprocessing,
            device,
            upset=column.get("upset"),
            colour=column.get("colour"),
        )
        return images, *(_to(column[name], device) for name in ("boxes", "labels", "index"))

    described: Callable[..., Pipeline] = graph
    return described


def _validation_graph(preprocessing: ImagePreprocessing, device: str) -> Callable[..., Pipeline]:
    @pipeline_def
    def graph(source: Callable[[], Columns]) -> tuple[DataNode, ...]:
        path, index = fn.external_source(source=source, num_outputs=2, dtype=[types.UINT8, types.INT64], ndim=[1, 0])
        images = decode_and_preprocess(fn.io.file.read(path), preprocessing, device, layout="HWC")
        return images, _to(index, device)

    described: Callable[..., Pipeline] = graph
    return described


def _windows_graph(preprocessing: ImagePreprocessing, device: str) -> Callable[..., Pipeline]:
    @pipeline_def
    def graph(source: Callable[[], Columns]) -> tuple[DataNode, ...]:
        dtypes = [types.UINT8, types.INT64, types.INT32, types.INT32, types.INT32]
        path, index, window, start, size = fn.external_source(
            source=source, num_outputs=5, dtype=dtypes, ndim=[1, 0, 1, 1, 1]
        )
        images = decode_window(fn.io.file.read(path), start, size, 0, preprocessing, device, faithful=True)
        return images, *(_to(column, device) for column in (index, window))

    described: Callable[..., Pipeline] = graph
    return described


def _to(node: DataNode, device: str) -> DataNode:
    return node.gpu() if device == "gpu" else node
