"""What config.pbtxt asks of ONNX Runtime's TensorRT, in Triton's words."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from server.errors import NotServing
from server.onnx_opening import Accelerator, read_accelerator


def accelerators(name: str, parameters: str = "") -> ModelConfig:
    entry = f'gpu_execution_accelerator {{ name: "{name}" {parameters} }}'
    return text_format.Parse(f"optimization {{ execution_accelerators {{ {entry} }} }}", ModelConfig())


def test_tritons_way_to_ask_for_tensorrt_is_read() -> None:
    assert read_accelerator(None) is None
    assert read_accelerator(ModelConfig()) is None
    assert read_accelerator(accelerators("tensorrt")) == Accelerator(None, None)
    asked = (
        'parameters { key: "precision_mode" value: "FP16" } parameters { key: "max_workspace_size_bytes" value: "64" }'
    )
    assert read_accelerator(accelerators("tensorrt", asked)) == Accelerator("fp16", 64)


@pytest.mark.parametrize(
    ("name", "key", "value", "reason"),
    [
        ("openvino", "", "", "gpu_execution_accelerator 'openvino' is not served here"),
        ("tensorrt", "precision_mode", "INT8", "precision_mode 'INT8' is not served here; FP32, FP16 are"),
        ("tensorrt", "max_workspace_size_bytes", "1g", "max_workspace_size_bytes '1g' is not a number of bytes"),
    ],
)
def test_what_an_accelerator_cannot_be_is_named(name: str, key: str, value: str, reason: str) -> None:
    parameters = f'parameters {{ key: "{key}" value: "{value}" }}' if key else ""
    with pytest.raises(NotServing, match=reason):
        read_accelerator(accelerators(name, parameters))
