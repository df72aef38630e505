"""A judge's graph brought to a generator's images, their size and colours inside; groups, if it has no classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.adopt.read import nodes_of
from export.errors import ExportError
from export.judge.find import FEATURES, SCORES, FoundJudge

# Level * gain + offset is what the network takes.
RANGES = {"-1..1": (2 / 255, -1.0), "0..1": (1 / 255, 0.0), "0..255": (1.0, 0.0)}
# Of red, green and blue in grey, ITU-R 601-2.
LUMA = (0.299, 0.587, 0.114)
_OWN = "ganserve_judge_"  # begins the names of what is added


class _Nodes:
    """Nodes in a row, each of what the one before gives, and their constants."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *constants: NDArray[np.generic], first: bool = False, **attributes: Any) -> None:
        """`first`: the constants stand before the value."""
        number = len(self.nodes)
        names = [f"{_OWN}{number}_{i}" for i in range(len(constants))]
        self.constants += [numpy_helper.from_array(each, name) for each, name in zip(constants, names, strict=True)]
        given = [*names, self.value] if first else [self.value, *names]
        self.value = f"{_OWN}{number}"
        self.nodes.append(helper.make_node(kind, given, [self.value], **attributes))


def brought(judge: FoundJudge, shape: Sequence[int]) -> onnx.ModelProto:
    """The graph with the input `image` (N, *shape) uint8 and the outputs `features` (N, K) float32 and, if it names
    classes, `scores` float32.

    Args:
        shape: (H, W, C) of the generator's images.

    Raises:
        ExportError: its input has no such layout, or a fixed batch.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(judge.proto)
    graph = proto.graph
    initialised = {each.name for each in graph.initializer}
    (taken,) = (each for each in graph.input if each.name not in initialised)
    nodes = _prepared(judge, taken, shape)
    own = {name: f"{_OWN}given_{name}" for name in (FEATURES, SCORES, "image")}
    _rename(graph, {**own, taken.name: nodes.value})
    kept = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes.nodes, *kept])
    graph.initializer.extend(nodes.constants)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *shape]))
    ends = [(FEATURES, judge.outputs[0]), (SCORES, judge.outputs[1])]
    del graph.output[:], graph.value_info[:], proto.metadata_props[:]
    for name, given in ends:
        if given is not None:
            graph.node.extend([
                helper.make_node("Cast", [own.get(given, given)], [f"{_OWN}float_{name}"], to=TensorProto.FLOAT),
                helper.make_node("Flatten", [f"{_OWN}float_{name}"], [name], axis=1),
            ])  # fmt: skip
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]))
    return proto


def with_groups(proto: onnx.ModelProto, centres: NDArray[np.float32]) -> onnx.ModelProto:
    """The graph with `scores`: how near its features are to each of the centres (groups, K)."""
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    nodes = _Nodes(FEATURES)
    # -|f - c|^2 without |f|^2, which is the same for all.
    nodes.add("Gemm", np.ascontiguousarray(2 * centres.T), -np.square(centres).sum(axis=1))
    nodes.nodes[-1].output[0] = SCORES
    found.graph.node.extend(nodes.nodes)
    found.graph.initializer.extend(nodes.constants)
    found.graph.output.append(helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["N", len(centres)]))
    return found


def group_scores(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, groups), as the graph gives them."""
    found: NDArray[np.float32] = features @ (2 * centres.T) - np.square(centres).sum(axis=1)
    return found


def _prepared(judge: FoundJudge, taken: onnx.ValueInfoProto, shape: Sequence[int]) -> _Nodes:
    """What stands before the judge: (N, H, W, C) uint8 -> as it takes them."""
    axes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in taken.type.tensor_type.shape.dim]
    is_last = axes[3] in (1, 3) and axes[1] not in (1, 3)
    if not is_last and axes[1] not in (1, 3):
        raise ExportError(f"the judge's input {axes}: neither NHWC nor NCHW with 1 or 3 channels")
    if axes[0]:
        raise ExportError(f"the judge takes batches of {axes[0]} only; export it with a free batch axis")
    channels, (height, width) = (axes[3], axes[1:3]) if is_last else (axes[1], axes[2:4])
    nodes = _Nodes("image")
    nodes.add("Cast", to=TensorProto.FLOAT)
    _colours(nodes, shape[2], channels)
    nodes.add("Transpose", perm=[0, 3, 1, 2])
    is_resized = (height or shape[0], width or shape[1]) != tuple(shape[:2])
    if is_resized:
        nodes.add("MatMul", resampling(shape[0], height or shape[0]), first=True)
        nodes.add("MatMul", np.ascontiguousarray(resampling(shape[1], width or shape[1]).T))
        nodes.add("Clip", np.array(0, np.float32), np.array(255, np.float32))
    if is_last:
        nodes.add("Transpose", perm=[0, 2, 3, 1])
    if judge.pixels is None:
        if is_resized or shape[2] != channels:
            nodes.add("Round")
        nodes.add("Cast", to=TensorProto.UINT8)
    elif judge.pixels != "0..255":
        gain, offset = RANGES[judge.pixels]
        nodes.add("Mul", np.array(gain, np.float32))
        nodes.add("Add", np.array(offset, np.float32))
    return nodes


def _colours(nodes: _Nodes, given: int, taken: int) -> None:
    """(N, H, W, given channels) to `taken` channels; what is transparent stays as it is beneath."""
    if given == taken:
        return
    if given not in (1, 3, 4):
        raise ExportError(f"images of {given} channels: a judge takes those of 1, 3 or 4")
    matrix = np.zeros((given, taken), np.float32)
    if given == 1:
        matrix[:] = 1
    elif taken == 1:
        matrix[:3, 0] = LUMA
    else:
        matrix[:3] = np.eye(3)
    nodes.add("MatMul", matrix)


def resampling(size: int, wanted: int) -> NDArray[np.float32]:
    """(wanted, size): each row weighs the pixels that a resized one comes from, by the bicubic filter (a = -0.5), which
    is as much wider as the image is made smaller."""
    scale = size / wanted
    stretch = max(1.0, scale)
    centres = (np.arange(wanted) + 0.5) * scale - 0.5
    apart = np.abs(np.arange(size)[None] - centres[:, None]) / stretch
    near, far = 1.5 * apart**3 - 2.5 * apart**2 + 1, -0.5 * apart**3 + 2.5 * apart**2 - 4 * apart + 2
    weights = np.where(apart < 1, near, np.where(apart < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Tensors, wherever they are named."""
    for node in nodes_of(graph):
        for used in (node.input, node.output):
            for index, name in enumerate(used):
                used[index] = names.get(name, name)
    for each in graph.initializer:
        each.name = names.get(each.name, each.name)


def groups_of(images: int) -> int:
    """Into how many groups so many images are put: few, that each has many of them."""
    return max(2, min(8, math.isqrt(images // 3)))
