"""Changes to a graph that keep what it computes: its nodes in order, inputs that get a fixed value."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.errors import ExportError

# Values of an input that is fixed; each one is stored in the graph.
MAX_FIXED = 1 << 22
FIXABLE = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL,
)  # fmt: skip


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Puts every node behind those that it needs, which converters to float16 forget to do; inner graphs too.

    Nodes that need each other stay at the end, for the checker to find.
    """
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                sort_nodes(inner)
    made = {name for node in graph.node for name in node.output if name}
    waiting: dict[str, list[int]] = {}
    missing = []
    for at, node in enumerate(graph.node):
        needed = _needed(node) & made
        missing.append(len(needed))
        for name in needed:
            waiting.setdefault(name, []).append(at)
    ready = [at for at, count in enumerate(missing) if not count]
    order: list[int] = []
    for at in ready:  # which grows
        order.append(at)
        for name in graph.node[at].output:
            for later in waiting.pop(name, ()):
                missing[later] -= 1
                if not missing[later]:
                    ready.append(later)
    if order == list(range(len(graph.node))):
        return
    nodes = [graph.node[at] for at in (*order, *(at for at, count in enumerate(missing) if count))]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _needed(node: onnx.NodeProto) -> set[str]:
    """Names that a node takes, also from inside its inner graphs."""
    found = set(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for one in inner.node:
                found |= _needed(one)
            found |= {value.name for value in inner.output}
    return found


def fix_inputs(proto: onnx.ModelProto, values: Mapping[str, float]) -> None:
    """Gives inputs a value, the same everywhere in them; free axes become 1.

    Raises:
        ExportError: no such input, or one that is no number.
    """
    inputs = {value.name: value for value in proto.graph.input}
    for name, number in values.items():
        if name not in inputs:
            raise ExportError(f"--fix {name}: the graph takes {_names(inputs)}")
        kind = inputs[name].type.tensor_type
        shape = [axis.dim_value if axis.dim_value > 0 else 1 for axis in kind.shape.dim]
        if kind.elem_type not in FIXABLE or math.prod(shape) > MAX_FIXED:
            what = f"{TensorProto.DataType.Name(kind.elem_type)} {tuple(shape)}"
            raise ExportError(f"--fix {name}: it is {what}; numbers are fixed, {MAX_FIXED} values at most")
        array = np.full(shape, number).astype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    kept = [value for value in proto.graph.input if value.name not in values]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)


def _names(names: Iterable[str]) -> str:
    return ", ".join(name[:80] for name in list(names)[:8]) or "nothing"
