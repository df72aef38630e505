"""float16 or bfloat16 inside the graph, the same inputs and outputs.

Done on the ONNX graph, in which BatchNorm is folded already, so that its statistics lose no precision. The scaling
between uint8 levels and the network's range stays float32: a float16 near 255 is a multiple of 1/8. (The converter that
ships with ONNX Runtime 1.27 leaves such mixed graphs with names assigned twice.)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError

# Operators that `export.graph.pixels` puts around a network, from the outside in.
PIXEL_OPERATORS = ("Cast", "Transpose", "Round", "Clip", "Add", "Mul")
# Inputs that are float32 whatever the image's type: roi and scales.
FLOAT32_INPUTS = {"Resize": (1, 2)}
# Operators that ONNX allows in the format and TensorRT for RTX 1.7 does not build.
NOT_BUILT_BY_TENSORRT = {"fp16": (), "bf16": ("ConvTranspose",)}
# Sums of squares, as far as the root, stay float32 as in torch's autocast: float16 ends at the square of 256, and
# StyleGAN2's styles go beyond.
SQUARING = ("Pow", "ReduceL2", "ReduceSumSquare")
SUMMING = ("Add", "Clip", "Gemm", "MatMul", "Max", "Reciprocal", "ReduceMean", "ReduceSum", "Sqrt", "Unsqueeze")


@dataclass(frozen=True)
class Format:
    """A floating-point format of 16 bits. `opset`: the first in which convolutions support it."""

    name: str
    element_type: int
    largest: float
    opset: int


FORMATS = {
    "fp16": Format("float16", TensorProto.FLOAT16, 65504.0, 18),
    "bf16": Format("bfloat16", TensorProto.BFLOAT16, 3.3895314e38, 22),
}


def to_half_precision(proto: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy of the graph with weights and activations of `precision` inside. Operators without it stay float32.

    Raises:
        ExportError: a weight does not fit, or the converted graph is not valid.
    """
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    form = FORMATS[precision]
    opset = next(entry for entry in found.opset_import if entry.domain == "")
    # No operator of a generator means anything else in the later opset, which adds types (and values of attributes).
    opset.version = max(opset.version, form.opset)
    del found.graph.node[:], found.graph.value_info[:]
    conversion = _Conversion(proto, precision, opset.version)
    for node in proto.graph.node:
        found.graph.node.extend(conversion.convert(node))
    for output in proto.graph.output:
        found.graph.node.extend(conversion.as_float(output.name))
    weights = (*proto.graph.initializer, *conversion.weights)
    used = {name for node in found.graph.node for name in node.input}
    del found.graph.initializer[:]
    found.graph.initializer.extend(tensor for tensor in weights if tensor.name in used)
    try:
        onnx.checker.check_model(found, full_check=True)
    except Exception as error:  # the checker raises several kinds
        raise ExportError(
            f"{form.name} conversion failed: {str(error).splitlines()[0]}; try --precision fp32"
        ) from error
    return found


def pixel_values(graph: onnx.GraphProto) -> set[str]:
    """Values computed by the scaling before and after the network; empty for a graph of float tensors."""
    producers = {node.output[0]: node for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    found: set[str] = set()
    for output in graph.output:
        node = producers.get(output.name)
        while (
            output.type.tensor_type.elem_type == TensorProto.UINT8
            and node is not None
            and node.op_type in PIXEL_OPERATORS
            and all(name in constants for name in node.input[1:])
        ):
            found.add(node.output[0])
            node = producers.get(node.input[0])
    levels = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.node:
        if (
            node.op_type in PIXEL_OPERATORS
            and node.input[0] in levels
            and all(name in constants for name in node.input[1:])
        ):
            levels.add(node.output[0])
            found.add(node.output[0])
    return found


class _Conversion:
    """The state of a conversion of nodes one by one, in the graph's order."""

    def __init__(self, proto: onnx.ModelProto, precision: str, opset: int) -> None:
        self.weights: list[onnx.TensorProto] = []  # the converted ones
        self._precision = precision
        self._form = FORMATS[precision]
        self._opset = opset
        self._types = element_types(proto)
        self._outside = pixel_values(proto.graph)
        self._originals = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._names: dict[str, str] = {}  # a float32 value -> its name in the format, once there is one
        self._squares: set[str] = set()  # values that are sums of squares
        self._floats = {*self._originals, *(value.name for value in proto.graph.input)}  # what exists in float32

    def convert(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node, preceded by the casts that it is the first to need."""
        floats = any(self._types.get(name) == TensorProto.FLOAT for name in node.input)
        if not floats or node.output[0] in self._outside or self._sums_squares(node) or not self._is_supported(node):
            for name in node.input:
                yield from self.as_float(name)
            self._floats.update(node.output)
            yield node
            return
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        for position, name in enumerate(node.input):
            if self._types.get(name) != TensorProto.FLOAT:
                continue
            if position in FLOAT32_INPUTS.get(node.op_type, ()):
                yield from self.as_float(name)
                continue
            yield from self._into_format(name)
            moved.input[position] = self._names[name]
        for position, name in enumerate(node.output):
            if self._types.get(name) == TensorProto.FLOAT:
                self._names[name] = moved.output[position] = f"{name}_{self._precision}"
        for attribute in moved.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = self._form.element_type
        yield moved

    def as_float(self, name: str) -> Iterator[onnx.NodeProto]:
        """A cast, if the value exists only in the format so far."""
        if name in self._names and name not in self._floats:
            self._floats.add(name)
            yield helper.make_node("Cast", [self._names[name]], [name], to=TensorProto.FLOAT)

    def _into_format(self, name: str) -> Iterator[onnx.NodeProto]:
        if name in self._names:
            return
        self._names[name] = f"{name}_{self._precision}"
        if name in self._originals:
            self.weights.append(_weight(self._originals[name], self._names[name], self._form))
        else:
            yield helper.make_node("Cast", [name], [self._names[name]], to=self._form.element_type)

    def _sums_squares(self, node: onnx.NodeProto) -> bool:
        squares = node.op_type in SQUARING or (node.op_type == "Mul" and node.input[0] == node.input[1])
        if squares or (node.op_type in SUMMING and not self._squares.isdisjoint(node.input)):
            self._squares.update(node.output)
            return True
        return False

    def _is_supported(self, node: onnx.NodeProto) -> bool:
        allowed = _half_types_of(node.op_type, node.domain, self._opset)
        return self._form.element_type in allowed and node.op_type not in NOT_BUILT_BY_TENSORRT[self._precision]


@cache
def _half_types_of(operator: str, domain: str, opset: int) -> frozenset[int]:
    """The types of `FORMATS` that ONNX allows for any of the operator's tensors."""
    schema = onnx.defs.get_schema(operator, opset, domain)
    words = {word for constraint in schema.type_constraints for word in constraint.allowed_type_strs}
    return frozenset(form.element_type for form in FORMATS.values() if f"tensor({form.name})" in words)


def element_types(proto: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value and weight by name."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _weight(tensor: onnx.TensorProto, name: str, form: Format) -> onnx.TensorProto:
    array: NDArray[np.generic] = numpy_helper.to_array(tensor)
    largest = float(np.abs(array).max(initial=0.0))
    if largest > form.largest:
        raise ExportError(
            f"weight {tensor.name} reaches {largest:.3g}, the largest {form.name} is {form.largest:g}; "
            "try --precision fp32"
        )
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(form.element_type)), name)
