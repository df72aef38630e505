"""KServe v2 tensors <-> arrays, by the raw-contents rules of the protocol."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from artifact.dtypes import NUMPY_OF
from artifact.spec import TensorSpec
from server.errors import InvalidRequest, Unsupported
from server.repository.defaults import NO_OPTIONAL_INPUTS, OptionalInputs

SHARED_MEMORY = "shared_memory_region"

# Typed values are converted so many at a time: other threads get their turn between two pieces.
_PIECE = 4096
# Beyond so many, converting takes more than a millisecond, which is work for another thread.
_MANY_VALUES = 1 << 14

# Which repeated field of InferTensorContents carries a datatype. FP16 travels only raw.
_TYPED_FIELD = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_inputs(
    request: service_pb2.ModelInferRequest,
    expected: Sequence[TensorSpec],
    max_batch_size: int,
    defaults: OptionalInputs = NO_OPTIONAL_INPUTS,
) -> tuple[dict[str, NDArray[Any]], int]:
    """The request's arrays in the graph's order, and their items (1 for a model without a batch axis).

    Absent inputs that have a default are filled in, so that requests with and without them share batches.

    Raises:
        InvalidRequest: a tensor missing, unknown, given twice, or of another dtype, shape, batch or byte size.
    """
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidRequest(f"{len(request.inputs)} inputs, {len(raws)} raw_input_contents: must be equal")
    specs = {spec.name: spec for spec in expected}
    arrays: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(request.inputs):
        spec = specs.get(tensor.name)
        if spec is None or tensor.name in arrays:
            what = "is not an input of the model" if spec is None else "is given twice"
            raise InvalidRequest(f"input {tensor.name!r} {what}, which accepts {', '.join(specs)}")
        if SHARED_MEMORY in tensor.parameters:
            raise Unsupported(f"input {tensor.name!r}: shared memory is not offered; send raw_input_contents")
        _check_shape(tensor, spec, max_batch_size)
        if raws and tensor.HasField("contents"):
            raise InvalidRequest(f"input {tensor.name!r}: contents must be empty when raw_input_contents is used")
        array = _from_raw(tensor, raws[index]) if raws else _from_contents(tensor)
        arrays[tensor.name] = array.reshape(_graph_shape(tensor, spec))
    missing = [name for name in specs if name not in arrays]
    for name in missing:
        if name not in defaults.names or not max_batch_size:
            raise InvalidRequest(f"input {name!r} is missing")
    if not max_batch_size:
        return arrays, 1
    found = {len(array) for array in arrays.values()}
    if len(found) != 1:
        raise InvalidRequest(f"inputs differ in their first axis: {sorted(found)}; it is the batch and must be equal")
    items = found.pop()
    if missing:
        arrays |= {name: defaults.fill(name, arrays, items) for name in missing}
    return {name: arrays[name] for name in specs}, items


def is_large(request: service_pb2.ModelInferRequest) -> bool:
    """Whether to read the inputs in another thread than the event loop's."""
    if request.raw_input_contents:
        return False
    fields = ((tensor, _TYPED_FIELD.get(tensor.datatype)) for tensor in request.inputs)
    return sum(len(getattr(tensor.contents, field)) for tensor, field in fields if field) > _MANY_VALUES


def write_outputs(
    response: service_pb2.ModelInferResponse,
    wanted: Sequence[service_pb2.ModelInferRequest.InferRequestedOutputTensor],
    expected: Mapping[str, TensorSpec],
    outputs: Mapping[str, NDArray[Any]],
) -> None:
    """Adds the requested outputs, all if none is named. Always raw, as tritonclient reads nothing else."""
    for name in [tensor.name for tensor in wanted] or expected:
        array = outputs[name]
        dtype = expected[name].dtype
        response.outputs.add(name=name, datatype=dtype, shape=array.shape)
        response.raw_output_contents.append(_raw(array, dtype))


def check_outputs(
    wanted: Sequence[service_pb2.ModelInferRequest.InferRequestedOutputTensor], expected: Mapping[str, TensorSpec]
) -> None:
    """Rejects outputs that the model does not have or a form that is not offered, before anything runs.

    Raises:
        InvalidRequest: no such output, or one requested twice.
        Unsupported: classification or shared memory.
    """
    names = {tensor.name for tensor in wanted}
    if len(wanted) > len(names):
        raise InvalidRequest(f"{len(wanted)} outputs requested, {len(names)} of them different: each only once")
    for tensor in wanted:
        if tensor.name not in expected:
            raise InvalidRequest(f"output {tensor.name!r} is not one of the model's: {', '.join(expected)}")
        if tensor.parameters["classification"].int64_param if "classification" in tensor.parameters else 0:
            raise Unsupported(f"output {tensor.name!r}: classification is not offered")
        if SHARED_MEMORY in tensor.parameters:
            raise Unsupported(f"output {tensor.name!r}: shared memory is not offered")


def _graph_shape(tensor: service_pb2.ModelInferRequest.InferInputTensor, spec: TensorSpec) -> tuple[int, ...]:
    """The shape that the graph gets: a value per item, which Triton's clients send as (N, 1), is (N,) there."""
    shape = tuple(tensor.shape)
    return shape[:1] if spec.shape == () and shape[1:] == (1,) else shape


def _check_shape(tensor: service_pb2.ModelInferRequest.InferInputTensor, spec: TensorSpec, max_batch_size: int) -> None:
    if tensor.datatype != spec.dtype:
        raise InvalidRequest(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}, the model accepts {spec.dtype!r}"
        )
    shape = list(_graph_shape(tensor, spec))
    axes = shape[1:] if max_batch_size else shape
    fits = len(shape) == len(spec.shape) + bool(max_batch_size) and all(
        size > 0 and limit in (-1, size) for size, limit in zip(axes, spec.shape, strict=True)
    )
    if not fits:
        accepted = ["batch", *spec.shape] if max_batch_size else list(spec.shape)
        raise InvalidRequest(f"input {tensor.name!r} has shape {shape}, the model accepts {accepted}")
    if max_batch_size and not 1 <= shape[0] <= max_batch_size:
        raise InvalidRequest(
            f"input {tensor.name!r} has batch {shape[0]}, the model accepts 1..{max_batch_size} (max_batch_size)"
        )


def _from_raw(tensor: service_pb2.ModelInferRequest.InferInputTensor, raw: bytes) -> NDArray[Any]:
    dtype = NUMPY_OF[tensor.datatype]
    shape = tuple(tensor.shape)
    if tensor.datatype == "BYTES":
        return _strings(tensor, raw)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"input {tensor.name!r}: {len(raw)} raw bytes, shape {list(shape)} {tensor.datatype} needs {expected}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def _from_contents(tensor: service_pb2.ModelInferRequest.InferInputTensor) -> NDArray[Any]:
    field = _TYPED_FIELD.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(f"input {tensor.name!r}: {tensor.datatype} travels only as raw_input_contents")
    values = getattr(tensor.contents, field)
    expected = math.prod(tensor.shape)
    if len(values) != expected:
        raise InvalidRequest(
            f"input {tensor.name!r}: {len(values)} elements, shape {list(tensor.shape)} needs {expected}"
        )
    array = np.empty(expected, NUMPY_OF[tensor.datatype])
    try:
        for start in range(0, expected, _PIECE):
            array[start : start + _PIECE] = np.array(values[start : start + _PIECE], array.dtype)
    except OverflowError as error:
        raise InvalidRequest(f"input {tensor.name!r}: {error}") from None
    return array.reshape(tuple(tensor.shape))


def _strings(tensor: service_pb2.ModelInferRequest.InferInputTensor, raw: bytes) -> NDArray[Any]:
    try:
        strings: NDArray[Any] = deserialize_bytes_tensor(raw)
    except struct.error as error:
        raise InvalidRequest(f"input {tensor.name!r}: not length-prefixed bytes: {error}") from None
    expected = math.prod(tensor.shape)
    if strings.size != expected:
        raise InvalidRequest(
            f"input {tensor.name!r}: {strings.size} elements, shape {list(tensor.shape)} needs {expected}"
        )
    return strings.reshape(tuple(tensor.shape))


def _raw(array: NDArray[Any], dtype: str) -> bytes:
    if dtype == "BYTES":
        packed = serialize_byte_tensor(array)
        return bytes(packed[0]) if packed.size else b""
    return array.tobytes()
