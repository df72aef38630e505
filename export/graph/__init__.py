"""From a network to the ONNX graph that is served: pixels inside, traced, checked."""
