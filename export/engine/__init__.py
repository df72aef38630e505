"""From the ONNX graph to a TensorRT engine."""
