"""What the end of a graph tells of black and white, and the order of its colours."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from export.adopt.adopt import adopt
from export.adopt.roles import Adoption, outputs_of
from export.adopt.told import told_range
from export.errors import ExportError
from export.pipeline import Request
from tests.export.adopt.graphs import Graph, saved


def ending(*steps: tuple[Any, ...]) -> onnx.ModelProto:
    """A graph that ends with these operators, each with its numbers; "x" is where its input stands."""
    graph = Graph()
    value = graph.takes("z", ("N", 4))
    for operator, *numbers in steps:
        names = [graph.constant(number, np.float32) if number != "x" else value for number in numbers]
        value = graph.node(operator, *(names if "x" in numbers else [value, *names]))
    return graph.made(value, ("N", 4))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("Tanh",)], (-1, 1)),
        ([("Tanh",), ("Add", 1.0), ("Div", 2.0)], (0, 1)),
        ([("Tanh",), ("Mul", 0.5), ("Add", 0.5, "x")], (0, 1)),
        ([("Tanh",), ("Mul", 127.5), ("Add", 128.0)], (0, 255)),
        ([("Sigmoid",), ("Mul", 255.0)], (0, 255)),
        ([("Sigmoid",), ("Mul", 2.0), ("Sub", 1.0)], (-1, 1)),
        ([("Sigmoid",), ("Sub", 1.0, "x")], (0, 1)),
        ([("Clip", 0.0, 1.0)], (0, 1)),
        ([("Mul", 255.0), ("Clip", 0.0, 255.0), ("Identity",)], (0, 255)),
        ([("Clip", 0.0, 6.0)], None),
        ([("Tanh",), ("Mul", 3.0)], None),
        ([("Sigmoid",), ("Sqrt",)], None),
        ([("Relu",)], None),
    ],
)
def test_the_last_operators_tell_the_range(steps: list[tuple[Any, ...]], expected: Any) -> None:
    proto = ending(*steps)
    assert told_range(proto, outputs_of(proto)[0]) == expected


def quantising() -> onnx.ModelProto:
    """x2 of images 0..1, which come out as 0..255; the first channel is darkened."""
    graph = Graph()
    value = graph.node("Concat", *[graph.takes("x", ("N", 3, "H", "W"))] * 4, axis=1)
    value = graph.node("DepthToSpace", value, blocksize=2)
    value = graph.node("Mul", value, graph.constant(np.reshape([0.5, 1, 1], (3, 1, 1)), np.float32))
    value = graph.node("Clip", value, graph.constant(0.0, np.float32), graph.constant(1.0, np.float32))
    value = graph.node("Mul", value, graph.constant(255.0, np.float32))
    return graph.made(value, ("N", 3, "H2", "W2"))


@pytest.mark.parametrize("bgr", [False, True])
def test_ranges_that_differ_are_seen_and_blue_may_be_first(bgr: bool, tmp_path: Path) -> None:
    found = adopt(Request(saved(quantising(), tmp_path), tmp_path / "r", "m"), Adoption(bgr=bgr))
    assert found.spec.hyperparameters["range"] == "0,255"
    assert found.spec.hyperparameters["input_range"] == "0,1"
    image = np.random.RandomState(0).randint(0, 256, (1, 9, 11, 3), np.uint8)
    (larger,) = onnxruntime.InferenceSession(found.folder / "model.onnx").run(["upscaled"], {"image": image})
    expected = image.astype(float) * ([1, 1, 0.5] if bgr else [0.5, 1, 1])
    assert np.abs(larger[:, ::2, ::2] - expected).max() <= 0.51


def test_only_colours_have_an_order(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--channel-order BGR: is for images of 3 channels"):
        adopt(Request(saved(_one_channel(), tmp_path), tmp_path / "r", "m"), Adoption(bgr=True))


def test_a_discriminator_is_not_shown_images_whose_blue_was_first(tmp_path: Path) -> None:
    request = Request(saved(_one_channel(), tmp_path), tmp_path / "r", "m", discriminator="netD.pth")
    with pytest.raises(ExportError, match=r"--discriminator netD\.pth: .* --channel-order BGR; leave it out"):
        adopt(request, Adoption(bgr=True))


def _one_channel() -> onnx.ModelProto:
    graph = Graph()
    value = graph.node("MatMul", graph.takes("z", ("N", 4)), graph.weight(4, 64))
    value = graph.node("Reshape", value, graph.constant([-1, 1, 8, 8], np.int64))
    return graph.made(graph.node("Tanh", value), ("N", 1, 8, 8))
