"""Checkpoint -> ONNX (-> TensorRT) -> model repository, with parity checks."""

import os

# As in server/engines/onnx: read when onnxruntime is imported, which otherwise sends usage data.
os.putenv("ORT_DISABLE_TELEMETRY", "1")
