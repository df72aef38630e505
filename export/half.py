"""float16 inside the graph, the same tensors at its borders.

Done on the ONNX graph, whose BatchNorm is folded already, so that its statistics lose nothing. The steps between levels
and the network's range stay float32: a float16 near 255 is a multiple of 1/8. (The converter that ships with ONNX
Runtime 1.27 leaves such mixed graphs with names assigned twice.)
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError

# What `export.wrapping` puts around a network, from the outside in.
AROUND = ("Cast", "Transpose", "Round", "Clip", "Add", "Mul")
# Inputs that the operator takes in float32 whatever the picture's type: roi and scales.
ALWAYS_FLOAT = {"Resize": (1, 2)}
LARGEST = float(np.finfo(np.float16).max)


def to_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 weights and activations inside.

    Raises:
        ExportError: a weight does not fit float16, or the converted graph is not valid.
    """
    types = _element_types(proto)
    outside = _around(proto.graph)
    half = onnx.ModelProto()
    half.CopyFrom(proto)
    graph = half.graph
    del graph.node[:], graph.value_info[:]
    names: dict[str, str] = {}  # a float32 value -> its float16 name, once there is one
    for node in proto.graph.node:
        if node.output[0] in outside:
            graph.node.extend(_back_to_float(node, names, types))
        else:
            graph.node.extend(_into_half(node, names, types, graph))
    graph.node.extend(_back_to_float_outputs(graph, names))
    _drop_unused(graph)
    try:
        onnx.checker.check_model(half, full_check=True)
    except Exception as error:  # the checker raises several kinds
        raise ExportError(f"float16 conversion failed: {str(error).splitlines()[0]}; try --precision fp32") from error
    return half


def _element_types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _around(graph: onnx.GraphProto) -> set[str]:
    """Values computed by what wrapping added, before and after the network; empty for a graph of float tensors."""
    producers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    found: set[str] = set()
    for output in graph.output:
        node = producers.get(output.name)
        while (
            output.type.tensor_type.elem_type == TensorProto.UINT8
            and node is not None
            and node.op_type in AROUND
            and all(name in constants for name in node.input[1:])
        ):
            found.add(node.output[0])
            node = producers.get(node.input[0])
    levels = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.node:
        if node.op_type in AROUND and node.input[0] in levels and all(name in constants for name in node.input[1:]):
            levels.add(node.output[0])
            found.add(node.output[0])
    return found


def _into_half(
    node: onnx.NodeProto, names: dict[str, str], types: dict[str, int], graph: onnx.GraphProto
) -> Iterable[onnx.NodeProto]:
    """The node on float16 values, after the casts and converted weights that it is the first to need."""
    moved = onnx.NodeProto()
    moved.CopyFrom(node)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for position, name in enumerate(node.input):
        if types.get(name) != TensorProto.FLOAT or position in ALWAYS_FLOAT.get(node.op_type, ()):
            continue
        if name not in names:
            names[name] = f"{name}_half"
            if name in weights:
                graph.initializer.append(_half_weight(weights[name], names[name]))
            else:
                yield helper.make_node("Cast", [name], [names[name]], to=TensorProto.FLOAT16)
        moved.input[position] = names[name]
    for position, name in enumerate(node.output):
        if types.get(name) == TensorProto.FLOAT:
            names[name] = moved.output[position] = f"{name}_half"
    for attribute in moved.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
    yield moved


def _half_weight(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    array = numpy_helper.to_array(tensor)
    if array.size and float(np.abs(array).max()) > LARGEST:
        raise ExportError(f"weight {tensor.name} reaches {np.abs(array).max():.3g}, float16 ends at {LARGEST:g}")
    return numpy_helper.from_array(array.astype(np.float16), name)


def _back_to_float(node: onnx.NodeProto, names: dict[str, str], types: dict[str, int]) -> Iterable[onnx.NodeProto]:
    """A node of the wrapping, after a cast of the network's float16 value that it reads."""
    name = node.input[0]
    if name in names and names[name].endswith("_half") and types.get(name) == TensorProto.FLOAT:
        yield helper.make_node("Cast", [names.pop(name)], [name], to=TensorProto.FLOAT)
    yield node


def _back_to_float_outputs(graph: onnx.GraphProto, names: dict[str, str]) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [names[output.name]], [output.name], to=TensorProto.FLOAT)
        for output in graph.output
        if output.name in names
    ]


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
