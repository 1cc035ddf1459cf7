"""Photographs as batches: the checked folder, read by DALI in an order that can resume anywhere."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from challenges.classification.manifest import Manifest
from challenges.classification.recipes import DataConfig
from common.machine.distributed import ALONE, World
from common.machine.processes import usable_cores
from common.training.randomness import shuffled_shares, uniform_numbers
from common.training.task import Batch, DataModule
from common.vision.dali.images import decode_and_preprocess, decode_window
from common.vision.dali.loader import Columns, dali_device, encode_path, picture_batches
from common.vision.preprocessing import ImagePreprocessing
from common.vision.random_crops import random_resized_crops

CROP_ATTEMPTS = 10  # tries for a random window that fits, as torchvision and DALI make
COLOURS = 3  # saturation, contrast, brightness
VARIED = {"colour": 1, "rotation": 0}  # what a training picture may undergo -> dimensions of its numbers
OUTPUTS = ("images", "label", "index")


class PhotographData(DataModule):
    """The training and validation photographs of one manifest.

    Batches hold `images` (batch, 3, crop, crop) float32 normalised, in channels-last memory, `label` (batch,) int64,
    and `index` (batch,) int64, the row within the split.
    """

    sample_unit = "image"

    def __init__(
        self,
        manifest: Manifest,
        preprocessing: ImagePreprocessing,
        config: DataConfig,
        *,
        device: torch.device,
        world: World = ALONE,
        seed: int = 0,
        evaluation_batch: int = 64,
    ) -> None:
        self.manifest, self.preprocessing, self._config = manifest, preprocessing, config
        self.train, self.validation = manifest.subset("train"), manifest.subset("val")
        self.num_train, self.num_validation = len(self.train.paths), len(self.validation.paths)
        self.num_classes = len(manifest.classes)
        self.class_counts = np.bincount(self.train.labels, minlength=self.num_classes).tolist()
        self._device, self._world, self._seed, self._evaluation_batch = device, world, seed, evaluation_batch
        self._threads = config.threads or max(1, usable_cores() // world.local_size)

    def mean_file_bytes(self) -> float:
        return float(self.train.sizes.mean())

    def train_batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        shares = shuffled_shares(
            self.num_train, batch_size, first_step, seed=self._seed, world=self._world, accumulation=accumulation
        )
        files, config = _encoded_paths(self.train), self._config
        crops = 1 + CROP_ATTEMPTS * 4
        colours = crops + (COLOURS if config.colour else 0)
        width = colours + (1 if config.rotation else 0)
        varied = [name for name in VARIED if getattr(config, name)]

        def columns() -> Iterator[Columns]:
            for share in shares:
                numbers = uniform_numbers(self._seed, share.step, batch_size, width)[share.rows]
                starts, sizes = random_resized_crops(
                    self.train.heights[share.samples],
                    self.train.widths[share.samples],
                    numbers[:, 1:crops].reshape(-1, CROP_ATTEMPTS, 4),
                    config.area,
                    config.ratio,
                )
                mirror = (numbers[:, 0] < config.flip).astype(np.int32)
                paths = [files[sample] for sample in share.samples]
                column = paths, self.train.labels[share.samples], share.samples, starts, sizes, mirror
                within = (2 * numbers - 1).astype(np.float32)  # of what is allowed, to either side
                undergone = {
                    "colour": 1 + config.colour * within[:, crops:colours],
                    "rotation": config.rotation * within[:, -1],
                }
                yield (*column, *(undergone[name] for name in varied))

        return self._load(
            columns(),
            _train_graph(self.preprocessing, dali_device(self._device), varied),
            batch_size // self._world.size // accumulation,
        )

    def validation_batches(self) -> Iterable[Batch]:
        return self.batches_of(self.validation, np.arange(self._world.rank, self.num_validation, self._world.size))

    def batches_of(self, split: Manifest, samples: NDArray[np.int64]) -> Iterator[Batch]:
        """The given rows of a split, preprocessed as for validation, in their order."""
        files = _encoded_paths(split)

        def columns() -> Iterator[Columns]:
            for begin in range(0, len(samples), self._evaluation_batch):
                rows = samples[begin : begin + self._evaluation_batch]
                yield [files[row] for row in rows], split.labels[rows], rows

        graph = _validation_graph(self.preprocessing, dali_device(self._device))
        return self._load(columns(), graph, self._evaluation_batch)

    def describe(self) -> dict[str, object]:
        return {
            **super().describe(),
            "root": str(self.manifest.root),
            "fingerprint": self.manifest.fingerprint,
            "classes": list(self.manifest.classes),
        }

    def _load(self, columns: Iterator[Columns], graph: Callable[..., Pipeline], batch_size: int) -> Iterator[Batch]:
        return picture_batches(graph, columns, OUTPUTS, self._device, batch_size=batch_size, threads=self._threads)


def _encoded_paths(split: Manifest) -> list[NDArray[np.uint8]]:
    root = Path(split.root)
    return [encode_path(str(root / path)) for path in split.paths]


def _train_graph(preprocessing: ImagePreprocessing, device: str, varied: Sequence[str] = ()) -> Callable[..., Pipeline]:
    kinds = [types.UINT8, types.INT64, types.INT64, types.INT32, types.INT32, types.INT32]
    dimensions = [1, 0, 0, 1, 1, 0]

    @pipeline_def
    def graph(source: Callable[[], Columns]) -> tuple[DataNode, ...]:
        path, label, index, start, size, mirror, *numbers = fn.external_source(
            source=source,
            num_outputs=len(kinds) + len(varied),
            dtype=[*kinds, *[types.FLOAT] * len(varied)],
            ndim=[*dimensions, *(VARIED[name] for name in varied)],
        )
        undergone = dict(zip(varied, numbers, strict=True))
        images = decode_window(fn.io.file.read(path), start, size, mirror, preprocessing, device, **undergone)
        return images, _to(label, device), _to(index, device)

    described: Callable[..., Pipeline] = graph
    return described


def _validation_graph(preprocessing: ImagePreprocessing, device: str) -> Callable[..., Pipeline]:
    @pipeline_def
    def graph(source: Callable[[], Columns]) -> tuple[DataNode, ...]:
        path, label, index = fn.external_source(
            source=source, num_outputs=3, dtype=[types.UINT8, types.INT64, types.INT64], ndim=[1, 0, 0]
        )
        images = decode_and_preprocess(fn.io.file.read(path), preprocessing, device, layout="HWC")
        return images, _to(label, device), _to(index, device)

    described: Callable[..., Pipeline] = graph
    return described


def _to(node: DataNode, device: str) -> DataNode:
    return node.gpu() if device == "gpu" else node
