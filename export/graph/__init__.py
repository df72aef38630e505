"""From a network to the ONNX graphs of a version: pixels inside, traced, reduced in precision, compared with torch."""
