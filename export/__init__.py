"""Checkpoint -> ONNX (-> TensorRT) -> model repository, with parity checks."""
