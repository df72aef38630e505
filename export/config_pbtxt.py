"""config.pbtxt: the model as Triton describes it, in the text format of tritonclient's own message."""

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from artifact.spec import OPTIONAL_INPUTS, Spec, TensorSpec
from export.errors import ExportError

TYPES = {"UINT8": "TYPE_UINT8", "INT64": "TYPE_INT64", "FP16": "TYPE_FP16", "FP32": "TYPE_FP32"}


# What a version's spec decides; the rest of a config.pbtxt that is there already is its operator's.
OURS = ("name", "platform", "backend", "max_batch_size", "input", "output")


def config_pbtxt(name: str, spec: Spec, max_batch_size: int, before: str = "") -> str:
    """The text for a model with that spec, batched dynamically unless `before`, the text that it takes the place of,
    says how it is queued, placed and versioned.

    Raises:
        ExportError: `before` cannot be read.
    """
    try:
        config = text_format.Parse(before, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ExportError(f"the config.pbtxt of {name} cannot be read: {error}") from None
    for field in OURS:
        config.ClearField(field)
    config.MergeFrom(
        model_config_pb2.ModelConfig(
            name=name, platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=max_batch_size
        )
    )
    for tensor in spec.inputs:
        _declare(config.input.add(optional=tensor.name in OPTIONAL_INPUTS), tensor)
    for tensor in spec.outputs:
        _declare(config.output.add(), tensor)
    if not before:
        config.dynamic_batching.SetInParent()
    return str(text_format.MessageToString(config))


def _declare(
    entry: "model_config_pb2.ModelInput | model_config_pb2.ModelOutput",  # type: ignore[name-defined, unused-ignore]
    tensor: TensorSpec,
) -> None:
    """Fills in an entry. Triton takes no empty `dims`: a value per row (a label) is (N, 1) there, (N,) in the graph."""
    entry.name = tensor.name
    entry.data_type = model_config_pb2.DataType.Value(TYPES[tensor.dtype])
    entry.dims.extend(tensor.shape or (1,))
    if not tensor.shape:
        entry.reshape.SetInParent()
