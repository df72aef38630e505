"""Puts pixels around a graph of any layout, range and type, with ONNX's operators: uint8 NHWC in and out.

The same arithmetic as `export.graph.pixels`, in the graph's own opset. All names of the graph get a prefix, so that
none is in the way of ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifact.spec import TensorSpec
from export.adopt.read import constants_of, nodes_of, opset_of
from export.adopt.roles import Bounds, Range, Roles, Tensor

PREFIX = "adopted/"
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Core:
    """A graph to adopt and all that is known of it; layouts and ranges of its image input and of its output, and
    whether blue is the first channel of both."""

    proto: onnx.ModelProto
    roles: Roles
    layout: str
    output_range: Range
    input_layout: str = "NCHW"
    input_range: Bounds = ((0.0,), (1.0,))
    bgr: bool = False


def prefixed(proto: onnx.ModelProto, roles: Roles) -> tuple[onnx.ModelProto, Roles]:
    """The graph with `PREFIX` before every name, weights that old files list among the inputs taken out of them."""
    found = onnx.compose.add_prefix(proto, PREFIX)
    found.ir_version = max(found.ir_version, 4)  # before, weights had to be inputs
    weights = {tensor.name for tensor in found.graph.initializer}
    inputs = [value for value in found.graph.input if value.name not in weights]
    del found.graph.input[:]
    found.graph.input.extend(inputs)

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else replace(tensor, name=PREFIX + tensor.name)

    return found, replace(
        roles,
        output=replace(roles.output, name=PREFIX + roles.output.name),
        latent=moved(roles.latent),
        label=moved(roles.label),
        image=moved(roles.image),
        noise=tuple(replace(tensor, name=PREFIX + tensor.name) for tensor in roles.noise),
        truncation=moved(roles.truncation),
        w=moved(roles.w),
        w_given=moved(roles.w_given),
    )


def noise_sizes(roles: Roles) -> list[int]:
    """Values of each noise input for one item; where its first axis is no batch, of all of it."""
    return [math.prod(map(abs, tensor.shape)) for tensor in roles.noise]


def with_free_axes(proto: onnx.ModelProto, axes: Sequence[int], reshapes: bool) -> onnx.ModelProto:
    """A copy whose inputs are free along `axes`, and whose other shapes are forgotten.

    `reshapes`: also lets every Reshape to a fixed batch of 1 keep the batch that it gets.
    """
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    del graph.value_info[:]
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in axes:
                dim.dim_param = f"axis{axis}"
    for value in graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_axis{axis}"
    if reshapes:
        _free_reshapes(found)
    return found


def _free_reshapes(proto: onnx.ModelProto) -> None:
    constants = constants_of(proto)
    shapes: dict[str, str] = {}
    for node in nodes_of(proto.graph):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.ndim != 1 or not len(shape) or shape[0] != 1:
            continue
        shape[0] = 0 if -1 in shape else -1
        name = shapes.setdefault(node.input[1], f"{node.input[1]}_free")
        if name not in constants:
            constants[name] = numpy_helper.from_array(shape, name)
            proto.graph.initializer.append(constants[name])
        node.input[1] = name


def wrapped(core: Core, inputs: Sequence[TensorSpec], output: TensorSpec, batch: int | None) -> onnx.ModelProto:
    """The graph that is served: inputs and output as the manifest says, `batch` None for a free one.

    Raises:
        onnx.checker.ValidationError: the result is no valid graph.
    """
    found = onnx.ModelProto()
    found.CopyFrom(core.proto)
    del found.graph.input[:], found.graph.output[:], found.graph.value_info[:]
    around = Around(core)
    for name in ("latent", "label", "image", "truncation_psi", "w", "w_given"):
        tensor = getattr(core.roles, "truncation" if name == "truncation_psi" else name)
        if tensor is not None:
            around.take(name, tensor)
    around.take_noise(core.roles)
    before = around.nodes
    around.nodes = []
    around.give(output.name)
    nodes = list(found.graph.node)
    del found.graph.node[:]
    found.graph.node.extend([*before, *nodes, *around.nodes])
    found.graph.initializer.extend(around.weights)
    found.graph.input.extend(_declared(spec, batch, "in") for spec in inputs)
    found.graph.output.append(_declared(output, batch, "out"))
    found.graph.name = "adopted"
    onnx.checker.check_model(found, full_check=True)
    return found


class Around:
    """The nodes before and after a graph, as they are made."""

    def __init__(self, core: Core) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._core = core
        self._opset = opset_of(core.proto)

    def take(self, name: str, tensor: Tensor) -> None:
        """From our input `name` to the graph's own."""
        value = name
        if name == "image":
            value = self._image(value, tensor)
        elif name == "latent" and len(tensor.shape) > 2:
            value = self.node("Reshape", value, self.constant([-1, *tensor.shape[1:]], np.int64))
        elif name == "label":
            value = self._label(value, tensor)
        elif name == "truncation_psi":
            value = self._psi(value, tensor)
        self.node("Cast", value, to=tensor.element_type, output=tensor.name)

    def take_noise(self, roles: Roles) -> None:
        """From our one input to the graph's, one after the other."""
        start = 0
        for tensor, size in zip(roles.noise, noise_sizes(roles), strict=True):
            ends = [start], [start + size], [1]
            if self._opset >= 10:
                part = self.node("Slice", "noise", *(self.constant(end, np.int64) for end in ends), tag=tensor.name)
            else:
                part = self.node("Slice", "noise", starts=ends[0], ends=ends[1], axes=ends[2], tag=tensor.name)
            shaped = self.node("Reshape", part, self.constant([-1, *tensor.shape[1:]], np.int64))
            self.node("Cast", shaped, to=tensor.element_type, output=tensor.name)
            start += size

    def give(self, name: str) -> None:
        """From the graph's output to ours."""
        low, high = self._core.output_range
        value = self.node("Cast", self._core.roles.output.name, to=TensorProto.FLOAT)
        value = self._turned(value, self._core.layout.index("C"))
        if (low, high) != (0.0, 255.0):
            value = self._scaled(value, 255.0 / (high - low), -low * 255.0 / (high - low))
        if self._opset >= 11:
            value = self.node("Clip", value, self.constant(0.0), self.constant(255.0))
            value = self.node("Round", value)
        else:  # before there was Round
            value = self.node("Clip", value, min=0.0, max=255.0)
            value = self.node("Floor", self.node("Add", value, self.constant(0.5)))
        if self._core.layout == "NCHW":
            value = self.node("Transpose", value, perm=TO_NHWC)
        self.node("Cast", value, to=TensorProto.UINT8, output=name)

    def _image(self, value: str, tensor: Tensor) -> str:
        if tensor.element_type != TensorProto.UINT8:
            value = self.node("Cast", value, to=TensorProto.FLOAT)
        value = self._turned(value, 3)
        if self._core.input_layout == "NCHW":
            value = self.node("Transpose", value, perm=TO_NCHW)
        if tensor.element_type == TensorProto.UINT8 or self._core.input_range == ((0.0,), (255.0,)):
            return value
        axes = (-1, 1, 1) if self._core.input_layout == "NCHW" else (-1,)
        low, high = (np.reshape(bound, axes if len(bound) > 1 else ()) for bound in self._core.input_range)
        return self._scaled(value, (high - low) / 255.0, low)

    def _turned(self, value: str, axis: int) -> str:
        """An image with its channels the other way round, if the graph has blue first."""
        return self.node("Gather", value, self.constant([2, 1, 0], np.int64), axis=axis) if self._core.bgr else value

    def _label(self, value: str, tensor: Tensor) -> str:
        classes = self._core.roles.classes
        if len(tensor.shape) == 2 and tensor.shape[1] != 1:
            return self.node("Gather", self.constant(np.eye(classes)), value, axis=0)
        if len(tensor.shape) == 2:
            return self.node("Reshape", value, self.constant([-1, 1], np.int64))
        return value

    def _psi(self, value: str, tensor: Tensor) -> str:
        layers = tensor.shape[1] if len(tensor.shape) == 2 else 1
        shape = [] if not tensor.shape else [-1, *(1 for _ in tensor.shape[1:])]
        value = self.node("Reshape", value, self.constant(shape, np.int64))
        return value if layers == 1 else self.node("Mul", value, self.constant(np.ones((1, layers))))

    def _scaled(self, value: str, gain: object, offset: object) -> str:
        value = self.node("Mul", value, self.constant(gain))
        return value if not np.asarray(offset).any() else self.node("Add", value, self.constant(offset))

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        array: NDArray[np.generic] = np.asarray(value, dtype=dtype)
        name = f"pixels_constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", tag: str = "", **attributes: Any) -> str:
        output = output or f"pixels_{inputs[0].replace('/', '_')}_{operator}{tag}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _declared(spec: TensorSpec, batch: int | None, where: str) -> onnx.ValueInfoProto:
    types = {"UINT8": TensorProto.UINT8, "INT64": TensorProto.INT64, "FP32": TensorProto.FLOAT}
    free = [f"{where}_{axis}" for axis in ("H", "W", "C")]
    axes = [free[at] if axis < 0 else axis for at, axis in enumerate(spec.shape)]
    return helper.make_tensor_value_info(spec.name, types[spec.dtype], [batch or "N", *axes])
