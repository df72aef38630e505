"""How many GPUs there are, by the driver alone: neither ONNX Runtime nor TensorRT need be installed."""

import ctypes
from collections.abc import Callable
from typing import Any

DRIVER = "libcuda.so.1"


def count_gpus(open_library: Callable[[str], Any] = ctypes.CDLL) -> int:
    """GPUs that CUDA lets this process use (CUDA_VISIBLE_DEVICES counts), 0 without a working driver."""
    try:
        driver = open_library(DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
