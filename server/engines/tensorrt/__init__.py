"""TensorRT engines on NVIDIA GPUs."""
