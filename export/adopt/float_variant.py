"""The graph for images of 16 bits of an adopted upscaler or translator, which computes in floats itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from artifact.spec import Parity
from export.adopt.cores import Found, image_runner
from export.adopt.plain import Plain
from export.adopt.read import opset_of
from export.errors import ExportError
from export.graph.float_variant import to_float
from export.graph.samples import synthetic_image

# Of values from 0 to 1: a twentieth of a level of 8 bits.
TOLERANCE = 2e-4
OPSET = 11  # the first whose rounding the wrapped graph ends with


def float_graph(
    found: Found, served: onnx.ModelProto, output: str, seeds: Sequence[int]
) -> tuple[onnx.ModelProto, Parity] | None:
    """The served graph without uint8 at its borders, and how far it is from the graph as it came; None where that
    computes in 16 bits or in levels itself, or is a generator.

    Raises:
        ExportError: the two differ.
    """
    core = found.core
    image, given = core.roles.image, core.roles.output
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)
    if image is None or found.precision != "fp32" or opset_of(core.proto) < OPSET:
        return None
    if image.element_type not in floats or given.element_type not in floats:
        return None
    proto = to_float(served)
    assert found.sizes is not None
    height, width = (size // found.sizes.scale for size in found.expected[0].shape[1:3])
    run, session = image_runner(core, Plain(core.proto, optimised=True)), Plain(proto, optimised=True)
    (low, high), largest = core.output_range, 0.0
    for seed in seeds:
        levels: NDArray[Any] = synthetic_image(height, width, found.shape[2], seed)[None].astype(np.float32)
        levels = np.minimum(levels + np.random.RandomState(seed).uniform(0, 1, levels.shape), 255).astype(np.float32)
        expected = np.clip((run(levels).astype(np.float64) - low) / (high - low), 0, 1)
        pixels = session.run({"image": levels / np.float32(255)}, output).astype(np.float64)
        largest = max(largest, float(np.abs(pixels - expected).max()))
    if not largest <= TOLERANCE:
        raise ExportError(
            f"the graph for 16 bits and the graph as it came differ by {largest:.3g}, tolerance {TOLERANCE:g}; nothing "
            "was written"
        )
    return proto, Parity(TOLERANCE, largest, (1,), tuple(seeds))
