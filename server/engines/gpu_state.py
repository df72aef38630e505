"""Whether CUDA still works in this process, by the driver alone, whatever ran on the GPU."""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from server.engines.gpu_count import DRIVER

# CUresult after which, as CUDA's documentation has it, every further call of the process fails: it must end.
LOST: Mapping[int, str] = {
    214: "ECC_UNCORRECTABLE",
    220: "NVLINK_UNCORRECTABLE",
    226: "CONTAINED",
    700: "ILLEGAL_ADDRESS",
    702: "LAUNCH_TIMEOUT",
    709: "CONTEXT_IS_DESTROYED",
    710: "ASSERT",
    714: "HARDWARE_STACK_ERROR",
    715: "ILLEGAL_INSTRUCTION",
    716: "MISALIGNED_ADDRESS",
    717: "INVALID_ADDRESS_SPACE",
    718: "INVALID_PC",
    719: "LAUNCH_FAILED",
    721: "TENSOR_MEMORY_LEAK",
    810: "MPS_CLIENT_TERMINATED",
    911: "EXTERNAL_DEVICE",
}


def lost(index: int, open_library: Callable[[str], Any] = ctypes.CDLL) -> str:
    """Why nothing runs on that GPU any more until the process is started again; "" if it may be used. Blocks until what
    runs there has ended."""
    try:
        driver = open_library(DRIVER)
    except OSError:
        return ""
    device, context, before = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    if driver.cuDeviceGet(ctypes.byref(device), index):
        return ""
    # The context that CUDA's runtime works in, and with it ONNX Runtime and TensorRT.
    code = driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if not code:
        code = driver.cuCtxPushCurrent_v2(context)
        if not code:
            code = driver.cuCtxSynchronize()
            driver.cuCtxPopCurrent_v2(ctypes.byref(before))
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return f"CUDA_ERROR_{LOST[code]}" if code in LOST else ""
