"""What the engines behind Triton share: find the artefact, run a dynamic batch once, give every request its rows."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from common.export.runner import Runner
from common.serving.backends.tensors import failure, input_array, output_tensor


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
        parts = [{name: input_array(request, name) for name in self.input_names} for request in requests]
        inputs = {name: _joined([part[name] for part in parts]) for name in self.input_names}
        try:
            outputs = self.run(inputs)
        except Exception as error:
            return [failure(f"the engine failed: {error}", pb_utils.TritonError.INTERNAL) for _ in requests]
        responses, start = [], 0
        for part in parts:
            stop = start + len(part[self.input_names[0]])
            tensors = [output_tensor(name, outputs[name][start:stop]) for name in self.output_names]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
