"""The stages between an image file and its boxes, each as a piece of work that can be timed alone."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from challenges.detection.detections import Detections
from challenges.detection.nms import detect
from challenges.detection.recipes import DetectionRecipe
from challenges.detection.task import DetectionTask
from common.machine.precision import Precision
from common.machine.processes import usable_cores
from common.vision.dali.images import ENCODED_INPUT, normalise, serving_pipeline
from common.vision.preprocessing import ImagePreprocessing

PIXELS_INPUT = "pixels"


class Stages:
    """One batch of encoded images on its way to boxes, by DALI and torch on one device.

    encoded: one file's bytes each, uint8
    """

    def __init__(
        self,
        task: DetectionTask,
        recipe: DetectionRecipe,
        encoded: Sequence[np.ndarray],
        device: torch.device,
        precision: Precision,
    ) -> None:
        preprocessing = recipe.preprocessing
        self.device, self.precision, self._nms = device, precision, recipe.nms
        self.task = task.place(device, channels_last=True).eval()
        count = len(encoded)
        self._encoded = list(encoded)
        device_id = (device.index or 0) if device.type == "cuda" else None
        self._decoding = _built(_decoding, count, device_id)
        self._resizing = resizing(preprocessing, count, device_id)
        self._both = serving_pipeline(preprocessing, batch_size=count, num_threads=usable_cores(), device_id=device_id)
        self._both.build()
        self.pixels = [_copy(image, on_gpu=device_id is not None) for image in self.decode()]
        self.images = self.prepare().clone(memory_format=torch.channels_last)
        self.heads = tuple(part.clone() for part in self.forward(self.images))

    def decode(self) -> Any:
        """Every file's pixels, (height, width, 3) bytes each."""
        return self._run(self._decoding, ENCODED_INPUT, self._encoded)

    def preprocess(self) -> Tensor:
        """Decoded pixels to the network's input, (batch, 3, crop, crop); DALI's memory, gone with the next call."""
        return torch.from_dlpack(self._run(self._resizing, PIXELS_INPUT, self.pixels).as_tensor())

    def prepare(self) -> Tensor:
        """Files to the network's input in one graph; DALI's memory, gone with the next call."""
        return torch.from_dlpack(self._run(self._both, ENCODED_INPUT, self._encoded).as_tensor())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets and logits: the boundary of the figures that are published for SSD300."""
        with torch.inference_mode(), self.precision.context(self.device):
            offsets, logits = self.task.model(images.contiguous(memory_format=torch.channels_last))
            return offsets.float(), logits.float()

    def suppress(self, offsets: Tensor, logits: Tensor) -> Detections:
        with torch.inference_mode():
            return detect(offsets, logits, self.task.anchors, self._nms)

    def works(self) -> dict[str, Callable[[], object]]:
        """Every stage alone; then the forward pass with one more stage before or after it each time."""
        return {
            "decode": self.decode,
            "preprocess": self.preprocess,
            "decode and preprocess": self.prepare,
            "forward": lambda: self.forward(self.images),
            "box decode and suppression": lambda: self.suppress(*self.heads),
            "forward and suppression": lambda: self.suppress(*self.forward(self.images)),
            "pixels to boxes (torch)": lambda: self.suppress(*self.forward(self.preprocess())),
            "file to boxes (torch)": lambda: self.suppress(*self.forward(self.prepare())),
        }

    def _run(self, pipeline: Pipeline, name: str, batch: Sequence[Any]) -> Any:
        pipeline.feed_input(name, batch)
        (output,) = pipeline.run(
            torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else None
        )
        return output


def resizing(preprocessing: ImagePreprocessing, batch: int, device_id: int | None = None) -> Pipeline:
    """Decoded pixels (input PIXELS_INPUT, height, width, 3 bytes) squashed and normalised to (3, crop, crop)."""
    return _built(functools.partial(_resizing, preprocessing), batch, device_id)


def _built(graph: Callable[[bool], DataNode], batch: int, device_id: int | None) -> Pipeline:
    @pipeline_def(batch_size=batch, num_threads=usable_cores(), device_id=device_id, prefetch_queue_depth=1)
    def pipeline() -> DataNode:
        return graph(device_id is not None)

    built = pipeline()
    built.build()
    return built


def _decoding(on_gpu: bool) -> DataNode:
    encoded = fn.external_source(name=ENCODED_INPUT, device="cpu", dtype=types.UINT8, ndim=1)
    return fn.decoders.image(encoded, device="mixed" if on_gpu else "cpu", output_type=types.RGB)


def _resizing(preprocessing: ImagePreprocessing, on_gpu: bool) -> DataNode:
    device = "gpu" if on_gpu else "cpu"
    pixels = fn.external_source(name=PIXELS_INPUT, device=device, dtype=types.UINT8, ndim=3, layout="HWC")
    sides = [preprocessing.crop, preprocessing.crop]
    resized = fn.resize(pixels, size=sides, interp_type=types.INTERP_LINEAR, antialias=True)
    return normalise(resized, preprocessing, "CHW")


def _copy(sample: Any, *, on_gpu: bool) -> np.ndarray | Tensor:
    """One sample of a pipeline's output as DALI takes it back: an array on a CPU, torch's memory on a GPU."""
    return torch.from_dlpack(sample).clone() if on_gpu else np.array(sample)
