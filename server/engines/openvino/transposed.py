"""Transposed convolutions as ordinary ones, which OpenVINO computes faster, and equally alone and in a batch.

Along one axis, with a kernel w of size k, stride s and padding p, a transposed convolution is

    y[o] = sum of x[(o + p - u) / s] * w[u] over the u for which s divides o + p - u.

The outputs o = s * i + r of *phase* r are sums of x[i + d] * w[r + p - s * d] over d: an ordinary convolution of stride
1 with every s-th tap of the kernel. So the phases of all axes are computed by convolutions over the input's own pixels,
and DepthToSpace interleaves them. The products are the same, without those with the zeros that a stride inserts.

There are two forms. *Separate*: a convolution for each phase, with its own taps and its own padding, so that nothing is
cropped. *Joint*: one convolution gives all phases as channels; its window spans the taps of all of them, and some taps
are zero. It is chosen where that is no loss: where every phase sees the same pixels (k = s, or an input of one pixel,
which is a matrix product), and where the channels of all phases fit in one vector register, which a separate
convolution would leave almost empty (a generator's last layer: 3 channels, 4 phases).

Measured on a core of a Zen 4 (AVX512-BF16, no AMX) against OpenVINO's own operator, at batch 1 and 8, float32 / bf16:
last layers (64 -> 3, 64 -> 1, 56 -> 1 channels) 1.5-6.8 / 1.8-10.5 times as fast, first layers (1x1 -> 4x4, 7x7)
1.0-1.25 / 1.3-1.5, layers between (k 2-16, s 1-8) 0.94-1.3 / 0.94-1.4, those with a group for each channel 1.0-1.4 /
2.2-5.4, with 2 or 4 groups 0.86-1.05 / 0.98-1.1. One convolution for all phases and a crop gave
0.64-1.1 in the layers between, and a crop for each phase no more.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

TRANSPOSED = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
# Up to so many channels of all phases together one convolution computes them: the float32 of an AVX-512 register.
JOINT_CHANNELS = 16
# Operators that treat each value of a map by itself. They move into the convolutions, where they cost no pass over it.
ELEMENTWISE = {
    "Add": ops.add,
    "Multiply": ops.multiply,
    "PRelu": ops.prelu,
    "Relu": ops.relu,
    "Sigmoid": ops.sigmoid,
    "Tanh": ops.tanh,
}

Array = NDArray[Any]
Step = tuple[str, list[Array]]
"""An elementwise operator, and the constants after its first input: (1, C or 1, 1...)."""


def rewrite_transposed(model: openvino.Model) -> int:
    """Replaces the model's transposed convolutions, together with the elementwise operators that follow them.

    Left as they are: those with weights that are not constant, with dilation, with strides that differ between axes,
    those whose padding depends on a size of the input that is not known, and those that would be separate convolutions
    with outputs to crop, which was slower (StyleGAN2's layers of kernel 3 without padding: 0.85-0.97).

    Returns:
        How many were replaced.
    """
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in TRANSPOSED]
    count = sum(_replace(node) for node in nodes)
    if count:
        model.validate_nodes_and_infer_types()
    return count


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a transposed convolution, as windows over the input that give `stride` outputs each.

    `reach`: how many windows there are beyond the input's last pixel, less than 0 if there are fewer than pixels.
    `surplus`: outputs of the last window to cut off.
    """

    kernel: int
    stride: int
    padding: int
    reach: int
    surplus: int

    @staticmethod
    def of(kernel: int, stride: int, pads: tuple[int, int], output_padding: int) -> "Axis":
        """Its output has stride * (input - 1) + `last` values."""
        last = kernel - sum(pads) + output_padding
        windows = -(-last // stride)
        return Axis(kernel, stride, pads[0], windows - 1, stride * windows - last)

    def window(self, phase: int) -> tuple[int, int]:
        """(lowest, highest) d of the pixels x[i + d] that the phase sees.

        It is widened where its padding, -lowest before and reach + highest after the input, would be negative.
        """
        lowest = min(0, -((self.kernel - 1 - phase - self.padding) // self.stride))
        return lowest, max(lowest, (phase + self.padding) // self.stride, -self.reach)

    def span(self, phases: Sequence[int]) -> tuple[int, int]:
        """(lowest, highest) d of all the phases' windows."""
        windows = [self.window(phase) for phase in phases]
        return min(lowest for lowest, _ in windows), max(highest for _, highest in windows)

    def taps(self, phases: Sequence[int]) -> NDArray[np.int64]:
        """(phases, d) the tap of each pixel of the span; `kernel`, which is one too many, where there is none."""
        lowest, highest = self.span(phases)
        taps = np.array(phases)[:, None] + self.padding - self.stride * np.arange(lowest, highest + 1)
        return np.where((taps >= 0) & (taps < self.kernel), taps, self.kernel)

    @property
    def is_uniform(self) -> bool:
        """Whether every phase sees the same pixels."""
        return len({self.window(phase) for phase in range(self.stride)}) == 1


def _replace(node: openvino.Node) -> bool:
    weights, axes = _weights(node), _axes(node)
    if weights is None or axes is None:
        return False
    channels = weights.shape[0] * weights.shape[2]
    phases = [range(axis.stride) for axis in axes]
    together = channels * int(np.prod([axis.stride for axis in axes]))
    # The channels of a joint convolution with groups would have another order than DepthToSpace reads.
    is_joint = len(weights) == 1 and (together <= JOINT_CHANNELS or all(axis.is_uniform for axis in axes))
    if not is_joint and any(axis.surplus for axis in axes):
        return False
    last, steps = _elementwise_after(node, channels)
    if is_joint:
        value = _convolution(node, weights, axes, phases, steps)
    else:
        alone = itertools.product(*([[phase] for phase in axis] for axis in phases))
        value = ops.concat([_convolution(node, weights, axes, chosen, steps) for chosen in alone], 1)
    value = _interleaved(value, axes)
    names = last.output(0).get_names()
    for target in last.output(0).get_target_inputs():
        target.replace_source_output(value.output(0))
    value.set_friendly_name(last.get_friendly_name())
    value.output(0).set_names(names)
    return True


def _weights(node: openvino.Node) -> Array | None:
    """(groups, inputs of a group, outputs of a group, kernel...), if they are constant and floating point."""
    source, shape = node.input_value(1).get_node(), node.get_input_partial_shape(1)
    if source.get_type_name() == "Reshape":  # the ONNX reader's, which gives the groups an axis of their own
        source = source.input_value(0).get_node()
    if (
        shape.is_dynamic
        or source.get_type_name() != "Constant"
        or source.get_element_type() not in (openvino.Type.f32, openvino.Type.f16)
    ):
        return None
    weights: Array = source.data.reshape(list(shape.to_shape()))
    return weights if node.get_type_name() == "GroupConvolutionBackpropData" else weights[None]


def _axes(node: openvino.Node) -> list[Axis] | None:
    """The spatial axes; None if the node's form is not replaced."""
    attributes = node.get_attributes()
    strides, output_padding = list(attributes["strides"]), list(attributes["output_padding"])
    kernel = list(node.get_input_shape(1))[-len(strides) :]
    pads = _pads(node, kernel)
    if pads is None or set(attributes["dilations"]) != {1} or len(set(strides)) != 1:
        return None
    if _sides(node) == [1] * len(kernel) and len(set(kernel)) == 1 and not np.any(pads) and not any(output_padding):
        strides = kernel  # a single pixel's stride has no effect
    return [Axis.of(*given) for given in zip(kernel, strides, pads, output_padding, strict=True)]


def _pads(node: openvino.Node, kernel: Sequence[int]) -> list[tuple[int, int]] | None:
    """(begin, end) of each axis as ONNX defines them, None if they are not known.

    OpenVINO 2026.4 reads ONNX's auto_pad and output_shape otherwise, so that its own operator gives another image.
    """
    attributes = node.get_attributes()
    way, strides, more = attributes["auto_pad"], attributes["strides"], attributes["output_padding"]
    if node.get_input_size() == 2 and way not in ("same_upper", "same_lower"):
        return list(zip(attributes["pads_begin"], attributes["pads_end"], strict=True))
    # A stride's worth of outputs for each pixel, or as many as output_shape says.
    totals = [k - s + m for k, s, m in zip(kernel, strides, more, strict=True)]
    if node.get_input_size() > 2:
        sides, wanted = _sides(node), node.input_value(2).get_node()
        if not sides or wanted.get_type_name() != "Constant":
            return None
        excess = [s * side - int(out) for s, side, out in zip(strides, sides, wanted.data, strict=True)]
        totals = [total + cut for total, cut in zip(totals, excess, strict=True)]
    if min(totals) < 0:
        return None
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if way == "same_upper" else [(larger, smaller) for smaller, larger in halves]


def _sides(node: openvino.Node) -> list[int]:
    """The sizes of the input's spatial axes, nothing if one is not known."""
    sides = list(node.get_input_partial_shape(0))[2:]
    return [side.get_length() for side in sides] if all(side.is_static for side in sides) else []


def _elementwise_after(node: openvino.Node, channels: int) -> tuple[openvino.Node, list[Step]]:
    """The elementwise operators after the node, up to a value that is used twice; and the last of them, or the node."""
    last, steps = node, list[Step]()
    while len(targets := list(last.output(0).get_target_inputs())) == 1:
        found = _step(targets[0], channels) if targets[0].get_index() == 0 else None
        if found is None:
            break
        steps.append(found)
        last = targets[0].get_node()
    return last, steps


def _step(target: openvino.Input, channels: int) -> Step | None:
    node = target.get_node()
    if node.get_type_name() not in ELEMENTWISE:
        return None
    rank, constants = len(target.get_partial_shape()), []
    for value in node.input_values()[1:]:
        source = value.get_node()
        if source.get_type_name() != "Constant":
            return None
        shape = list(source.get_output_shape(0))
        if node.get_type_name() == "PRelu" and shape == [channels]:
            shape = [1, channels, *[1] * (rank - 2)]  # a slope of one axis is for the channels
        aligned = [1] * (rank - len(shape)) + shape
        if aligned not in ([1] * rank, [1, channels, *[1] * (rank - 2)]):
            return None
        constants.append(source.data.reshape(aligned))
    return node.get_type_name(), constants


def _convolution(
    node: openvino.Node, weights: Array, axes: Sequence[Axis], phases: Sequence[Sequence[int]], steps: Sequence[Step]
) -> openvino.Node:
    """(N, phases * C, windows...), the phases outermost: the outputs of these phases of each axis after all steps."""
    groups, inputs, outputs, *_ = weights.shape
    rank = len(axes)
    taken = np.pad(weights, [(0, 0)] * 3 + [(0, 1)] * rank)  # tap number `kernel` is zero
    for position, (axis, chosen) in enumerate(zip(axes, phases, strict=True)):
        taken = np.take(taken, axis.taps(chosen), axis=3 + 2 * position)
    # (groups, inputs, outputs, phases, taps, phases, taps...) -> (groups, phases..., outputs, inputs, taps...)
    order = [0, *range(3, 3 + 2 * rank, 2), 2, 1, *range(4, 4 + 2 * rank, 2)]
    count = int(np.prod([len(chosen) for chosen in phases]))
    taken = taken.transpose(order)
    taken = taken.reshape(groups, count * outputs, inputs, *taken.shape[3 + rank :])
    spans = [axis.span(chosen) for axis, chosen in zip(axes, phases, strict=True)]
    before = [-lowest for lowest, _ in spans]
    after = [axis.reach + highest for axis, (_, highest) in zip(axes, spans, strict=True)]
    ones = [1] * rank
    data = node.input_value(0)
    if node.get_type_name() == "GroupConvolutionBackpropData":
        value = ops.group_convolution(data, _constant(taken), ones, before, after, ones)
    else:
        value = ops.convolution(data, _constant(taken[0]), ones, before, after, ones)
    for kind, constants in steps:
        repeated = [np.tile(array, (1, count, *ones)) if array.size > 1 else array for array in constants]
        value = ELEMENTWISE[kind](value, *map(_constant, repeated))
    return value


def _interleaved(value: openvino.Node, axes: Sequence[Axis]) -> openvino.Node:
    """(N, C, H, W...) from (N, phases * C, windows...)."""
    stride = axes[0].stride
    if stride > 1:
        value = ops.depth_to_space(value, "blocks_first", stride)
    if any(axis.surplus for axis in axes):
        ends = [-axis.surplus or np.iinfo(np.int64).max for axis in axes]
        spatial = np.arange(2, 2 + len(axes))
        value = ops.slice(value, *(_constant(np.array(part)) for part in (0 * spatial, ends, spatial**0, spatial)))
    return value


def _constant(array: Array) -> openvino.Node:
    return ops.constant(np.ascontiguousarray(array))
