"""ONNX files that are broken or mean harm: refused in one line, before anything in them is run, nothing written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.adopt.adopt import adopt
from export.adopt.roles import Adoption
from export.errors import ExportError
from export.pipeline import Request
from tests.export.adopt.graphs import Graph, generator, saved


@pytest.fixture(autouse=True)
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening the graph fails the test."""
    monkeypatch.setattr("export.adopt.plain.Plain.__init__", lambda *given: pytest.fail("the graph was opened"))


def custom() -> onnx.ModelProto:
    graph = Graph()
    value = graph.node("upfirdn2d", graph.takes("z", ("N", 3, 8, 8)), domain="my.plugins")
    return graph.made(value, ("N", 3, 8, 8))


def unknown() -> onnx.ModelProto:
    graph = Graph()
    return graph.made(graph.node("Teleport", graph.takes("z", ("N", 3, 8, 8))), ("N", 3, 8, 8))


def random() -> onnx.ModelProto:
    graph = Graph()
    value = graph.takes("z", ("N", 3, 8, 8))
    return graph.made(graph.node("Add", value, graph.node("RandomNormalLike", value)), ("N", 3, 8, 8))


def loop(inside_if: bool = False) -> onnx.ModelProto:
    graph = Graph()
    state = helper.make_tensor_value_info("s", TensorProto.FLOAT, None)
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["s"], ["t"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), go, state],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("t", 1, None)],
    )
    value, always = graph.takes("z", ("N", 3, 8, 8)), graph.constant(True)
    node = helper.make_node("Loop", [graph.constant(1 << 60, np.int64), always, value], ["looped"], body=body)
    if inside_if:
        branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("looped", 1, None)])
        return graph.made(graph.node("If", always, then_branch=branch, else_branch=branch), ("N", 3, 8, 8))
    graph.nodes.append(node)
    return graph.made("looped", ("N", 3, 8, 8))


def huge() -> onnx.ModelProto:
    graph = Graph()
    shape = graph.constant([1 << 20, 1 << 20], np.int64)
    large = graph.node("ReduceSum", graph.node("ConstantOfShape", shape), keepdims=1)
    return graph.made(graph.node("Add", graph.takes("z", ("N", 3, 8, 8)), large), ("N", 3, 8, 8))


def functions(own: bool = False) -> onnx.ModelProto:
    """Forty functions that call the next one twice: 2^40 nodes; or one that calls itself."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    proto = Graph().made("z", ("N", 3, 8, 8))
    proto.graph.input.append(helper.make_tensor_value_info("z", 1, ("N", 3, 8, 8)))
    proto.graph.node.insert(0, helper.make_node("f0", ["z"], ["z0"], domain="f"))
    for at in range(40):
        called = ("Identity", "") if at == 39 and not own else (f"f{0 if own else at + 1}", "f")
        nodes = [helper.make_node(called[0], ["x"], [name], domain=called[1]) for name in ("a", "b")]
        nodes.append(helper.make_node("Add", ["a", "b"], ["y"]))
        proto.functions.append(helper.make_function("f", f"f{at}", ["x"], ["y"], nodes, opsets))
    proto.opset_import.append(opsets[1])
    return proto


def external(location: str, offset: int = 0) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        proto = generator()
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(5 * 64 * 4))):
            tensor.external_data.add(key=key, value=value)
        return proto

    return make


def circle() -> onnx.ModelProto:
    graph = Graph()
    graph.takes("z", ("N", 3, 8, 8))
    graph.nodes += [helper.make_node("Identity", ["b"], ["a"]), helper.make_node("Identity", ["a"], ["b"])]
    return graph.made("a", ("N", 3, 8, 8))


def no_inputs() -> onnx.ModelProto:
    graph = Graph()
    graph.takes("z", ("N", 3, 8, 8))
    return graph.made(graph.node("Cast", to=1), ("N", 3, 8, 8))


def oldest() -> onnx.ModelProto:
    proto = generator()
    proto.opset_import[0].version = 5
    return proto


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (custom, r"custom operators, .*: my\.plugins\.upfirdn2d; export it"),
        (unknown, "operators that ONNX does not have: Teleport"),
        (random, "has RandomNormalLike: it draws random numbers itself"),
        (loop, "has Loop: .*loops are not adopted"),
        (lambda: loop(inside_if=True), "has Loop: .*loops are not adopted"),
        (huge, "would have 1048576x1048576 values; at most"),
        (functions, r"has \d{12,} nodes with its functions inlined; at most 100000"),
        (lambda: functions(own=True), "function f0 calls itself"),
        (external("/etc/passwd"), "external data at '/etc/passwd', which is not in the graph's folder"),
        (external("../secret.bin"), r"external data at '\.\./secret\.bin', which is not in"),
        (external("C:\\secret.bin"), "which is not in the graph's folder"),
        (external("link.bin"), "external data at 'link.bin', which is not in the graph's folder"),
        (external("gone.bin"), "has its weights in 'gone.bin', which is missing next to it"),
        (external("short.bin"), r"is 1280 bytes at 0 of short\.bin, which has 7 bytes"),
        (external("short.bin", -4), r"is 1280 bytes at -4 of short\.bin"),
        (circle, r"theirs\.onnx: .*sorted"),
        (no_inputs, r"theirs\.onnx: .*Cast"),
        (oldest, "opset 5: must be 7 to"),
        (onnx.ModelProto, "is empty"),
    ],
)
def test_it_is_refused_before_it_is_opened(make: Callable[[], onnx.ModelProto], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(5 * 64 * 4))
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "short.bin").write_bytes(bytes(7))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(saved(make(), folder), sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"\x08\x08" * 40, "not an ONNX graph"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), r"is HDF5 \(Keras\)"),
        (generator().SerializeToString()[:-400], "is cut off"),
    ],
)
def test_files_that_are_no_graph_are_named(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(content)
    refused(path, sentence)


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence) as caught:
        adopt(Request(path, path.parent / "repository", "m"), Adoption())
    assert "\n" not in str(caught.value)
    assert not (path.parent / "repository").exists()
