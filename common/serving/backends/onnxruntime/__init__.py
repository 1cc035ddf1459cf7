"""ONNX Runtime as a Triton backend."""
