"""What the engines behind Triton share: find the artefact, run a dynamic batch once, give every request its rows.

A request that an engine cannot take is refused before it meets others; where a batch fails for another reason, its
requests are run one by one, so that only the guilty one fails.
"""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from common.export.runner import Arrays, Runner
from common.serving.backends.tensors import failure, input_array, output_tensor

LONGEST = 2**17
"""Values of a request along a free dimension: no catalogue's history is longer, and ten million take seconds."""


class EngineModel(ABC):
    """A model of one artefact; Triton calls `initialize` once and `execute` with every dynamic batch."""

    default_filename: str

    @abstractmethod
    def load(self, artefact: Path, parameters: dict[str, str]) -> Runner:
        """The engine, as parity tests and measurements run it; `parameters` have the native backend's names."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.input_names = [tensor["name"] for tensor in config["input"]]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        filename = config.get("default_model_filename") or self.default_filename
        artefact = Path(args["model_repository"], args["model_version"], filename)
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        try:
            self.run = self.load(artefact, parameters)
        except Exception as error:
            raise pb_utils.TritonModelException(f"cannot load {artefact}: {error}") from error

    def execute(self, requests: list[Any]) -> list[Any]:
        """The answers in order; a request with a problem of its own never shares a run."""
        parts = [{name: input_array(request, name) for name in self.input_names} for request in requests]
        responses = [self._refusal(part) for part in parts]
        accepted = [number for number, response in enumerate(responses) if response is None]
        for number, response in zip(accepted, self._answers([parts[number] for number in accepted]), strict=True):
            responses[number] = response
        return responses

    def _refusal(self, part: Arrays) -> Any:
        for name, array in part.items():
            problem = _problem(array)
            if problem:
                return failure(f"the input {name} {problem}", pb_utils.TritonError.INVALID_ARG)
        return None

    def _answers(self, parts: list[Arrays]) -> list[Any]:
        """Responses to parts that were accepted: of one run, or of one each where that fails."""
        if not parts:
            return []
        try:
            outputs = self.run({name: _joined([part[name] for part in parts]) for name in self.input_names})
        except Exception as error:
            if len(parts) > 1:
                return [response for part in parts for response in self._answers([part])]
            return [failure(f"the engine failed: {error}", pb_utils.TritonError.INTERNAL)]
        responses, start = [], 0
        for part in parts:
            stop = start + len(part[self.input_names[0]])
            tensors = [output_tensor(name, outputs[name][start:stop]) for name in self.output_names]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


def _problem(array: np.ndarray) -> str | None:
    """Why (batch, ...) is not given to an engine; None where it is."""
    if array.ndim > 1 and max(array.shape[1:]) > LONGEST:
        return f"has {max(array.shape[1:]):,} values in a row, at most {LONGEST:,} are taken"
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):  # a sum is quicker than a mask
        return "holds values that are no finite numbers"
    return None


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
