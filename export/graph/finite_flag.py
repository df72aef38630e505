"""An output that says for each row whether the picture is finite, where the cast to uint8 would hide that it is not."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from artifact.spec import FINITE
from export.graph.half_precision import element_types

# What turns an infinity into a value that looks honest.
SATURATING = ("Clip", "HardSigmoid", "Relu", "Sigmoid", "Tanh")
# What stands between the network's last sum and the graph's output, and makes nothing infinite that was not.
PASSING = (*SATURATING, "Add", "Cast", "DepthToSpace", "Flatten", "Mul", "Reshape", "Round", "Transpose", "Unsqueeze")
# The largest float32 is 3.4e38. Values up to that of float16 reach it in no picture: it would have 5e33 of them.
LIMIT = np.float32(3e38)


def flagged(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with one output more, `finite` (N,) bool: no value of the row's picture is NaN or infinite.

    Looks at what goes into the last saturating operator, so that an overflow drawn as plain white is told too. One sum
    over values that are there anyway: NaN and infinity stay in it. What overflowed earlier and was saturated inside the
    network (a ReLU of minus infinity) is not seen.
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
    rows = graph.output[0].type.tensor_type.shape.dim[0]
    graph.output.append(helper.make_tensor_value_info(FINITE, TensorProto.BOOL, [rows.dim_param or rows.dim_value]))
    onnx.checker.check_model(found, full_check=True)
    return found


def _before_saturation(graph: onnx.GraphProto) -> str:
    """The input of the innermost saturating operator at the graph's end, or its output where there is none."""
    producers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    name = found = graph.output[0].name
    while name in producers:
        node = producers[name]
        if node.op_type not in PASSING or not all(other in constants or not other for other in node.input[1:]):
            break
        name = node.input[0]
        if node.op_type in SATURATING:
            found = name
    return found
