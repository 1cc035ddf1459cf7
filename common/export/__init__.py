"""From a trained task to ONNX, TensorRT and a proof that they answer alike."""
