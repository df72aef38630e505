"""ONNX graphs as OpenVINO reads them, and what is known of them before they are compiled."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvino
from openvino.frontend import FrontEndManager

from artifact.spec import TensorSpec
from server.engines.openvino.transposed import rewrite_transposed
from server.errors import StartError

# OpenVINO's element types by the names that requests use. It computes FP64 in float32, so that is not among them.
KSERVE_OF_OPENVINO: Mapping[str, str] = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
}
MAX_ERROR = 300


@functools.cache
def core() -> openvino.Core:
    """OpenVINO's entry point: one for the process, since each loads the devices anew."""
    return openvino.Core()


def read_graph(path: Path) -> openvino.Model:
    """The graph in the file, its transposed convolutions rewritten.

    Raises:
        StartError: OpenVINO cannot read it, has no such operator, or does not check what requests put into it.
    """
    try:
        # Not Core.read_model, which shows the file to every front end, those for pickles included. Without mapping the
        # file's weights into memory, where another process that truncates the file would end this one.
        frontend = FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(path), False))
    except Exception as error:  # OpenVINO's exceptions share no public base
        raise StartError(f"{path}: OpenVINO cannot read it: {one_line(error)}") from error
    for node in model.get_ordered_ops():
        if unchecked := _unchecked(node):
            raise StartError(f"{path}: {unchecked}, which OpenVINO does not check; --engine onnx does")
    rewrite_transposed(model)
    return model


def _unchecked(node: openvino.Node) -> str:
    """What of an operator OpenVINO 2026.4 takes from a request unseen: it reads memory that is not the tensor's."""
    if node.get_type_name() in ("GatherND", "ScatterElementsUpdate"):
        return f"{node.get_friendly_name()!r} is {node.get_type_name()} with indices from anywhere"
    if node.get_type_name() in ("If", "Loop", "TensorIterator"):
        return f"{node.get_friendly_name()!r} has a graph inside"
    if node.get_type_name() != "MatMul":
        return ""
    flipped = [node.get_attributes()[name] for name in ("transpose_a", "transpose_b")]
    for this, inner in ((0, -2 if flipped[0] else -1), (1, -1 if flipped[1] else -2)):
        shape = node.input_value(this).get_partial_shape()
        free = not shape.rank.is_dynamic and shape[max(inner, -len(shape))].is_dynamic
        # A product with weights takes as many values from the other side as there are weights, whatever its shape.
        if free and _is_constant(node.input_value(1 - this).get_node()):
            return f"{node.get_friendly_name()!r} is a product with weights over a free axis"
    return ""


def _is_constant(node: openvino.Node) -> bool:
    """Whether no input of the graph has an influence on it."""
    seen: set[str] = set()
    left = [node]
    while left:
        found = left.pop()
        if found.get_type_name() == "Parameter":
            return False
        if found.get_name() not in seen:
            seen.add(found.get_name())
            left += [value.get_node() for value in found.input_values()]
    return True


def specs(ports: Sequence[Any], batched: bool) -> tuple[TensorSpec, ...]:
    """A graph's inputs or outputs, without the batch axis if `batched`.

    Raises:
        StartError: one is of a type that OpenVINO does not compute in, or has an unknown number of axes.
    """
    return tuple(_spec(port, batched) for port in ports)


def _spec(port: Any, batched: bool) -> TensorSpec:
    name, kind, shape = port.any_name, port.element_type.get_type_name(), port.partial_shape
    if kind not in KSERVE_OF_OPENVINO:
        raise StartError(f"{name!r} is {kind}, which OpenVINO does not run; --engine onnx does")
    if shape.rank.is_dynamic:
        raise StartError(f"{name!r} has an unknown number of axes, which OpenVINO does not run; --engine onnx does")
    axes = tuple(axis.get_length() if axis.is_static else -1 for axis in shape)
    return TensorSpec(name, KSERVE_OF_OPENVINO[kind], axes[1 if batched else 0 :])


def one_line(error: Exception) -> str:
    """OpenVINO's text without the lines that say where in its source it was raised."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(said)[:MAX_ERROR] or type(error).__name__
