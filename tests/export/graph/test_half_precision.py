"""Graphs of 16 bits: which tensors change, which stay, and what the rounded graph says of them."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.graph.half_precision import FORMATS, element_types, to_half_precision
from export.graph.parity import open_session, run
from export.graph.rounding import simulate_rounding
from export.graph.samples import synthetic_image
from models.catalogue import build
from models.families.basic.dcgan import DcganGenerator
from tests.export.graph.overflowing import overflowing_graph, traced

both = pytest.mark.parametrize("precision", ["fp16", "bf16"])


def graph(*nodes: onnx.NodeProto, **weights: Any) -> onnx.ModelProto:
    """x (N, 4) float32 -> y (N, 4) float32."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    made = helper.make_graph(list(nodes), "made up", [x], [y], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def narrowed(array: NDArray[Any], precision: str) -> NDArray[np.float32]:
    dtype = helper.tensor_dtype_to_np_dtype(FORMATS[precision].element_type)
    return np.asarray(array.astype(dtype).astype(np.float32))


@both
@pytest.mark.parametrize("tensors", ["uint8", "float32"])
def test_weights_and_values_change_and_the_borders_do_not(precision: str, tensors: str) -> None:
    before = overflowing_graph(tensors)
    after = to_half_precision(before, precision)
    low = FORMATS[precision].element_type
    types = element_types(after)
    convs = [node for node in after.graph.node if node.op_type == "Conv"]
    assert len(convs) == 4
    assert {types[name] for node in convs for name in (*node.input, *node.output)} == {low}
    (resize,) = (node for node in after.graph.node if node.op_type == "Resize")
    assert types[resize.input[0]] == low
    assert types[resize.input[2]] == TensorProto.FLOAT, "scales are float32 in every precision"
    assert [(value.name, value.type) for value in (*after.graph.input, *after.graph.output)] == [
        (value.name, value.type) for value in (*before.graph.input, *before.graph.output)
    ]


def test_what_tensorrt_does_not_build_in_bfloat16_stays_float32() -> None:
    torch.manual_seed(0)
    after = to_half_precision(traced(build(DcganGenerator((6, 16, 8, 3)).state_dict())[1], "uint8"), "bf16")
    types = element_types(after)
    kinds = {"ConvTranspose": TensorProto.FLOAT, "Relu": TensorProto.BFLOAT16, "Tanh": TensorProto.BFLOAT16}
    for kind, expected in kinds.items():
        assert {types[node.input[0]] for node in after.graph.node if node.op_type == kind} == {expected}


def test_an_operator_that_onnx_lacks_in_bfloat16_stays_float32_between_casts() -> None:
    low = to_half_precision(
        graph(
            helper.make_node("Mul", ["x", "gain"], ["a"]),
            helper.make_node("Einsum", ["a", "mix"], ["b"], equation="ni,ij->nj"),
            helper.make_node("Tanh", ["b"], ["y"]),
            gain=np.float32(2),
            mix=np.eye(4, dtype=np.float32),
        ),
        "bf16",
    )
    assert [node.op_type for node in low.graph.node] == ["Cast", "Mul", "Cast", "Einsum", "Cast", "Tanh", "Cast"]
    assert low.opset_import[0].version == 22, "the first opset with a bfloat16 Conv"


@both
def test_squares_of_values_that_float16_holds_do_not_overflow(precision: str) -> None:
    norm = graph(
        helper.make_node("Mul", ["x", "gain"], ["large"]),
        helper.make_node("Pow", ["large", "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sqrt", ["mean"], ["length"]),
        helper.make_node("Div", ["large", "length"], ["y"]),
        gain=np.float32(1000),
        two=np.float32(2),
        axis=np.array([1]),
    )
    x = np.random.RandomState(0).randn(3, 4).astype(np.float32)
    found: NDArray[Any] = run(open_session(simulate_rounding(to_half_precision(norm, precision), precision)), {"x": x})
    np.testing.assert_allclose(found, x / np.sqrt((x**2).mean(1, keepdims=True)), rtol=0.02)


@both
def test_the_rounded_graph_rounds_weights_and_every_operators_result(precision: str) -> None:
    random = np.random.RandomState(0)
    x, first, second = (random.randn(5, 4).astype(np.float32) for _ in range(3))
    sums = graph(
        helper.make_node("Add", ["x", "first"], ["a"]),
        helper.make_node("Mul", ["a", "second"], ["y"]),
        first=first,
        second=second,
    )
    found = run(open_session(simulate_rounding(to_half_precision(sums, precision), precision)), {"x": x})
    added = narrowed(narrowed(x, precision) + narrowed(first, precision), precision)
    assert np.array_equal(found, narrowed(added * narrowed(second, precision), precision))


def test_on_the_cpu_only_the_rounded_graph_shows_that_float16_overflows() -> None:
    low = to_half_precision(overflowing_graph("float32"), "fp16")
    bright = np.full((1, 3, 8, 8), 1.0, np.float32)
    assert np.isfinite(run(open_session(low), {"image": bright})).all(), "ONNX Runtime left float32 between the nodes"
    assert not np.isfinite(run(open_session(simulate_rounding(low, "fp16")), {"image": bright})).any()


def test_the_rounded_graph_gives_nearly_the_same_image() -> None:
    before = overflowing_graph("uint8")
    image = synthetic_image(16, 20, 3)[None] // 4
    expected = run(open_session(before), {"image": image}).astype(int)
    for precision, levels in (("fp16", 1), ("bf16", 8)):
        found = run(open_session(simulate_rounding(to_half_precision(before, precision), precision)), {"image": image})
        assert 0 < np.abs(found.astype(int) - expected).max() <= levels


def test_a_weight_beyond_float16_is_refused_and_fits_bfloat16() -> None:
    large = graph(helper.make_node("Mul", ["x", "gain"], ["y"]), gain=np.full(4, 1e5, np.float32))
    with pytest.raises(ExportError, match="weight gain reaches 1e\\+05, the largest float16 is 65504"):
        to_half_precision(large, "fp16")
    found: NDArray[Any] = run(
        open_session(simulate_rounding(to_half_precision(large, "bf16"), "bf16")), {"x": np.ones((1, 4), np.float32)}
    )
    np.testing.assert_allclose(found, 1e5, rtol=0.004)
