"""Parameters of tensor and of load requests: those that Triton gives a meaning, each of the types that it may have."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from server.errors import InvalidRequest

_FINAL_RESPONSE = "triton_enable_empty_final_response"
# The types in which clients send them; the texts are Triton's.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    _FINAL_RESPONSE: ("bool_param",),
    "classification": ("int64_param",),
    "shared_memory_region": ("string_param",),
    "shared_memory_offset": ("int64_param",),
    "shared_memory_byte_size": ("int64_param",),
}
_FILE = "file:"
_OTHERS = ("int64_param", "bool_param", "string_param", "double_param")


class Queueing(NamedTuple):
    """How a request wants to wait: its priority, 1 is the highest, 0: the model's default; and its queue timeout in
    seconds, 0 for none."""

    priority: int
    timeout_s: float


NOT_STATED = Queueing(0, 0.0)


def read_queueing(parameters: Mapping[str, Any]) -> Queueing:
    """What a request's parameters say of the queue.

    Sequence parameters have no effect: as in Triton, a model that keeps no state answers each request by itself.
    Names that nobody knows are accepted; in Triton they are for the model, and a graph takes none.

    Raises:
        InvalidRequest: a parameter of another type, a negative priority, or an unknown name that is reserved.
    """
    priority, timeout_s = NOT_STATED
    for key, value in parameters.items():
        if key.startswith("triton_") and key != _FINAL_RESPONSE:
            raise InvalidRequest(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                f"starting with 'triton_' are allowed: {_FINAL_RESPONSE}; got {key!r}"
            )
        check_kind(key, value, *_KINDS.get(key, _OTHERS))
        if key == "priority":
            priority = int(getattr(value, value.WhichOneof("parameter_choice")))
            if priority < 0:
                raise InvalidRequest(f"invalid value for 'priority', expected value >= 0, got {priority}")
        elif key == "timeout":
            timeout_s = max(0, value.int64_param) / 1e6
    return Queueing(priority, timeout_s)


def read_load_parameters(parameters: Mapping[str, Any]) -> tuple[str | None, dict[str, bytes]]:
    """The config of a load request as JSON, None if it has none, and its files by path.

    Raises:
        InvalidRequest: an unknown parameter, or one of another type.
    """
    files: dict[str, bytes] = {}
    for key, value in parameters.items():
        is_file = key.startswith(_FILE)
        if key != "config" and not is_file:
            raise InvalidRequest(f"unrecognized load parameter {key!r}.")
        kind = "bytes_param" if is_file else "string_param"
        if value.WhichOneof("parameter_choice") != kind:
            raise InvalidRequest(f"invalid value type for load parameter {key!r}, expected {kind}.")
        if is_file:
            files[key.removeprefix(_FILE)] = value.bytes_param
    return parameters["config"].string_param if "config" in parameters else None, files


def check_tensor_parameters(what: str, parameters: Mapping[str, Any]) -> None:
    """Checks the types of the parameters of an input or output, `what`; unknown names are accepted.

    Raises:
        InvalidRequest: a parameter of another type.
    """
    for key, value in parameters.items():
        if key in _KINDS and value.WhichOneof("parameter_choice") not in _KINDS[key]:
            raise InvalidRequest(
                f"invalid value type for {key!r} parameter for tensor {what}, expected {_KINDS[key][0]}."
            )


def check_kind(key: str, value: Any, *kinds: str) -> None:
    """Checks that a parameter has one of these types, fields of InferParameter.

    Raises:
        InvalidRequest: it has another one, or none.
    """
    found = value.WhichOneof("parameter_choice")
    if found not in kinds:
        expected = " or ".join((", ".join(kinds[:-1]), kinds[-1])) if len(kinds) > 1 else kinds[0]
        raise InvalidRequest(f"invalid value type for {key!r} parameter, expected {expected}. It has {found or 'none'}")
