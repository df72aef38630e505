"""KServe v2 tensors <-> arrays, by the raw-contents rules of the protocol."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from artifact.dtypes import NUMPY_OF
from server.api.infer_answer import InferAnswer, Raw, raw_of
from server.api.kserve_parameters import check_tensor_parameters
from server.api.shared_memory import BYTE_SIZE, OFFSET, REGION, Place, SharedMemory
from server.engines.strings import from_contents, from_raw, to_raw
from server.errors import ImageTooLarge, InvalidRequest
from server.repository.declared import DeclaredTensor
from server.repository.defaults import NO_OPTIONAL_INPUTS, OptionalInputs

# Typed values are converted so many at a time: other threads get their turn between two pieces.
_PIECE = 4096
# Beyond so many, converting takes more than a millisecond, which is work for another thread.
_MANY_VALUES = 1 << 14
# As do so many bytes that are copied out of shared memory, or looked at one by one.
_LARGE_BYTES = 1 << 22

NO_PLACES: Mapping[str, Place] = {}

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
    expected: Sequence[DeclaredTensor],
    max_batch_size: int,
    defaults: OptionalInputs = NO_OPTIONAL_INPUTS,
    limit_bytes: int = 1 << 31,
    places: Mapping[str, Place] = NO_PLACES,
) -> tuple[dict[str, NDArray[Any]], int]:
    """The request's arrays in the graph's order and shapes, and their items (1 for a model without a batch axis).

    Absent inputs that have a default are filled in, so that requests with and without them share batches.
    `limit_bytes`: of strings once they are read. `places`: of the inputs that are in shared memory, by name.

    Raises:
        InvalidRequest: a tensor missing, unknown, given twice, or of another dtype, shape, batch or byte size.
        ImageTooLarge: more strings than the limit allows.
    """
    raws = request.raw_input_contents
    sent = len(request.inputs) - len(places)
    if raws and len(raws) != sent:
        raise InvalidRequest(f"{sent} inputs, {len(raws)} raw_input_contents: must be equal")
    left = iter(raws)
    specs = {spec.name: spec for spec in expected}
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in request.inputs:
        spec = specs.get(tensor.name)
        what = f"input {tensor.name!r} for model {request.model_name!r}"
        if spec is None:
            raise InvalidRequest(f"unexpected inference {what}, which accepts {', '.join(specs)}")
        if tensor.name in arrays:
            raise InvalidRequest(f"input {tensor.name!r} already exists in request: it is given twice")
        place = places.get(tensor.name)
        shape = _graph_shape(what, tensor, spec, max_batch_size)
        if (raws or place is not None) and tensor.HasField("contents"):
            raise InvalidRequest(f"contents field must not be specified when using raw_input_contents for {what[6:]}")
        if place is not None and place.byte_size > limit_bytes:
            raise ImageTooLarge(f"{what}: {place.byte_size} bytes, at most {limit_bytes} (max_message_bytes)")
        if raws or place is not None:
            raw = next(left) if place is None else place.read()
            array = _from_raw(what, spec.dtype, shape, raw, limit_bytes)
        else:
            array = _from_contents(what, tensor)
        arrays[tensor.name] = array.reshape(shape)
    missing = _missing(arrays, specs, defaults if max_batch_size else NO_OPTIONAL_INPUTS, request.model_name)
    if not max_batch_size:
        return arrays, 1
    found = {len(array) for array in arrays.values()}
    if len(found) != 1:
        raise InvalidRequest(f"inputs differ in their first axis: {sorted(found)}; it is the batch and must be equal")
    items = found.pop()
    if missing:
        arrays |= {name: defaults.fill(name, arrays, items) for name in missing}
    return {name: arrays[name] for name in specs}, items


def _missing(
    arrays: Mapping[str, NDArray[Any]], specs: Mapping[str, DeclaredTensor], defaults: OptionalInputs, model: str
) -> list[str]:
    """The inputs that were left out.

    Raises:
        InvalidRequest: one of them has no default.
    """
    missing = [name for name in specs if name not in arrays]
    required = [name for name in missing if name not in defaults.names]
    if required:
        least = len(specs) - len(defaults.names)
        count = f"number of inputs between {least} and {len(specs)}" if defaults.names else f"{least} inputs"
        raise InvalidRequest(
            f"expected {count} but got {len(arrays)} inputs for model {model!r}. Got input(s) "
            f"{_listed(arrays)}, but missing required input(s) {_listed(required)}. Please provide all required "
            "input(s)."
        )
    return missing


def find_places(tensors: Iterable[Any], kind: Literal["input", "output"], memory: SharedMemory) -> Mapping[str, Place]:
    """Of the tensors of a request that are in shared memory, by name; the parameters of all are checked.

    Raises:
        RequestError: see `SharedMemory.place`.
    """
    places: dict[str, Place] = {}
    for tensor in tensors:
        if tensor.parameters:
            check_tensor_parameters(repr(tensor.name), tensor.parameters)
            place = memory.place(f"{kind} {tensor.name!r}", tensor.parameters)
            if place is not None:
                places[tensor.name] = place
    return places or NO_PLACES


def is_large(request: service_pb2.ModelInferRequest, places: Mapping[str, Place] = NO_PLACES) -> bool:
    """Whether to read the inputs in another thread than the event loop's."""
    if places and _are_large(places):
        return True
    if raws := request.raw_input_contents:
        long = sum(map(len, raws)) > 4 * _MANY_VALUES
        return long and any(tensor.datatype == "BYTES" for tensor in request.inputs)
    fields = ((tensor, _TYPED_FIELD.get(tensor.datatype)) for tensor in request.inputs)
    return sum(len(getattr(tensor.contents, field)) for tensor, field in fields if field) > _MANY_VALUES


def are_large(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether to look at every value in another thread than the event loop's."""
    return sum([array.nbytes for array in arrays.values()]) > _LARGE_BYTES


def is_large_answer(outputs: Mapping[str, NDArray[Any]], places: Mapping[str, Place]) -> bool:
    """Whether to write the outputs in another thread than the event loop's."""
    if places and _are_large(places):
        return True
    return sum([array.size for array in outputs.values() if array.dtype == np.object_]) > _MANY_VALUES


def _are_large(places: Mapping[str, Place]) -> bool:
    return any(place.region.is_slow for place in places.values()) or (
        sum(place.byte_size for place in places.values()) > _LARGE_BYTES
    )


def write_outputs(
    answer: InferAnswer,
    wanted: Iterable[str],
    expected: Mapping[str, DeclaredTensor],
    outputs: Mapping[str, NDArray[Any]],
    max_batch_size: int,
    places: Mapping[str, Place] = NO_PLACES,
) -> None:
    """Adds the outputs `wanted`. Always raw, as tritonclient reads nothing else; those of `places` in shared memory.

    Raises:
        InvalidRequest: a place in shared memory is too small.
    """
    batch_axes = 1 if max_batch_size else 0
    for name in wanted:
        array, tensor = outputs[name], expected[name]
        shape = array.shape[:batch_axes] + tensor.to_wire(array.shape[batch_axes:])
        output = answer.head.outputs.add(name=name, datatype=tensor.dtype, shape=shape)
        raw: Raw = to_raw(array.flat) if tensor.dtype == "BYTES" else raw_of(array)
        if (place := places.get(name)) is not None:
            place.write(raw)
            output.parameters[REGION].string_param = place.region.name
            output.parameters[OFFSET].int64_param = place.offset
            output.parameters[BYTE_SIZE].int64_param = len(raw)
            raw = b""
        answer.raws.append(raw)


def check_outputs(
    wanted: Sequence[service_pb2.ModelInferRequest.InferRequestedOutputTensor],
    expected: Mapping[str, DeclaredTensor],
    model: str,
) -> None:
    """Rejects outputs that the model does not have or a form that is not offered, before anything runs.

    Raises:
        InvalidRequest: no such output, or one requested twice.
    """
    names = {tensor.name for tensor in wanted}
    if len(wanted) > len(names):
        raise InvalidRequest(f"{len(wanted)} outputs requested, {len(names)} of them different: each only once")
    for tensor in wanted:
        if tensor.name not in expected:
            has = f"which has {', '.join(expected)}"
            raise InvalidRequest(f"unexpected inference output {tensor.name!r} for model {model!r}, {has}")


def _graph_shape(
    what: str,
    tensor: service_pb2.ModelInferRequest.InferInputTensor,
    spec: DeclaredTensor,
    max_batch_size: int,
) -> tuple[int, ...]:
    """The shape that the graph gets, batch axis included.

    Raises:
        InvalidRequest: the model does not accept the tensor's dtype, shape or batch.
    """
    if tensor.datatype != spec.dtype:
        name, _, model = what.partition(" for ")
        raise InvalidRequest(f"inference {name} data-type is {tensor.datatype!r}, but {model} expects {spec.dtype!r}")
    sent = tuple(tensor.shape)
    batch, axes = (sent[:1], sent[1:]) if max_batch_size else ((), sent)
    shape = spec.to_graph(axes)
    if shape is None or (max_batch_size and not batch):
        accepted = [-1, *spec.dims] if max_batch_size else list(spec.dims)
        note = "; the first axis is the batch" if max_batch_size else ""
        raise InvalidRequest(f"unexpected shape for {what}. Expected {_axes(accepted)}, got {_axes(sent)}{note}")
    if max_batch_size and not 1 <= batch[0] <= max_batch_size:
        model = what.rpartition(" for model ")[2]
        raise InvalidRequest(
            f"inference request batch-size must be <= {max_batch_size} for {model} and at least 1, but input "
            f"{tensor.name!r} has batch {batch[0]} (max_batch_size)"
        )
    return batch + shape


def _axes(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _listed(names: Iterable[str]) -> str:
    return f"[{','.join(map(repr, names))}]"


def _from_raw(what: str, datatype: str, shape: Sequence[int], raw: bytes, limit_bytes: int) -> NDArray[Any]:
    count = math.prod(shape)
    if datatype == "BYTES":
        return from_raw(what, raw, count, limit_bytes)
    dtype = NUMPY_OF[datatype]
    if len(raw) != (expected := count * dtype.itemsize):
        raise InvalidRequest(f"input byte size mismatch for {what}. Expected {expected}, got {len(raw)}")
    return np.frombuffer(raw, dtype)


def _from_contents(what: str, tensor: service_pb2.ModelInferRequest.InferInputTensor) -> NDArray[Any]:
    field = _TYPED_FIELD.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(f"input {tensor.name!r}: {tensor.datatype} travels only as raw_input_contents")
    others = [found.name for found, _ in tensor.contents.ListFields() if found.name != field]
    if others:
        raise InvalidRequest(f"input {tensor.name!r}: has {', '.join(others)}; {tensor.datatype} is in {field}")
    values = getattr(tensor.contents, field)
    expected = math.prod(tensor.shape)
    if len(values) != expected:
        raise InvalidRequest(
            f"input {tensor.name!r}: {len(values)} elements, shape {list(tensor.shape)} needs {expected}"
        )
    if tensor.datatype == "BYTES":
        return from_contents(what, values)
    array = np.empty(expected, NUMPY_OF[tensor.datatype])
    try:
        for start in range(0, expected, _PIECE):
            array[start : start + _PIECE] = np.array(values[start : start + _PIECE], array.dtype)
    except OverflowError as error:
        raise InvalidRequest(f"input {tensor.name!r}: {error}") from None
    return array
