"""An output that says for each item whether its image is finite, which the cast to uint8 would hide."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact.spec import FINITE
from export.graph.half_precision import element_types

# Operators that turn an infinity into an ordinary value.
SATURATING = ("Clip", "HardSigmoid", "Relu", "Sigmoid", "Tanh")
# Operators between the network's last sum and the graph's output, which make nothing infinite that was not.
PASS_THROUGH = (
    *SATURATING, "Add", "Cast", "DepthToSpace", "Flatten", "Mul", "Reshape", "Round", "Transpose", "Unsqueeze",
)  # fmt: skip
# The largest float32 is 3.4e38. No image has values up to float16's maximum that sum to this: it would take 5e33.
LIMIT = np.float32(3e38)


def add_finite_flag(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph with one more output, `finite` (N,) bool: no value of the item's image is NaN or infinite.

    It looks at what goes into the last saturating operator, so that an overflow that becomes plain white is found too.
    One sum over existing values is enough: NaN and infinity stay in it. What overflowed earlier and was saturated
    inside the network (a ReLU of minus infinity) is not found.
    """
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    value = _before_saturation(graph)
    names = [f"{FINITE}_{step}" for step in ("float", "flat", "sum", "size")]
    if element_types(proto)[value] == TensorProto.FLOAT:
        names[0] = value
    else:
        graph.node.append(helper.make_node("Cast", [value], [names[0]], to=TensorProto.FLOAT))
    constants = {f"{FINITE}_axis": np.array([1], dtype=np.int64), f"{FINITE}_limit": LIMIT}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    axis, limit = constants
    graph.node.extend(
        [
            helper.make_node("Flatten", [names[0]], [names[1]], axis=1),
            helper.make_node("ReduceSum", [names[1], axis], [names[2]], keepdims=0),
            helper.make_node("Abs", [names[2]], [names[3]]),
            helper.make_node("Less", [names[3], limit], [FINITE]),
        ]
    )
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    graph.output.append(helper.make_tensor_value_info(FINITE, TensorProto.BOOL, [batch.dim_param or batch.dim_value]))
    onnx.checker.check_model(found, full_check=True)
    return found


def _before_saturation(graph: onnx.GraphProto) -> str:
    """The input of the innermost saturating operator at the graph's end; without one, the graph's output."""
    producers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    name = found = graph.output[0].name
    while name in producers:
        node = producers[name]
        if node.op_type not in PASS_THROUGH or not all(other in constants or not other for other in node.input[1:]):
            break
        name = node.input[0]
        if node.op_type in SATURATING:
            found = name
    return found
