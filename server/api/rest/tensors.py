"""JSON and the binary tensor data extension <-> messages of ModelInfer, by the rules of KServe v2 over HTTP.

Numbers in JSON become raw contents, so that the servicer reads every request in one way.
"""

import math
import reprlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from artifact.dtypes import NUMPY_OF
from server.api.infer_answer import InferAnswer, Raw
from server.api.rest.call import read_json
from server.api.rest.fields import are_numbers, check_length, check_text, set_choice
from server.api.shared_memory import REGION
from server.errors import ImageTooLarge, InvalidRequest

LENGTH_HEADER = "inference-header-content-length"
# Data types that JSON cannot carry, as in Triton.
ONLY_BINARY = ("FP16", "BF16")
# Characters of a value in a JSON text, at most, with its comma.
_JSON_CHARS = {"BOOL": 6, "UINT8": 4, "INT8": 5, "UINT16": 6, "INT16": 7, "UINT32": 11, "INT32": 12, "FP32": 16}
_MAX_JSON_CHARS = 26
_REQUEST_KEYS = ("id", "inputs", "model_name", "outputs", "parameters")
_INPUT_KEYS = ("data", "datatype", "name", "parameters", "shape")
_OUTPUT_KEYS = ("name", "parameters")


@dataclass(frozen=True)
class Form:
    """How the caller wants outputs: `binary` by name, and `by_default` for the others."""

    by_default: bool = False
    binary: Mapping[str, bool] | None = None

    def is_binary(self, name: str) -> bool:
        """Whether this output follows the JSON as bytes."""
        return (self.binary or {}).get(name, self.by_default)


def read_header_length(text: str | None, body: bytes) -> int | None:
    """How many bytes of the body are JSON, before the tensors' bytes; None: all.

    Raises:
        InvalidRequest: not a number, or more than the body has.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) > len(body):
        what = f"header {LENGTH_HEADER}: {text[:30]!r}"
        raise InvalidRequest(f"{what} is not a number of bytes up to the body's {len(body)}")
    return int(text)


def read_request(body: bytes, header_length: int | None, name: str, version: str, limit: int) -> tuple[Any, Form]:
    """The message for a request with a JSON header, and the form of its answer. Pure; any thread.

    Args:
        header_length: of the JSON; bytes of tensors follow it.
        limit: bytes of memory that JSON may become (max_message_bytes).

    Raises:
        InvalidRequest: not what the protocol says; the text names the field.
        ImageTooLarge: more JSON than the limit allows.
    """
    found = _fields("request", read_json(body if header_length is None else body[:header_length], limit), _REQUEST_KEYS)
    if found.get("model_name", name) != name:
        raise InvalidRequest(f"model_name: {reprlib.repr(found['model_name'])}, the address names {name!r}")
    request = service_pb2.ModelInferRequest(
        model_name=name, model_version=version, id=check_text("id", found.get("id", ""))
    )
    parameters = _mapping("parameters", found.get("parameters", {}))
    by_default = _flag("binary_data_output", parameters)
    _set_parameters(request.parameters, parameters, ("binary_data_output",))
    at = len(body) if header_length is None else header_length
    for given in _objects("inputs", found.get("inputs", [])):
        at = _read_input(request, given, body, at)
    if at != len(body):
        raise InvalidRequest(f"{len(body) - at} bytes are left behind those of the inputs")
    binary = {}
    for each in _objects("outputs", found.get("outputs", [])):
        given = _fields("output", each, _OUTPUT_KEYS)
        output = request.outputs.add(name=check_text("output name", given.get("name")))
        parameters = _mapping(f"parameters of output {output.name!r}", given.get("parameters", {}))
        if "binary_data" in parameters:
            binary[output.name] = _flag("binary_data", parameters)
        _set_parameters(output.parameters, parameters, ("binary_data",))
    return request, Form(by_default, binary)


def read_raw_request(body: bytes, inputs: Sequence[Any], name: str, version: str) -> tuple[Any, Form]:
    """The message for a body that is nothing but the bytes of a model's only input: Triton's raw binary request.

    Args:
        inputs: of the model's metadata. Of several free sizes the first is the batch, which is 1 then.

    Raises:
        InvalidRequest: the model has several inputs, or one whose shape the number of bytes does not tell.
    """
    if len(inputs) != 1:
        raise InvalidRequest(f"a raw binary request needs a model of one input; {name!r} has {len(inputs)}")
    tensor = inputs[0]
    shape = [*tensor.shape]
    if tensor.datatype == "BYTES":
        shape, raw = [1] * len(shape), struct.pack("<I", len(body)) + body
    else:
        raw = body
        free = [axis for axis, size in enumerate(shape) if size < 0]
        if len(free) > 1 and free[0] == 0:
            shape[0] = 1
            del free[0]
        if len(free) > 1:
            raise InvalidRequest(f"a raw binary request: the shape {shape} of {tensor.name!r} has several free sizes")
        each = math.prod(size for size in shape if size >= 0) * NUMPY_OF[tensor.datatype].itemsize
        if free:
            shape[free[0]] = len(body) // max(1, each)
    request = service_pb2.ModelInferRequest(model_name=name, model_version=version)
    request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
    request.raw_input_contents.append(raw)
    return request, Form(by_default=True)


def write_answer(answer: InferAnswer, form: Form, limit: int) -> tuple[list[Raw], dict[str, str]]:
    """The body's parts and its headers, for an answer of ModelInfer. Pure; any thread.

    Raises:
        InvalidRequest: an output of a data type that JSON cannot carry.
        ImageTooLarge: the JSON would be longer than `limit` bytes (max_message_bytes).
    """
    outputs: list[dict[str, Any]] = []
    binary: list[Raw] = []
    nbytes = 0
    for tensor, raw in zip(answer.head.outputs, answer.raws, strict=True):
        output: dict[str, Any] = {
            "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape),
        }  # fmt: skip
        if REGION in tensor.parameters:
            pass  # Triton's C++ client reads every output that has parameters as one with binary_data_size
        elif form.is_binary(tensor.name):
            output["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            nbytes += math.prod(tensor.shape) * _JSON_CHARS.get(tensor.datatype, _MAX_JSON_CHARS)
            _check_json(tensor, nbytes, limit)
            output["data"] = _values(tensor, raw)
        outputs.append(output)
    said = answer.head
    head: dict[str, Any] = {"model_name": said.model_name, "model_version": said.model_version}
    if said.id:
        head["id"] = said.id
    if said.parameters:
        head["parameters"] = {key: _parameter(value) for key, value in said.parameters.items()}
    text = orjson.dumps({**head, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return [text, *binary], {LENGTH_HEADER: str(len(text))} if binary else {}


def _check_json(tensor: Any, nbytes: int, limit: int) -> None:
    if tensor.datatype in ONLY_BINARY:
        raise InvalidRequest(
            f"output {tensor.name!r}: JSON cannot carry {tensor.datatype}; request it with binary_data"
        )
    if nbytes > limit:
        raise ImageTooLarge(
            f"output {tensor.name!r}: JSON of up to {nbytes} bytes, at most {limit} (max_message_bytes); request it "
            "with binary_data"
        )


def _values(tensor: Any, raw: Raw) -> Any:
    """An output's values, row-major, for a JSON array."""
    if tensor.datatype != "BYTES":
        return np.frombuffer(raw, NUMPY_OF[tensor.datatype])
    try:
        return [value.decode() for value in deserialize_bytes_tensor(bytes(raw))]
    except UnicodeDecodeError:
        text = f"output {tensor.name!r}: its bytes are not UTF-8, as JSON needs them; request it with binary_data"
        raise InvalidRequest(text) from None


def _read_input(request: Any, given: dict[str, Any], body: bytes, at: int) -> int:
    """Adds an input to the request; `at`: where its bytes begin in the body. Returns where they end."""
    given = _fields("input", given, _INPUT_KEYS)
    name = check_text("input name", given.get("name"))
    datatype = check_text(f"datatype of input {name!r}", given.get("datatype"))
    shape = given.get("shape")
    if not isinstance(shape, list) or not all(_is_integer(size) and 0 <= size < 1 << 63 for size in shape):
        raise InvalidRequest(f"input {name!r}: shape must be an array of sizes, got {reprlib.repr(shape)}")
    parameters = _mapping(f"parameters of input {name!r}", given.get("parameters", {}))
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    _set_parameters(tensor.parameters, parameters, ("binary_data_size",))
    size = parameters.get("binary_data_size")
    sources = [
        what
        for what, is_given in (
            ("data", "data" in given),
            ("binary_data_size", size is not None),
            ("shared_memory_region", "shared_memory_region" in parameters),
        )
        if is_given
    ]
    if len(sources) != 1:
        what = " and ".join(sources) if sources else "neither data, binary_data_size nor shared_memory_region"
        raise InvalidRequest(f"input {name!r} has {what}; must be one of the three")
    if size is not None:
        if not _is_integer(size) or not 0 <= size <= len(body) - at:
            text = (
                f"input {name!r}: binary_data_size is {reprlib.repr(size)}, {len(body) - at} bytes are left in the body"
            )
            raise InvalidRequest(text)
        request.raw_input_contents.append(body[at : at + size])
        return at + int(size)
    if "data" in given:
        request.raw_input_contents.append(_raw(name, datatype, shape, given["data"]))
    return at


def _raw(name: str, datatype: str, shape: Sequence[int], values: Any) -> bytes:
    """The raw contents for an array of JSON, flat or nested."""
    dtype = NUMPY_OF.get(datatype)
    if dtype is None:
        raise InvalidRequest(f"input {name!r}: datatype {datatype!r} is unknown")
    if datatype in ONLY_BINARY:
        raise InvalidRequest(f"input {name!r}: JSON cannot carry {datatype}; send it with binary_data_size")
    if not isinstance(values, list):
        raise InvalidRequest(f"input {name!r}: data must be an array, got {reprlib.repr(values)}")
    if datatype != "BYTES" and not are_numbers(values):
        raise InvalidRequest(f"input {name!r}: data has values that are not {datatype}")
    try:
        array = np.array(values, dtype=object if datatype == "BYTES" else None)
    except ValueError:
        raise InvalidRequest(f"input {name!r}: data has rows of different lengths") from None
    if array.size != math.prod(shape):
        raise InvalidRequest(f"input {name!r}: {array.size} elements, shape {list(shape)} needs {math.prod(shape)}")
    if datatype == "BYTES":
        return _strings(name, array)
    if array.dtype.kind == "f" and dtype.kind == "u":  # what numpy makes of numbers on both sides of 2**63
        array = _large_integers(array, values)
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if array.size and array.dtype.kind not in kinds:
        raise InvalidRequest(f"input {name!r}: data has values that are not {datatype}")
    if array.size and dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if array.min() < low or array.max() > high:
            raise InvalidRequest(f"input {name!r}: data has values outside {low}..{high} ({datatype})")
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(found).all():
        raise InvalidRequest(f"input {name!r}: data has values that {datatype} cannot hold")
    return found.tobytes()


def _large_integers(array: NDArray[Any], values: Any) -> NDArray[Any]:
    """The values as UINT64 if all are; else the array as it is."""
    exact = np.array(values, object)
    if all(type(value) is int and 0 <= value < 1 << 64 for value in exact.flat):
        return exact.astype(np.uint64)
    return array


def _strings(name: str, array: NDArray[Any]) -> bytes:
    parts = []
    for value in array.ravel():
        if not isinstance(value, str):
            raise InvalidRequest(f"input {name!r}: data has {reprlib.repr(value)}; BYTES are strings in JSON")
        encoded = value.encode()
        parts += [struct.pack("<I", len(encoded)), encoded]
    return b"".join(parts)


def _set_parameters(target: Any, given: Mapping[str, Any], not_sent: Sequence[str]) -> None:
    """Copies parameters into a message, but those that concern the form of the HTTP body."""
    for key, value in given.items():
        if check_length("name of a parameter", key) not in not_sent:
            if isinstance(value, str):
                check_length(f"parameter {key!r}", value)
            set_choice(target[key], f"parameter {key!r}", value)


def _parameter(value: Any) -> Any:
    return getattr(value, value.WhichOneof("parameter_choice") or "", None)


def _flag(key: str, parameters: Mapping[str, Any]) -> bool:
    value = parameters.get(key, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {key!r}: must be true or false, got {reprlib.repr(value)}")
    return value


def _mapping(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field}: must be an object, got {reprlib.repr(value)}")
    return value


def _objects(field: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidRequest(f"{field}: must be an array of objects, got {reprlib.repr(value)}")
    return value


def _fields(what: str, given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Those that are set: many clients write null for what they leave out."""
    for key in given:
        if key not in known:
            raise InvalidRequest(f"{what}: unknown field {key[:100]!r}; there are {', '.join(known)}")
    return {key: value for key, value in given.items() if value is not None}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
