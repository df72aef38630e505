"""Every field of config.pbtxt: honoured, refused, or without effect, which the log says once for each load.

docs/triton.md is made from this table, and a test holds that it has every field of Triton's message.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.errors import NotServing
from server.observability.triton_series import FIRST_RESPONSE
from server.repository.accelerators import check_accelerators, unused_parameters
from server.repository.marks import PARAMETER
from server.repository.metric_config import without_histogram
from server.repository.session_options import NAMES as SESSION_PARAMETERS


class Treatment(StrEnum):
    """What becomes of a field that a config sets."""

    HONOURED = "honoured"
    REFUSED = "refused"
    NO_EFFECT = "no effect"


class Field(NamedTuple):
    """One row: what becomes of the field, and how or why."""

    treatment: Treatment
    why: str


def _honoured(how: str = "") -> Field:
    return Field(Treatment.HONOURED, how)


def _refused(why: str) -> Field:
    return Field(Treatment.REFUSED, why)


def _no_effect(why: str) -> Field:
    return Field(Treatment.NO_EFFECT, why)


_TENSOR_FORMAT = "the engines take tensors in rows only"
_MEMORY = "engines choose by themselves what memory they copy through"

# Of the model's own parameters, those that are read (server/repository/cpu_options.py, marks.py, session_options.py).
PARAMETERS = ("cpu_engine", "cpu_precision", PARAMETER, *SESSION_PARAMETERS)

# By path; a row of a message is for all of its fields.
FIELDS: Mapping[str, Field] = {
    "name": _honoured("must be the folder's"),
    "platform": _honoured("`onnxruntime_onnx`, `tensorrt_plan` and `ensemble`; others are refused"),
    "backend": _honoured("`onnxruntime` and `tensorrt`; others are refused"),
    "runtime": _no_effect("the server brings its own engines"),
    "version_policy": _honoured("versions that it names and that are not there are logged, as in Triton"),
    "max_batch_size": _honoured(
        "0: no batch axis; in a config without it, `input` and `output`: 4 if every tensor's first axis is free, as in "
        "Triton (where 0 counts as absent), else 0"
    ),
    "input.name": _honoured(),
    "input.data_type": _honoured("must be the graph's"),
    "input.format": _honoured("returned by ModelConfig; as in Triton the server does nothing else with it"),
    "input.dims": _honoured("what requests must have"),
    "input.reshape": _honoured(),
    "input.is_shape_tensor": _refused("values that set shapes cannot be batched"),
    "input.allow_ragged_batch": _refused("the inputs of a batch have one shape; other shapes get a batch of their own"),
    "input.optional": _honoured("for inputs of an export that have a default; others are refused, ONNX has none"),
    "input.is_non_linear_format_io": _refused(_TENSOR_FORMAT),
    "output.name": _honoured("the outputs that replies have"),
    "output.data_type": _honoured("must be the graph's"),
    "output.dims": _honoured("what replies have"),
    "output.reshape": _honoured(),
    "output.label_filename": _honoured("labels of the classification extension, one a line"),
    "output.is_shape_tensor": _refused("values that set shapes cannot be batched"),
    "output.is_non_linear_format_io": _refused(_TENSOR_FORMAT),
    "batch_input": _refused("no graph gets inputs that the request does not have"),
    "batch_output": _refused("an output is split by its first axis"),
    "optimization.graph": _honoured("by ONNX Runtime on the CPU: level -1, 1 and 2 as in Triton; others are refused"),
    "optimization.priority": _no_effect("models on one device take turns"),
    "optimization.cuda": _no_effect("engines decide about CUDA graphs, and streams are their own"),
    "optimization.execution_accelerators.gpu_execution_accelerator": _honoured(
        "`tensorrt` with `precision_mode` (FP32, FP16) and `max_workspace_size_bytes`; profiles and caches are ours; "
        "`cuda`, whose parameters are settings here; others are refused"
    ),
    "optimization.execution_accelerators.cpu_execution_accelerator": _honoured(
        "`openvino`, as the parameter `cpu_engine`; others are refused"
    ),
    "optimization.input_pinned_memory": _no_effect(_MEMORY),
    "optimization.output_pinned_memory": _no_effect(_MEMORY),
    "optimization.gather_kernel_buffer_threshold": _no_effect(_MEMORY),
    "optimization.eager_batching": _no_effect("a batch is formed when a worker thread is free"),
    "dynamic_batching.preferred_batch_size": _honoured("1 to `max_batch_size`; others are refused"),
    "dynamic_batching.max_queue_delay_microseconds": _honoured(),
    "dynamic_batching.preserve_ordering": _no_effect(
        "a stream's replies always come in the order of its requests; calls that are made at once have none"
    ),
    "dynamic_batching.priority_levels": _honoured(
        "a higher level leaves first, whoever sent it; in a level clients take turns; at most 256"
    ),
    "dynamic_batching.default_priority_level": _honoured("of requests that state no priority"),
    "dynamic_batching.default_queue_policy": _honoured(),
    "dynamic_batching.priority_queue_policy": _honoured("in place of `default_queue_policy`, by level"),
    "sequence_batching": _refused("generators keep no state"),
    "ensemble_scheduling.max_inflight_requests": _no_effect(
        "each model answers a request once; memory is limited by `--max-held-bytes` before the first step"
    ),
    "ensemble_scheduling.step.model_name": _honoured("a model of this repository, or another ensemble"),
    "ensemble_scheduling.step.model_version": _honoured("-1 is the newest; 0 is refused"),
    "ensemble_scheduling.step.input_map": _honoured(),
    "ensemble_scheduling.step.output_map": _honoured(),
    "ensemble_scheduling.step.model_namespace": _refused("the repository has no namespaces"),
    "instance_group.name": _honoured("returned by ModelConfig"),
    "instance_group.kind": _honoured("all but KIND_MODEL"),
    "instance_group.count": _honoured(
        "on GPUs, at most 256; on the CPU worker threads run batches at once (`--threads`)"
    ),
    "instance_group.rate_limiter": _no_effect(
        "instances run as soon as their device is free, as in Triton without --rate-limit"
    ),
    "instance_group.gpus": _honoured(),
    "instance_group.secondary_devices": _refused("an instance has one device"),
    "instance_group.profile": _no_effect("an engine uses the profile that fits the shapes of a batch"),
    "instance_group.passive": _refused("an instance that runs nothing serves nobody"),
    "instance_group.host_policy": _no_effect("this server has no host policies"),
    "default_model_filename": _honoured("a file, or a folder with model.onnx in it, in the version's folder"),
    "cc_model_filenames": _refused("name one file in default_model_filename"),
    "metric_tags": _honoured("labels of the model's `nv_*` metrics; as in Triton their names begin with an underscore"),
    "parameters": _honoured(
        "`cpu_engine` and `cpu_precision` (docs/tuning.md); `mark` (docs/marking.md); "
        "by ONNX Runtime on the CPU those of Triton's backend: "
        + ", ".join(f"`{name}`" for name in SESSION_PARAMETERS)
        + "; others have no effect"
    ),
    "model_warmup": _honoured("random floats are in [0, 1); what is left after `--warmup-s` is logged and not run"),
    "model_operations": _refused("native code out of a repository is never loaded"),
    "model_transaction_policy.decoupled": _refused("a graph answers each request once"),
    "model_repository_agents": _honoured("`checksum` with MD5 (and SHA256); other agents are refused"),
    "response_cache.enable": _honoured("ModelInfer; in memory, up to `--response-cache-bytes`"),
    "model_metrics": _honoured(f"gives the model the histogram `{FIRST_RESPONSE}`; other families have no effect"),
}


def check_fields(config: ModelConfig) -> None:
    """Checks that the config requests nothing that it would not get and that would change results.

    Raises:
        NotServing: it sets a field that is refused, or an accelerator that is not here.
    """
    for path in set_fields(config):
        if FIELDS[path].treatment is Treatment.REFUSED:
            raise NotServing(f"{CONFIG}: {path} is not supported: {FIELDS[path].why}")
    _check_enums(config)
    check_accelerators(config)


def _check_enums(message: Message, prefix: str = "") -> None:
    """protobuf keeps numbers that are no value of a field's type."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if field.enum_type is not None and value not in field.enum_type.values_by_number:
            names = ", ".join(field.enum_type.values_by_name)
            raise NotServing(f"{CONFIG}: {path} {value} is not supported; there are {names}")
        if field.message_type is not None:
            for part in _parts(value):
                _check_enums(part, f"{path}.")


def without_effect(config: ModelConfig | None) -> Iterator[str]:
    """What the config sets to no effect, and why: one line for each field."""
    if config is not None:
        for path in dict.fromkeys(set_fields(config)):
            if FIELDS[path].treatment is Treatment.NO_EFFECT:
                yield f"{path}: {FIELDS[path].why}"
        if config.version_policy.HasField("latest") and not config.version_policy.latest.num_versions:
            yield "version_policy.latest.num_versions 0: the newest version is served"
        batching = config.dynamic_batching
        if not batching.priority_levels and (batching.default_priority_level or batching.priority_queue_policy):
            yield "dynamic_batching: default_priority_level, priority_queue_policy: there are no priority_levels"
        yield from without_histogram(config)
        if unread := sorted(set(config.parameters) - set(PARAMETERS)):
            yield f"parameters ({', '.join(unread)}): a graph takes none, and the settings say how engines run it"
        yield from unused_parameters(config)


def set_fields(message: Message, prefix: str = "") -> Iterator[str]:
    """The rows of what is set in a config, or in a message of it at `prefix`."""
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        if path in FIELDS:
            yield path
        else:
            for part in _parts(value):
                yield from set_fields(part, f"{path}.")


def _parts(value: Any) -> Iterator[Message]:
    """The messages of a field that is not scalar: one, or those of a list or map."""
    if isinstance(value, Message):
        yield value
    elif isinstance(value, Mapping):
        yield from (each for each in value.values() if isinstance(each, Message))
    else:
        yield from value
