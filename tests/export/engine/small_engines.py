"""Small graphs, and the engines that TensorRT for RTX builds of them on a machine without a GPU."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artifact.spec import ShapeRange, TensorRTPlan
from export.engine.build import build
from export.errors import ExportError

Profiles = Sequence[dict[str, ShapeRange]]
FLOAT = TensorProto.FLOAT


def graph(path: Path, *nodes: onnx.NodeProto, weights: Sequence[onnx.TensorProto] = ()) -> Path:
    """A graph of `nodes` from `x` (N, 3, H, W) to `y`, at `path`."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, ("N", 3, "H", "W"))]
    outputs = [helper.make_tensor_value_info("y", FLOAT, None)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ours", 1)]
    made = helper.make_graph(nodes, "made", inputs, outputs, weights)
    onnx.save_model(helper.make_model(made, opset_imports=opsets, ir_version=9), path)
    return path


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.full(shape, 0.01, np.float32), name)


def sizes(smallest: int, largest: int) -> Profiles:
    shapes = [(batch, 3, side, side) for batch, side in ((1, smallest), (2, largest), (2, largest))]
    return ({"x": ShapeRange(*shapes)},)


def built(path: Path, profiles: Profiles, *capabilities: str, **given: Any) -> tuple[Path, TensorRTPlan]:
    """The engine of the graph at `path`, in a folder of its own with its cache."""
    target = path.parent / "engine" / "model.plan"
    given = {"variant": "rtx", "precision": "fp32", "cache_dir": path.parent / "cache", **given}
    return target, build(path, target, profiles=profiles, compute_capabilities=capabilities, **given)


def refused(path: Path, profiles: Profiles, *capabilities: str, **given: Any) -> str:
    """What `build` says when it refuses; nothing may be left behind."""
    with pytest.raises(ExportError) as caught:
        built(path, profiles, *capabilities, **given)
    assert not list((path.parent / "engine").glob("*"))
    assert not list((path.parent / "cache").glob("**/*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cuda(major: int, minor: int) -> Any:
    """CUDA's binding on a machine with one GPU of that compute capability; with none if `major` is 0."""
    attributes = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=major, cudaDevAttrComputeCapabilityMinor=minor)
    return SimpleNamespace(
        cudaDeviceAttr=attributes,
        cudaError_t=SimpleNamespace(cudaSuccess=0),
        cudaDeviceGetAttribute=lambda attribute, device: (0, attribute) if major else (100, None),
        cudaGetErrorString=lambda code: (0, b"no CUDA-capable device is detected"),
    )


def halving(path: Path) -> Path:
    """Halves the image, doubles it again and concatenates the two: odd heights and widths contradict it."""
    return graph(
        path,
        helper.make_node("Conv", ["x", "a"], ["down"], name="halve", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["down", "b"], ["up"], name="double", strides=[2, 2]),
        helper.make_node("Concat", ["x", "up"], ["y"], name="skip", axis=1),
        weights=[weight("a", 4, 3, 2, 2), weight("b", 4, 3, 2, 2)],
    )
