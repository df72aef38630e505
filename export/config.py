"""config.pbtxt: the model as Triton describes it, in the text format of tritonclient's own message."""

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from models.spec import Spec, TensorSpec

TYPES = {"UINT8": "TYPE_UINT8", "INT64": "TYPE_INT64", "FP16": "TYPE_FP16", "FP32": "TYPE_FP32"}


def config_pbtxt(name: str, spec: Spec, max_batch_size: int) -> str:
    """The text for a model with that spec, batched dynamically.

    Where an input has no axis but the batch (a label), inputs are left out: Triton takes no empty `dims`, and reads
    them from the graph when none is declared, as our server does.
    """
    config = model_config_pb2.ModelConfig(
        name=name, platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=max_batch_size
    )
    for tensor in spec.inputs if all(tensor.shape for tensor in spec.inputs) else ():
        _declare(config.input.add(), tensor)
    for tensor in spec.outputs:
        _declare(config.output.add(), tensor)
    config.dynamic_batching.SetInParent()
    return str(text_format.MessageToString(config))


def _declare(
    entry: "model_config_pb2.ModelInput | model_config_pb2.ModelOutput",  # type: ignore[name-defined, unused-ignore]
    tensor: TensorSpec,
) -> None:
    entry.name = tensor.name
    entry.data_type = model_config_pb2.DataType.Value(TYPES[tensor.dtype])
    entry.dims.extend(tensor.shape)
