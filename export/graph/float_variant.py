"""The same graph for images of more than 8 bits: float32 NHWC in [0, 1] in and out, nothing rounded.

TensorRT and ONNX's operators for images have no 16-bit integers, so the server brings samples to [0, 1] and back. Made
from the finished graph by taking the casts and the rounding off its borders: the network within is the same.
"""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.errors import ExportError
from export.graph.parity import Reference, run_torch, sizes_px
from export.graph.pixels import BesideImage, from_levels, to_levels
from export.graph.samples import sample_inputs
from models.architecture import Generator

_LARGEST = "largest_level"
# Between the rounding and the output.
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")


def to_float(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph of uint8 images (see `export.graph.pixels`) that takes and gives float32 in [0, 1].

    Raises:
        ExportError: it does not begin with a cast from uint8, or does not end with rounding and a cast to it.
    """
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    graph = found.graph
    image, output = next(tensor for tensor in graph.input if tensor.name == "image"), graph.output[0]
    for node in graph.node:
        if image.name in node.input and node.op_type != "Shape":  # the same of either type
            if node.op_type != "Cast":
                raise ExportError(f"no graph for 16 bits: {node.op_type} uses the input's uint8")
            node.CopyFrom(helper.make_node("Mul", [image.name, _LARGEST], list(node.output)))
    _end_before_rounding(graph, output.name)
    for tensor in (image, output):
        tensor.type.tensor_type.elem_type = TensorProto.FLOAT
    graph.initializer.append(numpy_helper.from_array(np.asarray(255, np.float32), _LARGEST))
    del graph.value_info[:]
    onnx.checker.check_model(found, full_check=True)
    return found


def _end_before_rounding(graph: onnx.GraphProto, name: str) -> None:
    """Takes the cast off the graph's end, and the rounding before it."""
    producers = {node.output[0]: node for node in graph.node}
    cast = producers[name]
    above, rounding = cast, producers.get(cast.input[0])
    while rounding is not None and rounding.op_type in _MOVES:
        above, rounding = rounding, producers.get(rounding.input[0])
    if cast.op_type != "Cast" or rounding is None or rounding.op_type != "Round":
        raise ExportError("no graph for 16 bits: it does not end with rounding and a cast to uint8")
    above.input[0] = rounding.input[0]
    graph.node.remove(rounding)
    cast.CopyFrom(helper.make_node("Div", [cast.input[0], _LARGEST], [name]))


class _FloatPixels(nn.Module):
    """What the graph of `to_float` computes."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.network = generator.network
        self.encode = from_levels(generator.input_range)
        self.beside = BesideImage(generator)
        self.scale = to_levels(generator.output_range)

    def forward(self, image: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """(N, scale*H, scale*W, C) float32 in [0, 1] from (N, H, W, C) float32 in [0, 1], and the other inputs."""
        encoded = self.encode((image * 255.0).permute(0, 3, 1, 2))
        levels = self.scale(self.network(encoded, *self.beside(*others)))
        found: torch.Tensor = levels.clamp(0.0, 255.0).permute(0, 2, 3, 1) / 255.0
        return found


def float_references(generator: Generator) -> tuple[Reference, ...]:
    """What torch gives for images whose samples lie between the levels of 8 bits: one alone, and two in a batch."""
    module = _FloatPixels(generator).eval()
    found = []
    for batch, size_px in zip(((0,), (0, 1)), sizes_px(generator), strict=True):
        arrays = sample_inputs(generator, "uint8", batch, size_px)
        levels = arrays["image"].astype(np.float64)
        finer = np.random.RandomState(len(batch)).randint(0, 257, levels.shape)
        arrays = {**arrays, "image": ((levels * 256.0 + finer) / 65536.0).astype(np.float32)}
        found.append((arrays, run_torch(module, arrays)))
    return tuple(found)
