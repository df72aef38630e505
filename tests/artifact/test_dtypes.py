"""One table of element types, against those whose names it has."""

import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.grpc.model_config_pb2 import DataType
from tritonclient.utils import triton_to_np_dtype

from artifact.dtypes import BF16, KSERVE_OF_NUMPY, KSERVE_OF_ONNX, NUMPY_OF, TRITON_OF


@pytest.mark.parametrize("name", NUMPY_OF)
def test_tritons_client_has_the_same_names(name: str) -> None:
    assert DataType.Value(TRITON_OF[name])
    if name == BF16:  # their client has a type for it, numpy has not
        assert NUMPY_OF[name].itemsize == 2
        assert KSERVE_OF_NUMPY[NUMPY_OF[name]] == "UINT16"
    else:
        assert np.dtype(triton_to_np_dtype(name)) == NUMPY_OF[name]
        assert KSERVE_OF_NUMPY[NUMPY_OF[name]] == name


@pytest.mark.parametrize("name", sorted(set(NUMPY_OF) - {"BYTES", BF16}))
def test_onnx_runtime_has_the_same_names(name: str) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.zeros(1, NUMPY_OF[name]))
    assert KSERVE_OF_ONNX[value.data_type()] == name
