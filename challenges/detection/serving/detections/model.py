"""Bring a detector's answer into the terms of whoever sent the image: its own pixels, and the names of the classes.

Runs in images that have Triton's Python backend and nothing of this kit, too.
"""

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

try:
    from common.serving.backends.tensors import output_tensor, string_tensor
except ImportError:  # Triton's own image, whose stub and NumPy fit each other

    def output_tensor(name: str, array: np.ndarray) -> Any:
        return pb_utils.Tensor(name, array)  # the stub puts Tensor there after it has imported this file

    string_tensor = output_tensor  # type: ignore[assignment]


class TritonPythonModel:
    """From boxes in shares of the image and labels to pixels and names."""

    def initialize(self, args: dict[str, str]) -> None:
        """The parameter `classes`: a JSON list of the foreground classes' names; label 0 is the padding."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.names = np.array(["", *json.loads(parameters["classes"]["string_value"])], dtype=object)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        """boxes (batch, detection, 4) as shares, labels (batch, detection), sizes (batch, 2): height and width."""
        boxes, labels, sizes = (
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in ("boxes", "labels", "sizes")
        )
        if labels.size and not 0 <= labels.min() <= labels.max() < len(self.names):
            reason = f"the model answers with labels up to {labels.max()}, there are {len(self.names) - 1} class names"
            error = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse(error=error)
        pixels = np.tile(sizes[:, None, ::-1], 2).astype(np.float32)  # width, height, width, height
        return pb_utils.InferenceResponse(
            [
                output_tensor("boxes", boxes * pixels),
                string_tensor("names", self.names[labels]),
                output_tensor("count", np.count_nonzero(labels, axis=1, keepdims=True).astype(np.int64)),
            ]
        )
