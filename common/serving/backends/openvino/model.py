"""OpenVINO on the CPU behind the config.pbtxt of Triton's own `openvino` backend."""

from pathlib import Path

from common.export.runner import OpenVinoRunner, Runner
from common.serving.backends.engine import EngineModel


class TritonPythonModel(EngineModel):
    """Runs the model with OpenVINO."""

    default_filename = "model.xml"

    def load(self, artefact: Path, parameters: dict[str, str]) -> Runner:
        """`INFERENCE_NUM_THREADS`: 0 for one per core; `HINT_BF16` YES or NO."""
        return OpenVinoRunner(
            artefact,
            precision="bf16" if parameters.get("HINT_BF16") == "YES" else "fp32",
            threads=int(parameters.get("INFERENCE_NUM_THREADS", "0")) or None,
        )
