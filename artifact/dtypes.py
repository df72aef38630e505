"""Element types of tensors by the names of those who exchange them: KServe, numpy, ONNX Runtime, TensorRT, Triton."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# numpy has no such type: arrays of uint16 hold its bits.
BF16 = "BF16"

# KServe's name -> numpy's, ONNX Runtime's and TensorRT's; None: TensorRT has no such type. TensorRT's others (bfloat16,
# 8 bits and fewer) are not served.
_TABLE: Mapping[str, tuple[type[Any], str, str | None]] = {
    "BOOL": (np.bool_, "tensor(bool)", "BOOL"),
    "UINT8": (np.uint8, "tensor(uint8)", "UINT8"),
    "UINT16": (np.uint16, "tensor(uint16)", None),
    "UINT32": (np.uint32, "tensor(uint32)", None),
    "UINT64": (np.uint64, "tensor(uint64)", None),
    "INT8": (np.int8, "tensor(int8)", "INT8"),
    "INT16": (np.int16, "tensor(int16)", None),
    "INT32": (np.int32, "tensor(int32)", "INT32"),
    "INT64": (np.int64, "tensor(int64)", "INT64"),
    "FP16": (np.float16, "tensor(float16)", "HALF"),
    "FP32": (np.float32, "tensor(float)", "FLOAT"),
    "FP64": (np.float64, "tensor(double)", None),
    "BYTES": (np.object_, "tensor(string)", None),
    BF16: (np.uint16, "tensor(bfloat16)", None),
}

NUMPY_OF: Mapping[str, np.dtype[Any]] = {name: np.dtype(numpy) for name, (numpy, _, _) in _TABLE.items()}
KSERVE_OF_NUMPY: Mapping[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY_OF.items() if name != BF16}
KSERVE_OF_ONNX: Mapping[str, str] = {onnx: name for name, (_, onnx, _) in _TABLE.items()}
KSERVE_OF_TENSORRT: Mapping[str, str] = {trt: name for name, (_, _, trt) in _TABLE.items() if trt is not None}
TRITON_OF: Mapping[str, str] = {name: "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}" for name in _TABLE}
"""The names in config.pbtxt."""
