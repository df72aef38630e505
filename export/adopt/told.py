"""The values of black and white, where the last operators of a graph tell: an activation or clip, and its scale."""

import math

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.adopt.read import constants_of
from export.adopt.roles import LEVELS, Range, Tensor

# What changes no value.
UNCHANGING = ("Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
BOUNDED = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0)}
# What a graph may end with; other bounds are no black and white.
USUAL: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), LEVELS)

Numbers = dict[str, float]


def told_range(proto: onnx.ModelProto, output: Tensor) -> Range | None:
    """The range of the values of an output; None if its type and its last operators do not tell."""
    if output.element_type == TensorProto.UINT8:
        return LEVELS
    numbers = _numbers(proto)
    producers = {name: node for node in proto.graph.node for name in node.output}
    gain, offset, name = 1.0, 0.0, output.name  # the output is gain * (the value of that name) + offset
    while (node := producers.get(name)) is not None:
        if bounds := BOUNDED.get(node.op_type) or _clipped(node, numbers):
            low, high = sorted(gain * bound + offset for bound in bounds)
            return next((one for one in USUAL if np.allclose(one, (low, high), rtol=0, atol=4e-3 * (high - low))), None)
        if (step := _step(node, numbers)) is None:
            return None
        name, by, plus = step
        gain, offset = gain * by, offset + gain * plus
    return None


def _numbers(proto: onnx.ModelProto) -> Numbers:
    """The constants of one value, by name."""
    reals = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    return {
        name: float(numpy_helper.to_array(tensor).flat[0])
        for name, tensor in constants_of(proto).items()
        if tensor.data_type in reals and math.prod(tensor.dims) == 1
    }


def _clipped(node: onnx.NodeProto, numbers: Numbers) -> Range | None:
    if node.op_type != "Clip":
        return None
    given = {one.name: one.f for one in node.attribute}  # before opset 11
    low, high = (
        numbers.get(node.input[at]) if len(node.input) > at else given.get(name)
        for at, name in ((1, "min"), (2, "max"))
    )
    return None if low is None or high is None or not low < high else (low, high)


def _step(node: onnx.NodeProto, numbers: Numbers) -> tuple[str, float, float] | None:
    """(input, gain, offset) of a node that gives gain * input + offset; None of other nodes."""
    if node.op_type in UNCHANGING:
        return node.input[0], 1.0, 0.0
    if len(node.input) != 2:
        return None
    first, second = (numbers.get(name) for name in node.input)
    if second is not None:
        steps = {"Mul": (second, 0.0), "Add": (1.0, second), "Sub": (1.0, -second)}
        steps |= {"Div": (1 / second, 0.0)} if second else {}
        return (node.input[0], *steps[node.op_type]) if node.op_type in steps else None
    if first is not None:
        steps = {"Mul": (first, 0.0), "Add": (1.0, first), "Sub": (-1.0, first)}
        return (node.input[1], *steps[node.op_type]) if node.op_type in steps else None
    return None
