"""ONNX Runtime on the CPU behind the config.pbtxt of Triton's own `onnxruntime` backend."""

from pathlib import Path

from common.export.runner import OnnxRunner, Runner
from common.serving.backends.engine import EngineModel


class TritonPythonModel(EngineModel):
    """Runs model.onnx."""

    default_filename = "model.onnx"

    def load(self, artefact: Path, parameters: dict[str, str]) -> Runner:
        """`intra_op_thread_count`: threads of one inference, 0 for one per core."""
        return OnnxRunner(artefact, threads=int(parameters.get("intra_op_thread_count", "0")) or None)
