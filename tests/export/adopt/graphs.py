"""Small ONNX graphs as others make them, written with ONNX's own helper: no code of ours is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
Axes = Sequence[int | str]


class Graph:
    """Collects nodes and weights; weights are random, the same for the same order of calls."""

    def __init__(self, opset: int = 17, dtype: int = FLOAT) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.opset, self.dtype = opset, dtype
        self._random = np.random.RandomState(0)

    def takes(self, name: str, shape: Axes, dtype: int | None = None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype or self.dtype, shape))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        return self.constant((self._random.randn(*shape) * scale).astype(helper.tensor_dtype_to_np_dtype(self.dtype)))

    def constant(self, values: Any, dtype: Any = None) -> str:
        array: NDArray[Any] = np.asarray(values, dtype)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def made(self, output: str, shape: Axes, name: str = "out") -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], [name]))
        outputs = [helper.make_tensor_value_info(name, self.dtype, shape)]
        graph = helper.make_graph(self.nodes, "theirs", self.inputs, outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def generator(
    *, batch: int | str = "N", opset: int = 17, dtype: int = FLOAT, nhwc: bool = False, activation: str = "Tanh",
    label: str = "", latent_axes: tuple[int, ...] = (),
) -> onnx.ModelProto:  # fmt: skip
    """Z 5 -> 8x8 RGB. `label`: "" or "number" or "one-hot", three classes."""
    graph = Graph(opset, dtype)
    value = graph.takes("image", (batch, 5, *latent_axes))  # a name that is in our way
    if latent_axes:
        value = graph.node("Flatten", value, axis=1)
    value = graph.node("MatMul", value, graph.weight(5, 64))
    if label == "number":
        chosen = graph.node("Gather", graph.weight(3, 64, scale=1.0), graph.takes("y", (batch,), INT64), axis=0)
        value = graph.node("Add", value, chosen)
    elif label == "one-hot":
        chosen = graph.node("MatMul", graph.takes("y", (batch, 3)), graph.weight(3, 64, scale=1.0))
        value = graph.node("Add", value, chosen)
    value = graph.node("Reshape", value, graph.constant([batch if batch == 1 else -1, 4, 4, 4], np.int64))
    value = graph.node("ConvTranspose", value, graph.weight(4, 3, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1])
    value = graph.node(activation, value)
    if nhwc:
        return graph.made(graph.node("Transpose", value, perm=[0, 2, 3, 1]), (batch, 8, 8, 3))
    return graph.made(value, (batch, 3, 8, 8))


def old_generator() -> onnx.ModelProto:
    """As files before 2019: weights are among the inputs."""
    proto = generator(opset=8)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return proto


def mixing_generator() -> onnx.ModelProto:
    """An item's image depends on the others of its batch, as with batch norm left in training mode."""
    graph = Graph()
    value = graph.node("Reshape", graph.takes("z", ("N", 192)), graph.constant([-1, 3, 8, 8], np.int64))
    mean = graph.node("ReduceMean", value, axes=[0], keepdims=1)
    return graph.made(graph.node("Tanh", graph.node("Add", value, mean)), ("N", 3, 8, 8))


def knobbed(*, psi: Axes = (), noise_batch: int | str = 1) -> onnx.ModelProto:
    """Z 6 -> w 6 -> 8x8 RGB in one graph, with psi (towards 0.25) and two noise maps, as StyleGANs are exported."""
    graph = Graph()
    w = graph.node("Tanh", graph.node("MatMul", graph.takes("z", ("N", 6)), graph.weight(6, 6)))
    offset = graph.node("Sub", w, graph.constant(0.25, np.float32))
    w = graph.node("Add", graph.node("Mul", offset, graph.takes("psi", psi)), graph.constant(0.25, np.float32))
    return graph.made(_drawn(graph, w, noise_batch), ("N", 3, 8, 8))


def mapping(*, layers: int = 0, psi: bool = False, classes: int = 0) -> onnx.ModelProto:
    """Z 6 -> w (N, 6), or (N, layers, 6); with `psi` truncated towards 0.25; one-hot classes."""
    graph = Graph()
    value = graph.node("MatMul", graph.takes("z", ("N", 6)), graph.weight(6, 6, scale=1.0))
    if classes:
        value = graph.node(
            "Add", value, graph.node("MatMul", graph.takes("c", ("N", classes)), graph.weight(classes, 6))
        )
    w = graph.node("Tanh", value)
    if psi:
        offset = graph.node("Sub", w, graph.constant(0.25, np.float32))
        w = graph.node("Add", graph.node("Mul", offset, graph.takes("psi", (1,))), graph.constant(0.25, np.float32))
    if layers:
        w = graph.node("Reshape", w, graph.constant([-1, 1, 6], np.int64))
        w = graph.node("Mul", w, graph.constant(np.ones((1, layers, 1)), np.float32))
    return graph.made(w, ("N", layers, 6) if layers else ("N", 6), "ws")


def synthesis(*, layers: int = 2, noise: bool = True) -> onnx.ModelProto:
    """w (N, layers, 6) -> 8x8 RGB, with two noise maps; `layers` 0: w (N, 6)."""
    graph = Graph()
    w = graph.takes("ws", ("N", layers, 6) if layers else ("N", 6))
    if layers:
        weights = graph.constant(np.linspace(0.5, 1.5, layers).reshape(1, layers, 1), np.float32)
        w = graph.node("ReduceSum", graph.node("Mul", w, weights), graph.constant([1], np.int64), keepdims=0)
    return graph.made(_drawn(graph, w, "N" if noise else None), ("N", 3, 8, 8))


def _drawn(graph: Graph, w: str, noise_batch: int | str | None) -> str:
    """8x8 RGB of w (N, 6) and noise maps of 4x4 and 8x8."""
    value = graph.node("MatMul", w, graph.weight(6, 48))
    value = graph.node("Reshape", value, graph.constant([-1, 3, 4, 4], np.int64))
    if noise_batch is not None:
        value = graph.node("Add", value, graph.takes("noise4", (noise_batch, 1, 4, 4)))
    value = graph.node("Resize", value, "", graph.constant([1, 1, 2, 2], np.float32), mode="nearest")
    if noise_batch is not None:
        value = graph.node("Add", value, graph.takes("noise8", (noise_batch, 1, 8, 8)))
    return graph.node("Tanh", value)


def upscaler(*, size: Axes = ("H", "W"), batch: int | str = "N", whole: bool = False) -> onnx.ModelProto:
    """x2, receptive field 2 px. `whole`: adds the image's mean, so that tiles are of no use."""
    graph = Graph()
    value = graph.takes("input", (batch, 3, *size))
    if whole:
        value = graph.node("Sub", value, graph.node("ReduceMean", value, axes=[2, 3], keepdims=1))
    value = graph.node("Relu", graph.node("Conv", value, graph.weight(8, 3, 3, 3), pads=[1, 1, 1, 1]))
    value = graph.node("Conv", value, graph.weight(12, 8, 3, 3, scale=0.03), pads=[1, 1, 1, 1])
    value = graph.node("Add", graph.node("DepthToSpace", value, blocksize=2), graph.constant(0.4, np.float32))
    return graph.made(value, (batch, 3, "H2", "W2"))


def enlarger(*, levels: bool = False, channels: int = 3) -> onnx.ModelProto:
    """x2 by repeating px. `levels`: trained on 0..255, else with a second input that says how bright it shall be."""
    graph = Graph()
    value = graph.takes("input", ("N", channels, "H", "W"))
    value = graph.node("DepthToSpace", graph.node("Concat", *[value] * 4, axis=1), blocksize=2)
    if levels:
        value = graph.node(
            "Add", graph.node("Mul", value, graph.constant(0.9, np.float32)), graph.constant(9, np.float32)
        )
    else:
        value = graph.node("Mul", value, graph.takes("strength", (1,)))
    return graph.made(value, ("N", channels, "H2", "W2"))


def one_size(*, scale: int = 1) -> onnx.ModelProto:
    """Images of 12 x 16 px alone: every px sees every other through weights."""
    graph = Graph()
    value = graph.node("Reshape", graph.takes("x", (1, 3, 12, 16)), graph.constant([1, 576], np.int64))
    value = graph.node("Tanh", graph.node("MatMul", value, graph.weight(576, 576 * scale**2, scale=0.1)))
    value = graph.node("Reshape", value, graph.constant([1, 3, 12 * scale, 16 * scale], np.int64))
    return graph.made(value, (1, 3, 12 * scale, 16 * scale))


def whitened() -> onnx.ModelProto:
    """A translator that takes what networks of ImageNet take."""
    graph = Graph()
    value = graph.node("Conv", graph.takes("x", ("N", 3, "H", "W")), graph.weight(3, 3, 3, 3), pads=[1, 1, 1, 1])
    return graph.made(graph.node("Tanh", value), ("N", 3, "H", "W"))


def unsorted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """As converters to float16 leave it."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(proto.graph.node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def features() -> onnx.ModelProto:
    """Twelve channels, which are no image."""
    graph = Graph()
    value = graph.node("Conv", graph.takes("x", ("N", 3, "H", "W")), graph.weight(12, 3, 3, 3), pads=[1, 1, 1, 1])
    return graph.made(value, ("N", 12, "H", "W"))


def translator() -> onnx.ModelProto:
    """NHWC as TensorFlow writes it, float32 -1..1, heights and widths in multiples of 4."""
    graph = Graph(opset=12)
    value = graph.node("Transpose", graph.takes("generator_input:0", ("N", "H", "W", 3)), perm=[0, 3, 1, 2])
    value = graph.node("Relu", graph.node("Conv", value, graph.weight(6, 3, 4, 4), strides=[4, 4]))
    value = graph.node("Tanh", graph.node("ConvTranspose", value, graph.weight(6, 3, 4, 4), strides=[4, 4]))
    return graph.made(graph.node("Transpose", value, perm=[0, 2, 3, 1]), ("N", "H", "W", 3), "generator_output:0")


def saved(proto: onnx.ModelProto, folder: Path, name: str = "theirs.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path
