"""config.pbtxt: read, completed from the graph, and checked against it."""

import logging
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import (
    DataType,
    ModelConfig,
    ModelInput,
    ModelOutput,
    ModelVersionPolicy,
)

from artifact.dtypes import TRITON_OF
from artifact.repository import CONFIG, ArtifactError, is_inside, read_text
from artifact.spec import ATTRIBUTES, REFERENCE, REFERENCE_GIVEN, Spec, Task, TensorSpec
from server.engines.base import Engine
from server.errors import NotServing
from server.repository.checksums import verify_checksums
from server.repository.config_fields import check_fields
from server.repository.declared import check_dims, check_reshape, graph_dims
from server.repository.ensemble_config import PLATFORM, check_ensemble, is_ensemble
from server.repository.metric_config import read_buckets, read_tags
from server.repository.queue_policy import check_batching
from server.repository.session_options import read_tuning

# Triton's default for a model with a batch axis whose config has no size.
AUTO_MAX_BATCH_SIZE = 4
# In place of the size that a config leaves to the graph.
AUTO_SIZE = -(1 << 31)
# Above it a size is a mistake: no queue holds such a batch.
MAX_BATCH_SIZE = 1 << 20

# Triton's name for the folder of configs that a setting chooses from.
NAMED_CONFIGS = "configs"

# Triton's names for what runs a graph: the backend of each platform.
ONNX_PLATFORM = "onnxruntime_onnx"
PLAN_PLATFORM = "tensorrt_plan"
_DEFAULTS = "only noise, truncation and w of an export have one"
BACKEND_OF = {ONNX_PLATFORM: "onnxruntime", PLAN_PLATFORM: "tensorrt"}

# The field in the text of a config; comments are from # on.
_SIZE = re.compile(r"^[^#]*?\bmax_batch_size\s*:", re.MULTILINE)

log = logging.getLogger(__name__)


def read_config(folder: Path, name: str | None = None) -> ModelConfig | None:
    """The model's configs/NAME.pbtxt if it has one, else its config.pbtxt, None if it has neither. Reasons call both
    config.pbtxt.

    Raises:
        NotServing: it cannot be parsed, or requests something that is not supported.
    """
    try:
        text = None if name is None else read_text(folder / NAMED_CONFIGS / f"{name}.pbtxt")
        if text is not None:
            log.info("config chosen", extra={"fields": {"model": folder.name, "file": f"{NAMED_CONFIGS}/{name}.pbtxt"}})
        else:
            text = read_text(folder / CONFIG)
    except ArtifactError as error:
        raise NotServing(str(error)) from None
    if text is None:
        return None
    try:
        config = text_format.Parse(text, ModelConfig())
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise NotServing(f"{CONFIG}: {error}") from None
    leave_size(config, is_stated=_SIZE.search(text) is not None)
    check_config(config, folder)
    return config


def leave_size(config: ModelConfig, is_stated: bool) -> None:
    """Leaves max_batch_size to the graph, as Triton does, if the config states neither it nor any tensor.

    `is_stated`: whether its text has the field, which is lost when it is parsed: 0 is no batch axis.

    Raises:
        NotServing: it states what stands for that.
    """
    if config.max_batch_size == AUTO_SIZE:
        raise NotServing(f"{CONFIG}: max_batch_size {AUTO_SIZE}: must be 0 to {MAX_BATCH_SIZE}")
    if not (is_stated or config.input or config.output or is_ensemble(config)):
        config.max_batch_size = AUTO_SIZE


def check_config(config: ModelConfig, folder: Path) -> None:
    """Checks what can be checked without the graph. Blocks; on any thread.

    Raises:
        NotServing: it requests something that is not supported, or the folder's files are not what it says.
    """
    if config.name and config.name != folder.name:
        raise NotServing(f"{CONFIG}: name {config.name!r} differs from its folder {folder.name!r}")
    for requested, supported in ((config.backend, BACKEND_OF.values()), (config.platform, (*BACKEND_OF, PLATFORM))):
        if requested and requested not in supported:
            raise NotServing(f"{CONFIG}: backend {requested!r} is not supported; {' and '.join(supported)} are")
    if config.backend and BACKEND_OF.get(config.platform, config.backend) != config.backend:
        raise NotServing(f"{CONFIG}: backend {config.backend!r} does not run platform {config.platform!r}")
    check_fields(config)
    if is_ensemble(config):
        check_ensemble(config)
    size = AUTO_MAX_BATCH_SIZE if config.max_batch_size == AUTO_SIZE else config.max_batch_size
    if not 0 <= size <= MAX_BATCH_SIZE:
        raise NotServing(f"{CONFIG}: max_batch_size {size}: must be 0 to {MAX_BATCH_SIZE}")
    if config.default_model_filename and not is_inside(config.default_model_filename):
        named = config.default_model_filename
        raise NotServing(f"{CONFIG}: default_model_filename {named!r}: must be a file in the version's folder")
    check_batching(config.dynamic_batching, size)
    read_tuning(config)
    read_tags(config)
    read_buckets(config)
    for entry in (*config.input, *config.output):
        check_dims(entry)
    for output in config.output:
        _check_label_file(folder, output.label_filename)
    verify_checksums(config, folder)


def read_labels(config: ModelConfig, folder: Path) -> dict[str, list[str]]:
    """The lines of each output's `label_filename` in the model's folder, by output: the labels of its indices.

    Raises:
        NotServing: one is no text.
    """
    try:
        return {
            output.name: (read_text(folder / output.label_filename) or "").splitlines()
            for output in config.output
            if output.label_filename
        }
    except ArtifactError as error:
        raise NotServing(f"{CONFIG}: label_filename: {error}") from None


def _check_label_file(folder: Path, name: str) -> None:
    if name and (not is_inside(name) or not (folder / name).is_file()):
        raise NotServing(f"{CONFIG}: label_filename {name!r} is not a file in the model's folder")


@dataclass(frozen=True)
class VersionChoice:
    """Which of the versions on disk are served: `count` of `versions`, the newest first.

    `is_newest`: the newest that can be; else each of them was asked for.
    """

    versions: Sequence[int]
    count: int
    is_newest: bool


def choose_versions(config: ModelConfig | None, present: Sequence[int]) -> VersionChoice:
    """What the config's version policy selects of the versions on disk. Without one: the newest."""
    policy = ModelVersionPolicy() if config is None else config.version_policy
    named = policy.WhichOneof("policy_choice")
    if named in ("all", "specific"):
        chosen = sorted(set(present) if named == "all" else set(present) & set(policy.specific.versions), reverse=True)
        return VersionChoice(chosen, len(chosen), is_newest=False)
    newest = max(1, policy.latest.num_versions)
    return VersionChoice(sorted(present, reverse=True), min(newest, len(present)), is_newest=True)


def complete(
    config: ModelConfig | None,
    name: str,
    engine: Engine,
    platform: str,
    max_batch_size: int,
    optional: Container[str] = (),
) -> ModelConfig:
    """The config as the model is served: the file's, with names, sizes and tensors filled in from the graph.

    `platform`: what runs it, in place of the file's: Triton's name. `optional`: inputs that a request may leave out.

    Raises:
        NotServing: the file names a tensor, dtype, shape or default that the model does not have.
    """
    full = ModelConfig()
    if config is not None:
        full.CopyFrom(config)
    full.name = name
    full.backend = BACKEND_OF[platform]
    full.platform = platform
    full.max_batch_size = max_batch_size
    check_batching(full.dynamic_batching, max_batch_size)
    for field, tensors in (("input", engine.inputs), ("output", engine.outputs)):
        entries = getattr(full, field)
        found = {tensor.name: tensor for tensor in tensors}
        for entry in entries:
            hint = _axis_hint(len(graph_dims(entry)), found.get(entry.name), max_batch_size)
            _check_entry(entry.name, DataType.Name(entry.data_type), graph_dims(entry), found, hint=hint)
            check_reshape(entry)
            if not entry.dims and not entry.HasField("reshape"):
                _declare(entry, found[entry.name])
        named = {entry.name for entry in entries}
        if len(named) < len(entries):
            raise NotServing(f"{CONFIG}: {field}: {', '.join(sorted(named))}, one of them more than once")
        for tensor in tensors:
            if tensor.name not in named and (field == "input" or not named):
                _declare(entries.add(name=tensor.name, data_type=_triton_type(tensor)), tensor)
    for entry in full.input:
        if entry.optional and entry.name not in optional:
            raise NotServing(f"{CONFIG}: input {entry.name!r} is optional, but has no default; {_DEFAULTS}")
        entry.optional = entry.name in optional
    return full


def check_spec(spec: Spec, engine: Engine) -> None:
    """Compares the manifest's tensors with what follows from its other fields, and with the graph's.

    Raises:
        NotServing: they differ.
    """
    _check_image(spec)
    promised = _inputs_of(spec)
    for tensor in spec.inputs:
        if tensor not in promised and (spec.task.draws or tensor is not spec.inputs[0]):
            what = f"{tensor.name!r} is {tensor.dtype} {list(tensor.shape)}"
            raise NotServing(f"manifest.json: input {what}, which does not follow from its other fields")
    for tensor in (*promised, *engine.inputs):
        if tensor.name not in {declared.name for declared in spec.inputs}:
            raise NotServing(f"manifest.json: input {tensor.name!r} is missing")
    for tensors, found in ((spec.inputs, engine.inputs), (spec.outputs, engine.outputs)):
        graph = {tensor.name: tensor for tensor in found}
        for tensor in tensors:
            hint = _batch_hint(tensor, graph.get(tensor.name))
            _check_entry(tensor.name, f"TYPE_{tensor.dtype}", tensor.shape, graph, "manifest.json", hint)


def _check_image(spec: Spec) -> None:
    """Checks that images can be made with the manifest's numbers."""
    gives = () if spec.task is Task.ENCODER else spec.outputs[:1]
    images = gives if spec.task.draws else (*spec.inputs[:1], *gives)
    channel = -1 if spec.tensors == "uint8" else 0
    if len(images) < (1 if spec.task.draws or spec.task is Task.ENCODER else 2) or any(
        len(tensor.shape) != 3 or tensor.shape[channel] < 1 for tensor in images
    ):
        raise NotServing("manifest.json: inputs and outputs: the image has no 3 axes of which the channels are fixed")
    tile = spec.tile
    if tile is not None and (tile.size_px - 2 * tile.overlap_px) // tile.multiple_px < 1:
        what = f"size_px {tile.size_px}, overlap_px {tile.overlap_px}, multiple_px {tile.multiple_px}"
        raise NotServing(f"manifest.json: tile of {what}: nothing of a tile is left without its overlap")


def _inputs_of(spec: Spec) -> tuple[TensorSpec, ...]:
    """The inputs of a generator of that manifest; of the others what they take beside the image."""
    if not spec.task.draws:
        return _beside_image(spec)
    inputs = [TensorSpec("latent", "FP32", (spec.latent_size,))]
    if spec.labels:
        inputs.append(TensorSpec("label", "INT64", ()))
    if spec.noise_size:
        inputs.append(TensorSpec("noise", "FP32", (spec.noise_size,)))
    if spec.truncation_default is not None:
        inputs.append(TensorSpec("truncation_psi", "FP32", ()))
    if spec.w_shape is not None:
        inputs += [TensorSpec("w", "FP32", spec.w_shape), TensorSpec("w_given", "FP32", ())]
    if spec.takes_transform:
        inputs.append(TensorSpec("transform", "FP32", (3,)))
    return tuple(inputs)


def _beside_image(spec: Spec) -> tuple[TensorSpec, ...]:
    """Attributes, or a domain and a style in it."""
    declared = {tensor.name: tensor for tensor in spec.inputs}
    inputs = []
    if spec.labels:
        attributes = TensorSpec(ATTRIBUTES, "FP32", (len(spec.labels),))
        inputs.append(TensorSpec("label", "INT64", ()) if "label" in declared else attributes)
    if spec.latent_size:
        inputs.append(TensorSpec("latent", "FP32", (spec.latent_size,)))
    reference = declared.get(REFERENCE)
    if reference is not None:
        height, width, _ = (*reference.shape, 0, 0, 0)[:3]
        inputs.append(TensorSpec(REFERENCE, "UINT8", (max(1, height), max(1, width), spec.image_shape[2])))
    if reference is not None and spec.latent_size:
        inputs.append(TensorSpec(REFERENCE_GIVEN, "FP32", ()))
    return tuple(inputs)


def _triton_type(tensor: TensorSpec) -> int:
    return int(DataType.Value(TRITON_OF[tensor.dtype]))


def _declare(entry: ModelInput | ModelOutput, tensor: TensorSpec) -> None:
    """Fills in the dims of a tensor that no config names. Triton has no empty `dims`: one value per item is [1]."""
    entry.dims.extend(tensor.shape or (1,))
    if not tensor.shape:
        entry.reshape.SetInParent()


def _check_entry(
    name: str, dtype: str, shape: tuple[int, ...], graph: dict[str, TensorSpec], file_name: str = CONFIG, hint: str = ""
) -> None:
    found = graph.get(name)
    if found is None:
        raise NotServing(f"{file_name}: tensor {name!r} is not in the graph, which has {', '.join(sorted(graph))}")
    if dtype != DataType.Name(_triton_type(found)):
        raise NotServing(f"{file_name}: tensor {name!r} is {dtype}, TYPE_{found.dtype} in the graph")
    fits = len(shape) == len(found.shape) and all(
        a == b or -1 in (a, b) for a, b in zip(shape, found.shape, strict=True)
    )
    if not fits:
        dims = f"{file_name}: tensor {name!r} has dims {list(shape)}, {list(found.shape)} in the graph"
        raise NotServing(f"{dims}{hint}")


def _batch_hint(tensor: TensorSpec, found: TensorSpec | None) -> str:
    """What to change if a graph that has a manifest is served as one without a batch axis."""
    if found is None or found.shape[1:] != tensor.shape or not found.shape:
        return ""
    size = f": {found.shape[0]}" if found.shape[0] > 0 else ""
    return f"; its first axis is the batch: set max_batch_size{size} in {CONFIG}"


def _axis_hint(axes: int, found: TensorSpec | None, max_batch_size: int) -> str:
    """What to change if a tensor has one axis more or fewer than the graph's, which may be the batch axis."""
    difference = 0 if found is None else len(found.shape) - axes
    if difference == 1 and not max_batch_size:
        return "; if its first axis is the batch, set max_batch_size, else name it in dims"
    if difference == -1 and max_batch_size:
        return "; dims are without the batch axis: leave it out, or set max_batch_size: 0 if the graph has none"
    return ""
