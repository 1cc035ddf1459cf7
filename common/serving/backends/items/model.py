"""Name what a recommender answers with: identifiers and titles for the catalogue's positions.

Runs in images that have Triton's Python backend and nothing of this kit, too.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

try:
    from common.serving.backends.tensors import string_tensor
except ImportError:  # Triton's own image, whose stub and NumPy fit each other
    string_tensor = pb_utils.Tensor


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        """catalogue.json beside this file: lists of `identifiers` and `titles`, in the order of the positions."""
        content = Path(args["model_repository"], args["model_version"], "catalogue.json").read_text(encoding="utf-8")
        catalogue = json.loads(content)
        self.columns = {name: np.array(catalogue[name], dtype=object) for name in ("identifiers", "titles")}

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        """items (batch, item) int64."""
        items = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "items"))
        known = len(self.columns["titles"])
        if items.size and not 0 <= items.min() <= items.max() < known:
            reason = f"the model answers with items from {items.min()} to {items.max()}, there are {known}"
            error = pb_utils.TritonError(reason, pb_utils.TritonError.INTERNAL)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([string_tensor(name, names[items]) for name, names in self.columns.items()])
