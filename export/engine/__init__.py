"""From the ONNX graph to a TensorRT engine: targets, optimization profiles, the build, and its cache."""
