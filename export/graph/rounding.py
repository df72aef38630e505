"""A half-precision graph computed in float32 and rounded after every node: what a GPU's tensor cores give.

ONNX Runtime's CPU provider computes float16 graphs in float32 and removes the casts between nodes, so that neither
rounding nor overflow shows, and it has no bfloat16 convolution at all.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph.half_precision import FORMATS, element_types


def simulate_rounding(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A float32 graph that computes what a graph from `to_half_precision` computes.

    Weights and results of nodes have only values that the format can represent. Products and sums within one node are
    float32, and their result is rounded once.
    """
    low = FORMATS[precision].element_type
    types = element_types(proto)
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    del graph.node[:], graph.value_info[:], graph.initializer[:]
    for tensor in proto.graph.initializer:
        if tensor.data_type == low:
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name)
        graph.initializer.append(tensor)
    for node in proto.graph.node:
        graph.node.extend(_with_rounded_outputs(node, types, low))
    onnx.checker.check_model(found, full_check=True)
    return found


def _with_rounded_outputs(node: onnx.NodeProto, types: dict[str, int], low: int) -> Iterator[onnx.NodeProto]:
    exact = onnx.NodeProto()
    exact.CopyFrom(node)
    for attribute in exact.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == low:
            attribute.i = TensorProto.FLOAT
    after = []
    for position, name in enumerate(node.output):
        if types.get(name) == low:
            exact.output[position] = f"{name}_exact"
            after.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_narrow"], to=low))
            after.append(helper.make_node("Cast", [f"{name}_narrow"], [name], to=TensorProto.FLOAT))
    yield exact
    yield from after
