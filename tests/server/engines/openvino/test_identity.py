"""An item gets the same bytes alone, in a batch, on a lane and over the whole device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from artifact.spec import TensorSpec
from server.engines.openvino import bf16_supported
from server.engines.openvino.engine import OpenVinoCpuEngine, Precision
from server.engines.openvino.graph import read_graph
from server.engines.openvino.identity import Ways, find_ways, unrounded
from tests.server.conftest import write_tiny
from tests.server.engines.openvino.conftest import Node, WriteGraph
from tests.server.graphs import write_translator

Arrays = Mapping[str, NDArray[Any]]
LATENT = (TensorSpec("latent", "FP32", (4,)),)
FREE_IMAGE = (TensorSpec("image", "UINT8", (-1, -1, 3)),)


def doubled(arrays: Arrays) -> list[NDArray[Any]]:
    return [2 * arrays["latent"]]


def rounding_otherwise(arrays: Arrays) -> list[NDArray[Any]]:
    return [np.nextafter(2 * arrays["latent"], np.float32(9))]


@pytest.mark.parametrize(
    ("items", "whole_device", "sizes"),
    [(0, False, [0]), (1, False, [1]), (9, False, [4, 4, 1]), (7, True, [2, 2, 2, 1]), (1, True, [1])],
)
def test_a_batch_is_cut_into_the_largest_runs_that_are_allowed(
    items: int, whole_device: bool, sizes: list[int]
) -> None:
    pieces = list(Ways(lane=(4, 2, 1), whole=(2,)).pieces(items, whole_device))
    assert [last - first for first, last, _ in pieces] == sizes
    assert [first for first, *_ in pieces] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert [over_all for *_, over_all in pieces] == [whole_device and size == 2 for size in sizes]


def test_runs_that_give_what_items_give_alone_may_be_used() -> None:
    assert find_ways(LATENT, True, doubled, doubled) == Ways((8, 4, 2, 1), (8, 4, 2, 1))
    assert find_ways(LATENT, True, doubled, None) == Ways((8, 4, 2, 1), (8, 4, 2, 1))
    assert find_ways(LATENT, False, doubled, doubled) == Ways((1,), (1,))


def test_the_last_bit_decides() -> None:
    assert find_ways(LATENT, True, doubled, rounding_otherwise) == Ways((8, 4, 2, 1), ())
    assert find_ways(LATENT, False, doubled, rounding_otherwise) == Ways((1,), ())


def test_a_size_that_gives_other_bits_is_not_used() -> None:
    def lane(arrays: Arrays) -> list[NDArray[Any]]:
        return (rounding_otherwise if len(arrays["latent"]) == 4 else doubled)(arrays)

    assert find_ways(LATENT, True, lane, doubled) == Ways((8, 2, 1), (8, 4, 2, 1))


def test_an_input_of_one_number_takes_both_its_ways() -> None:
    inputs = (*LATENT, TensorSpec("psi", "FP32", ()), TensorSpec("w_given", "FP32", ()))

    def whole(arrays: Arrays) -> list[NDArray[Any]]:
        exact, chosen = doubled(arrays)[0], (arrays["psi"] == 1) & (arrays["w_given"] == 0)
        return [np.where(chosen[:, None], rounding_otherwise(arrays)[0], exact)]

    assert find_ways(inputs, True, doubled, whole).whole == ()


def test_images_of_free_size_run_one_by_one() -> None:
    def flattened(arrays: Arrays) -> list[NDArray[Any]]:
        return [arrays["image"].astype(np.float32)]

    assert find_ways(FREE_IMAGE, True, flattened, flattened) == Ways((1,), (1,))


def test_what_cannot_be_compared_is_not_used() -> None:
    def failing(arrays: Arrays) -> list[NDArray[Any]]:
        raise RuntimeError("the network takes multiples of 256 px")

    assert find_ways(FREE_IMAGE, True, doubled, failing) == Ways((1,), ())
    assert find_ways(LATENT, True, doubled, failing) == Ways((1,), ())


def test_values_are_compared_before_they_are_rounded(tmp_path: Path) -> None:
    write_tiny(tmp_path, "tiny")
    write_translator(tmp_path, "translator")
    for name in ("tiny", "translator"):
        graph = unrounded(read_graph(tmp_path / name / "1" / "model.onnx"))
        assert graph.output(0).get_element_type() == openvino.Type.f32
        kinds = {node.get_type_name() for node in graph.get_ops()}
        assert not kinds & {"Round", "Clamp"}


def check_rows(engine: OpenVinoCpuEngine, arrays: dict[str, NDArray[Any]]) -> None:
    """Equal to the bit, although these graphs give floating point."""
    alone = [engine.run(item(arrays, i), False)["y"] for i in range(len(arrays["x"]))]
    for items in range(1, len(alone) + 1):
        for whole_device in (False, True):
            batch = engine.run({"x": arrays["x"][:items].copy()}, whole_device)["y"]
            assert [row.tobytes() for row in batch] == [row.tobytes() for row in alone[:items]], (items, whole_device)


def item(arrays: dict[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
    return {name: array[index : index + 1].copy() for name, array in arrays.items()}


def drawn(*shape: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.random.RandomState(0).randn(*shape).astype(np.float32)
    return values


GRAPHS: dict[str, tuple[Sequence[int], list[Node], dict[str, NDArray[Any]]]] = {
    "instance norm": (
        (16, 32, 32),
        [("Conv", ["x", "w"], "c", {}), ("InstanceNormalization", ["c", "gains", "offsets"], "y", {})],
        {"w": drawn(16, 16, 1, 1), "gains": drawn(16), "offsets": drawn(16)},
    ),
    "transposed convolution": (
        (96, 8, 8),
        [("ConvTranspose", ["x", "w"], "y", {"strides": [2, 2], "pads": [1, 1, 1, 1]})],
        {"w": drawn(96, 32, 4, 4)},
    ),
    "many channels": (
        (96, 8, 8),
        [("Conv", ["x", "w"], "y", {"pads": [1, 1, 1, 1]})],
        {"w": drawn(64, 96, 2, 2)},
    ),
    "perceptron": (
        (64,),
        [("MatMul", ["x", "a"], "h", {}), ("Relu", ["h"], "r", {}), ("MatMul", ["r", "b"], "y", {})],
        {"a": drawn(64, 512), "b": drawn(512, 784)},
    ),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", GRAPHS)
def test_an_item_has_the_same_bits_in_every_run(write_graph: WriteGraph, name: str, precision: Precision) -> None:
    if precision == "bf16" and not bf16_supported():
        pytest.skip("this processor has no bf16 instructions")
    shape, nodes, constants = GRAPHS[name]
    free = ["N", *[None] * len(shape)]
    inputs, outputs = ("x", TensorProto.FLOAT, ["N", *shape]), ("y", TensorProto.FLOAT, free)
    engine = OpenVinoCpuEngine(write_graph(nodes, [inputs], [outputs], constants), 2, 2, True, precision)
    check_rows(engine, {"x": drawn(9, *shape)})
    engine.close()
