"""Rewritten transposed convolutions against ONNX Runtime's, which follow the ONNX specification."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from server.engines.openvino.transposed import rewrite_transposed

Array = NDArray[Any]
Shape = Sequence[int | str]
Node = tuple[str, list[str], str]  # kind, inputs, output

# In their order: kernel, stride, begin and end of the padding, output padding, all of one axis.
FORMS = {
    "dcgan": (4, 2, 1, 1, 0),
    "dcgan's first layer": (4, 1, 0, 0, 0),
    "cyclegan": (3, 2, 1, 1, 1),
    "odd output": (3, 2, 1, 1, 0),
    "kernel is stride": (2, 2, 0, 0, 0),
    "kernel is stride, padded": (4, 4, 1, 1, 0),
    "kernel 5": (5, 2, 2, 2, 1),
    "kernel 6": (6, 2, 2, 2, 0),
    "uneven padding": (5, 3, 0, 2, 1),
    "fsrcnn": (9, 4, 4, 4, 3),
    "kernel below stride": (2, 3, 0, 0, 0),
    "kernel 1": (1, 4, 0, 0, 3),
    "stride 1": (3, 1, 1, 1, 0),
    "padding beyond the kernel": (2, 1, 2, 2, 0),
    "padding beyond the kernel at one end": (3, 2, 0, 4, 0),
}
# Those whose outputs are no multiple of the stride: replaced only where one convolution computes all phases.
CROPPED = ("odd output", "kernel is stride, padded", "uneven padding", "padding beyond the kernel at one end")


def model_of(
    shape: Shape,
    weights: Array,
    followers: Sequence[Node] = (),
    constants: dict[str, Array] | None = None,
    **given: Any,
) -> bytes:
    """A graph of one ConvTranspose with the attributes `given`, x -> y, and of the nodes that follow, y -> ... -> z."""
    element_type = helper.np_dtype_to_tensor_dtype(weights.dtype)
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], **given)]
    nodes += [helper.make_node(kind, inputs, [output]) for kind, inputs, output in followers]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], element_type, None)]
    inputs = [helper.make_tensor_value_info("x", element_type, shape)]
    held = {"w": weights, **(constants or {})}
    initializers = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "transposed", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def drawn(*shape: int, dtype: type = np.float32) -> Array:
    return np.random.RandomState(len(shape) + sum(shape)).randn(*shape).astype(dtype)


def in_onnx_runtime(graph: bytes, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    found: Array = onnxruntime.InferenceSession(graph, options).run(None, {"x": x})[0]
    return found


def in_openvino(model: openvino.Model, x: Array) -> Array:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: Array = compiled({"x": x})[0]
    return found


def check(graph: bytes, x: Array, count: int | None = 1) -> openvino.Model:
    """The rewritten model, after a comparison with ONNX Runtime. `count`: how many are replaced, None for any."""
    model = openvino.Core().read_model(graph)
    replaced = rewrite_transposed(model)
    assert count in (replaced, None)
    assert replaced == 0 or not any("Backprop" in node.get_type_name() for node in model.get_ops())
    expected, found = in_onnx_runtime(graph, x), in_openvino(model, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    return model


def attributes(rank: int, form: tuple[int, int, int, int, int]) -> dict[str, Any]:
    _, stride, begin, end, output_padding = form
    pads = [begin] * rank + [end] * rank
    return {"strides": [stride] * rank, "pads": pads, "output_padding": [output_padding] * rank}


def output_px(size: int, form: tuple[int, int, int, int, int]) -> int:
    kernel, stride, begin, end, output_padding = form
    return stride * (size - 1) + kernel - begin - end + output_padding


@pytest.mark.parametrize("channels", [1, 7], ids=["few channels", "many channels"])
@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, form in FORMS.items() for size in (1, 6) if output_px(size, form) > 0]
)
def test_a_rewritten_layer_gives_what_onnx_runtime_gives(name: str, size: int, channels: int) -> None:
    form = FORMS[name]
    weights = drawn(5, channels, form[0], form[0])
    count = int(channels == 1 or name not in CROPPED)
    check(model_of(["N", 5, size, size], weights, **attributes(2, form)), drawn(3, 5, size, size), count)


@pytest.mark.parametrize("name", FORMS)
def test_one_model_serves_every_batch_and_size(name: str) -> None:
    form = FORMS[name]
    graph = model_of(["N", 5, "H", "W"], drawn(5, 6, form[0], form[0]), **attributes(2, form))
    for batch, height, width in ((1, 6, 9), (4, 7, 5)):
        check(graph, drawn(batch, 5, height, width), count=int(name not in CROPPED))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_form_gives_what_onnx_runtime_gives(data: st.DataObject) -> None:
    rank, groups = data.draw(st.integers(1, 3)), data.draw(st.sampled_from((1, 1, 2, 3)))
    stride = data.draw(st.integers(1, 4))
    each = st.lists(st.integers(0, 3), min_size=rank, max_size=rank)
    begin, end = data.draw(each), data.draw(each)
    kernel, sizes = [1 + k for k in data.draw(each)], [1 + size for size in data.draw(each)]
    output_padding = [min(stride - 1, more) for more in data.draw(each)]
    given = zip(sizes, kernel, begin, end, output_padding, strict=True)
    assume(all(stride * (size - 1) + k - b - e + more >= 1 for size, k, b, e, more in given))
    shape: list[int | str] = ["N", 2 * groups]
    shape += [f"S{axis}" if data.draw(st.booleans()) else size for axis, size in enumerate(sizes)]
    weights = drawn(2 * groups, data.draw(st.integers(1, 5)), *kernel)
    graph = model_of(
        shape,
        weights,
        group=groups,
        strides=[stride] * rank,
        pads=begin + end,
        output_padding=output_padding,
    )
    check(graph, drawn(2, 2 * groups, *sizes), count=None)


@pytest.mark.parametrize("way", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_automatic_padding_is_that_of_onnx(kernel: int, way: str) -> None:
    graph = model_of(["N", 4, 5, 6], drawn(4, 3, kernel, kernel), strides=[2, 2], auto_pad=way)
    check(graph, drawn(2, 4, 5, 6))


@pytest.mark.parametrize("way", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize("output_shape", [(10, 12), (9, 13), (11, 11)], ids=str)
def test_a_given_output_shape_is_padded_as_in_onnx(output_shape: tuple[int, int], way: str) -> None:
    graph = model_of(["N", 4, 5, 6], drawn(4, 3, 3, 3), strides=[2, 2], output_shape=output_shape, auto_pad=way)
    check(graph, drawn(2, 4, 5, 6))


def test_the_operators_after_it_move_into_the_convolutions() -> None:
    followers = [
        ("Add", ["y", "bias"], "a"),
        ("PRelu", ["a", "slopes"], "b"),
        ("Mul", ["b", "half"], "c"),
        ("Relu", ["c"], "d"),
        ("Tanh", ["d"], "z"),
    ]
    constants: dict[str, Array] = {
        "bias": drawn(1, 6, 1, 1),
        "slopes": drawn(6, 1, 1),
        "half": np.array([0.5], np.float32),
    }
    graph = model_of(["N", 5, 4, 4], drawn(5, 6, 4, 4), followers, constants, **attributes(2, FORMS["dcgan"]))
    model = check(graph, drawn(3, 5, 4, 4))
    (result,) = model.get_results()
    assert result.input_value(0).get_node().get_type_name() == "DepthToSpace"
    assert model.output(0).get_names() == {"z"}


@pytest.mark.parametrize(
    "follower",
    [("Add", ["y", "map"], "z"), ("Add", ["y", "columns"], "z"), ("Mul", ["y", "y"], "z"), ("Softmax", ["y"], "z")],
    ids=["map", "columns", "square", "softmax"],
)
def test_operators_that_need_more_than_the_value_and_its_channel_stay(follower: Node) -> None:
    constants = {"map": drawn(1, 1, 8, 8), "columns": drawn(8)}
    graph = model_of(["N", 5, 4, 4], drawn(5, 8, 4, 4), [follower], constants, **attributes(2, FORMS["dcgan"]))
    check(graph, drawn(3, 5, 4, 4))


def test_a_value_that_is_used_twice_is_kept() -> None:
    followers = [("Add", ["y", "bias"], "a"), ("Tanh", ["a"], "b"), ("Mul", ["a", "b"], "z")]
    constants = {"bias": drawn(1, 6, 1, 1)}
    graph = model_of(["N", 5, 4, 4], drawn(5, 6, 4, 4), followers, constants, **attributes(2, FORMS["dcgan"]))
    check(graph, drawn(3, 5, 4, 4))


def test_a_float16_graph_stays_one() -> None:
    graph = model_of(["N", 5, 4, 4], drawn(5, 6, 4, 4, dtype=np.float16), **attributes(2, FORMS["dcgan"]))
    model = openvino.Core().read_model(graph)
    before = in_openvino(openvino.Core().read_model(graph), drawn(3, 5, 4, 4, dtype=np.float16))
    assert rewrite_transposed(model) == 1
    assert model.output(0).get_element_type() == openvino.Type.f16
    after = in_openvino(model, drawn(3, 5, 4, 4, dtype=np.float16))
    np.testing.assert_allclose(after.astype(np.float32), before.astype(np.float32), atol=0.05)


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (["N", 4, 5, 6], {"dilations": [2, 2]}),
        (["N", 4, 5, 6], {"strides": [2, 1]}),
        (["N", 4, 5, 6], {"strides": [4, 4], "auto_pad": "SAME_UPPER"}),
    ],
    ids=["dilation", "two strides", "stride beyond the kernel, padded automatically"],
)
def test_other_forms_are_left_alone(shape: Shape, changes: dict[str, Any]) -> None:
    given = {"strides": [2, 2], **changes}
    check(model_of(shape, drawn(4, 3, 3, 3), **given), drawn(2, 4, 5, 6), count=0)


def test_padding_that_depends_on_an_unknown_size_is_left_alone() -> None:
    graph = model_of(["N", 4, "H", "W"], drawn(4, 3, 3, 3), strides=[2, 2], output_shape=[10, 12])
    assert rewrite_transposed(openvino.Core().read_model(graph)) == 0


def test_weights_that_are_an_input_are_left_alone() -> None:
    proto = onnx.load_from_string(model_of(["N", 4, 5, 6], drawn(4, 3, 3, 3), strides=[2, 2]))
    del proto.graph.initializer[:]
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert rewrite_transposed(openvino.Core().read_model(proto.SerializeToString())) == 0


def test_every_layer_of_a_network_is_rewritten() -> None:
    layers, constants, nodes = ((6, 24), (24, 8), (8, 3)), {}, list[Node]()
    value = "y"
    for number, (inputs, outputs) in enumerate(layers[1:]):
        constants[f"w{number}"] = drawn(inputs, outputs, 2, 2)
        nodes += [("Relu", [value], f"r{number}"), ("ConvTranspose", [f"r{number}", f"w{number}"], f"y{number}")]
        value = f"y{number}"
    check(model_of(["N", 6, 1, 1], drawn(6, 24, 4, 4), nodes, constants), drawn(3, 6, 1, 1), count=3)
