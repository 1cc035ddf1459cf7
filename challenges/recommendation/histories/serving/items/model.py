"""Name what a recommender answers with, and leave out what it must not recommend: items that were told to it.

Runs in images that have Triton's Python backend and nothing of this kit, too.
"""

import json
from pathlib import Path
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
    """From positions of the catalogue to names."""

    def initialize(self, args: dict[str, str]) -> None:
        """catalogue.json beside this file: lists of `identifiers` and `titles`, in the order of the positions.

        The parameter `lowest_score`: what scores no more than this is no recommendation.
        """
        content = Path(args["model_repository"], args["model_version"], "catalogue.json").read_text(encoding="utf-8")
        catalogue = json.loads(content)
        # the last entry, at position -1, is the padding's
        self.columns = {name: np.array([*catalogue[name], ""], dtype=object) for name in ("identifiers", "titles")}
        self.lowest = float(json.loads(args["model_config"])["parameters"]["lowest_score"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        """positions (batch, item) int64 and logits (batch, item) float32, best first."""
        positions, logits = (
            np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name)) for name in ("positions", "logits")
        )
        known = len(self.columns["titles"]) - 1
        if positions.size and not 0 <= positions.min() <= positions.max() < known:
            reason = f"the model answers with items from {positions.min()} to {positions.max()}, there are {known}"
            error = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse(error=error)
        recommended = logits > self.lowest
        items = np.where(recommended, positions, -1)
        return pb_utils.InferenceResponse(
            [
                output_tensor("items", items),
                output_tensor("scores", np.where(recommended, logits, np.float32(0))),
                output_tensor("count", recommended.sum(1, keepdims=True).astype(np.int64)),
                *(string_tensor(name, names[items]) for name, names in self.columns.items()),
            ]
        )
