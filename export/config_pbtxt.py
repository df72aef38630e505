"""config.pbtxt: the model as Triton describes it, in the text format of tritonclient's own message."""

from collections.abc import Collection, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInput, ModelOutput

from artifact.dtypes import TRITON_OF
from artifact.repository import CONFIG, ArtifactError, read_text
from artifact.spec import OPTIONAL_INPUTS, TensorSpec
from export.errors import ExportError

# Fields that every export writes anew; the others of an existing config.pbtxt are its operator's and are kept.
EXPORTED = ("name", "platform", "backend", "max_batch_size", "input", "output")


def read_config(model: Path) -> ModelConfig:
    """The config.pbtxt in a model's folder; an empty message if there is none.

    Raises:
        ExportError: it cannot be read.
    """
    try:
        return text_format.Parse(read_text(model / CONFIG) or "", ModelConfig())
    except (ArtifactError, ValueError, text_format.ParseError) as error:
        raise ExportError(f"the {CONFIG} of {model.name} cannot be read: {error}") from None


def require_compatible(config: ModelConfig, files: Collection[str], max_batch_size: int) -> None:
    """Checks what is kept of an existing config.pbtxt against the version to export, which has `files`.

    Raises:
        ExportError: an exported generator cannot be served with it.
    """
    scheduling = config.WhichOneof("scheduling_choice")
    preferred = max(config.dynamic_batching.preferred_batch_size, default=0)
    if scheduling in ("sequence_batching", "ensemble_scheduling"):
        raise ExportError(f"{CONFIG}: {scheduling} does not apply to a generator; remove it")
    if preferred > max_batch_size:
        raise ExportError(
            f"{CONFIG}: preferred_batch_size {preferred} exceeds this export's batches of {max_batch_size}"
        )
    if config.default_model_filename and config.default_model_filename not in files:
        raise ExportError(
            f"{CONFIG}: default_model_filename {config.default_model_filename} is not among this export's files, "
            f"{', '.join(files)}"
        )


def config_pbtxt(
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
    existing: ModelConfig | None = None,
) -> str:
    """The text for a model with these tensors.

    It keeps how the `existing` config queues, places and versions the model; without one, the model batches
    dynamically.
    """
    config = ModelConfig()
    if existing is not None:
        config.CopyFrom(existing)
    if not config.ListFields():
        config.dynamic_batching.SetInParent()
    for field in EXPORTED:
        config.ClearField(field)
    config.MergeFrom(
        ModelConfig(name=name, platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=max_batch_size)
    )
    for tensor in inputs:
        _declare(config.input.add(optional=tensor.name in OPTIONAL_INPUTS), tensor)
    for tensor in outputs:
        _declare(config.output.add(), tensor)
    return str(text_format.MessageToString(config))


def _declare(entry: ModelInput | ModelOutput, tensor: TensorSpec) -> None:
    """Fills in an entry. Triton accepts no empty `dims`: one value per item (a label) is (N, 1) there, (N,) in the
    graph."""
    entry.name = tensor.name
    entry.data_type = DataType.Value(TRITON_OF[tensor.dtype])
    entry.dims.extend(tensor.shape or (1,))
    if not tensor.shape:
        entry.reshape.SetInParent()
