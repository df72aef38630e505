"""The flag of each item: what it finds, what it leaves unchanged."""

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from artifact.spec import FINITE
from export.graph.finite_flag import add_finite_flag
from export.graph.half_precision import to_half_precision
from export.graph.parity import open_session
from export.graph.rounding import simulate_rounding
from export.graph.samples import sample_inputs
from models.catalogue import build
from models.families.basic.dcgan import DcganGenerator
from tests.export.graph.overflowing import overflowing_graph, traced

ITEMS = {
    "ordinary": ([0.0, -1.0, 0.5, 1.0], True),
    "as large as float16": ([65504.0] * 4, True),
    "large of both signs": ([1e30, -1e30, 1e37, 1e37], True),
    "infinity": ([0.0, np.inf, 0.0, 0.0], False),
    "minus infinity": ([-np.inf, 0.0, 0.0, 0.0], False),
    "both infinities": ([np.inf, -np.inf, 0.0, 0.0], False),
    "not a number": ([0.0, 0.0, 0.0, np.nan], False),
}


def ending_with(kinds: tuple[str, ...]) -> onnx.ModelProto:
    """x (N, 2, 2) float32 -> y (N, 2, 2): x + x / 2, then one operator after another."""
    nodes = [helper.make_node("Sum", ["x", "x"], ["s"]), helper.make_node("Mean", ["s", "x"], ["0"])]
    nodes += [helper.make_node(kind, [str(step)], [str(step + 1)]) for step, kind in enumerate(kinds)]
    nodes[-1].output[0] = "y"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 2]) for name in "xy")
    made = helper.make_graph(nodes, "made up", [x], [y])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def flags(proto: onnx.ModelProto, arrays: dict[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = open_session(proto).run([FINITE], arrays)[0]
    return found


@pytest.mark.parametrize(
    "kinds",
    [(), ("Tanh",), ("Sigmoid",), ("HardSigmoid",), ("Relu", "Tanh"), ("Tanh", "Transpose", "Relu")],
    ids=lambda kinds: "-".join(kinds) or "nothing",
)
def test_an_item_is_finite_unless_a_value_is_not_whatever_saturates_it_last(kinds: tuple[str, ...]) -> None:
    x = np.array([item for item, _ in ITEMS.values()], np.float32).reshape(-1, 2, 2)
    proto = add_finite_flag(ending_with(kinds))
    assert [output.name for output in proto.graph.output] == ["y", FINITE]
    found = flags(proto, {"x": x})
    assert found.shape == (len(ITEMS),)
    assert found.dtype == np.bool_
    assert dict(zip(ITEMS, found.tolist(), strict=True)) == {name: finite for name, (_, finite) in ITEMS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_an_overflow_that_tanh_makes_white_or_black_is_found(tensors: str) -> None:
    torch.manual_seed(0)
    state = DcganGenerator((6, 16, 8, 3)).state_dict()
    last = [name for name, tensor in state.items() if tensor.ndim == 4][-1]
    state[last] *= 60000 / state[last].abs().max()
    generator = build(state)[1]
    before = traced(generator, tensors)
    latent = sample_inputs(generator, tensors, range(3))["latent"].astype(np.float32)
    arrays: dict[str, NDArray[np.generic]] = {"latent": latent * np.array([[100.0], [0.0], [1e-4]], np.float32)}
    low = open_session(simulate_rounding(add_finite_flag(to_half_precision(before, "fp16")), "fp16"))
    image, finite = low.run(None, arrays)
    expected = open_session(before).run(None, arrays)[0]
    assert not finite[0]
    assert finite[1:].all()
    assert np.isfinite(image).all(), "the overflow itself is not in the image"
    assert np.unique(image[0]).size <= 3
    assert np.array_equal(open_session(add_finite_flag(before)).run(None, arrays)[0], expected)
    assert flags(add_finite_flag(before), arrays).all(), "in float32 nothing overflows"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_the_sum_is_float32_in_graphs_of_less(precision: str, tensors: str) -> None:
    proto = add_finite_flag(to_half_precision(overflowing_graph(tensors), precision))
    values = {value.name: value for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    assert values[f"{FINITE}_sum"].type.tensor_type.elem_type == TensorProto.FLOAT
    assert len(values[f"{FINITE}_sum"].type.tensor_type.shape.dim) == 1


def test_the_cast_to_uint8_stays_the_images_last_node_and_the_image_the_first_output() -> None:
    before = overflowing_graph("uint8")
    proto = add_finite_flag(before)
    assert [output.name for output in proto.graph.output] == ["upscaled", FINITE]
    assert not [node.op_type for node in proto.graph.node if "upscaled" in node.input]
    assert list(proto.graph.node)[: len(before.graph.node)] == list(before.graph.node)
