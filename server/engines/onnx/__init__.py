"""Graphs in ONNX Runtime."""
