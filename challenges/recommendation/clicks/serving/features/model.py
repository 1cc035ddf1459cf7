"""Turn raw values into what a click model takes, by the function that prepared its training rows.

Runs where Polars and the modules of the transform are: in the kit's own environment, and in the image that
containers/serve.Dockerfile makes for recommenders. strings.py lies beside it there.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import triton_python_backend_utils as pb_utils
from strings import RefusedError, input_strings  # which lies beside this file

from challenges.recommendation.clicks.answers import model_inputs
from challenges.recommendation.clicks.transform import Transform
from common.errors import KitError

try:
    from common.serving.backends.tensors import output_tensor
except ImportError:  # Triton's own image, whose stub and NumPy fit each other

    def output_tensor(name: str, array: np.ndarray) -> Any:
        return pb_utils.Tensor(name, array)  # the stub puts Tensor there after it has imported this file


class TritonPythonModel:
    """From raw values to a click model's inputs."""

    def initialize(self, args: dict[str, str]) -> None:
        """features.json and vocabulary/ lie beside this file."""
        self.transform = Transform.read(Path(args["model_repository"], args["model_version"]))
        limits = json.loads(args["model_config"])["parameters"]
        self.maximum_bytes = int(limits["maximum_bytes"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        spec = self.transform.spec
        try:
            columns = {name: self._column(request, name) for name in spec.raw_columns}
            found = model_inputs(spec, self.transform.answer_to(columns))
        except (RefusedError, KitError, pl.exceptions.PolarsError) as refused:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(str(refused), pb_utils.TritonError.INVALID_ARG)
            )
        return pb_utils.InferenceResponse([output_tensor(name, array) for name, array in found.items()])

    def _column(self, request: Any, name: str) -> list[str | None]:
        """A column (row, 1) as texts; an empty one is missing."""
        return [text or None for text in input_strings(request, name, self.maximum_bytes)]
