"""A serialised DALI graph on the CPU behind the config.pbtxt of Triton's own `dali` backend.

DALI fails a whole batch for one bad sample and leaves the pipeline unusable. So a failed batch is run again sample by
sample on fresh pipelines (0.6 ms each for decode, resize and crop), and only the requests with a bad sample fail.

DALI keeps the memory of the largest batch for good: 300 MB for one image of 100 megapixels, 2.4 GB for eight. So large
images are decoded a few at a time.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import nvidia.dali as dali
import triton_python_backend_utils as pb_utils

from common.serving.backends.check.model import image_size
from common.serving.backends.tensors import failure, input_array, output_tensor

TOGETHER = 50_000_000
"""Pixels of images that are decoded at the same time."""
LARGEST = 100_000_000
"""Pixels from which on no image is decoded, also where this step is asked without the one that checks."""


class TritonPythonModel:
    """From image files to what the network takes, by DALI."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        filename = config.get("default_model_filename") or "model.dali"
        self.graph = Path(args["model_repository"], args["model_version"], filename).read_bytes()
        self.input_name = config["input"][0]["name"]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        self.pipeline = self._built()
        if self.pipeline.max_batch_size < config["max_batch_size"]:
            raise pb_utils.TritonModelException(
                f"the graph takes batches of {self.pipeline.max_batch_size}, config.pbtxt allows "
                f"{config['max_batch_size']}: serialise the pipeline with the larger batch size"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        batches = [input_array(request, self.input_name) for request in requests]
        try:
            outputs = self._run([sample for batch in batches for sample in batch])
        except RuntimeError:
            self.pipeline = self._built()
            return [self._answer_alone(batch) for batch in batches]
        responses, start = [], 0
        for batch in batches:
            stop = start + len(batch)
            responses.append(self._response([output[start:stop] for output in outputs]))
            start = stop
        return responses

    def _answer_alone(self, batch: np.ndarray) -> Any:
        answers = []
        for position, sample in enumerate(batch):
            try:
                answers.append(self._run([sample]))
            except RuntimeError as error:
                self.pipeline = self._built()
                reason = f"image {position + 1} of {len(batch)} cannot be decoded: {_reason(error)}"
                return failure(reason, pb_utils.TritonError.INVALID_ARG)
        return self._response([np.concatenate(parts) for parts in zip(*answers, strict=True)])

    def _response(self, arrays: list[np.ndarray]) -> Any:
        tensors = [output_tensor(name, array) for name, array in zip(self.output_names, arrays, strict=True)]
        return pb_utils.InferenceResponse(tensors)

    def _run(self, samples: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs for encoded files, uint8 (bytes,) each.

        Raises RuntimeError for what cannot be decoded.
        """
        parts = [self._run_together(group) for group in _groups(samples)]
        return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _run_together(self, samples: list[np.ndarray]) -> list[np.ndarray]:
        """Copies, since the pipeline reuses its buffers."""
        self.pipeline.feed_input(self.input_name, samples)
        return [np.array(output.as_cpu().as_array()) for output in self.pipeline.run()]

    def _built(self) -> dali.Pipeline:
        pipeline = dali.Pipeline.deserialize(self.graph)
        pipeline.build()
        return pipeline


def _groups(samples: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The samples in order, in groups that hold no more than TOGETHER pixels or one image."""
    groups: list[list[np.ndarray]] = []
    together = 0
    for sample in samples:
        pixels = _pixels(sample)
        if not groups or together + pixels > TOGETHER:
            groups.append([])
            together = 0
        groups[-1].append(sample)
        together += pixels
    return groups


def _pixels(sample: np.ndarray) -> int:
    """By the header; 0 for what has none, which the decoder refuses."""
    try:
        width, height = image_size(sample.tobytes())
    except (ValueError, struct.error, IndexError):
        return 0
    if width * height >= LARGEST:
        raise RuntimeError(f"{width} x {height} pixels, fewer than {LARGEST:,} are taken")
    return width * height


def _reason(error: RuntimeError) -> str:
    """DALI's own words without its traceback: the line before the closing remark on the pipeline's state."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-2] if len(lines) > 1 else lines[0] if lines else "unknown"
