"""An upscaler that works in float32, and in float16 only for dark images."""

from functools import cache

import onnx
import torch

from export.graph.pixels import wrap
from export.graph.samples import sample_inputs
from export.graph.trace import to_onnx
from models.architecture import Generator
from models.catalogue import build
from models.families.superres.srvgg import SrvggNet

# What comes out of each conv is so many times larger than before; a PReLU does not mind.
GAINS = (60000.0, 60000.0, 100.0, 1.0)


@cache
def overflowing() -> Generator:
    """x2 RGB. Pixels brighter than some 100 levels reach beyond float16's 65504 inside: the image is NaN there."""
    torch.manual_seed(0)
    state = SrvggNet(3, 8, 4, 2, "prelu").state_dict()
    for tensor in state.values():
        tensor.normal_(0.0, 0.2)
    before = 1.0
    for layer, gain in enumerate(GAINS):
        state[f"body.{2 * layer}.weight"] *= gain / before
        state[f"body.{2 * layer}.bias"] *= gain
        before = gain
    return build(state)[1]


def traced(generator: Generator, tensors: str) -> onnx.ModelProto:
    """The generator's graph in float32."""
    return to_onnx(wrap(generator, tensors), generator, tensors, sample_inputs(generator, tensors, (0, 1)))


@cache
def overflowing_graph(tensors: str) -> onnx.ModelProto:
    """The upscaler's graph in float32."""
    return traced(overflowing(), tensors)
