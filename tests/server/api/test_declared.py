"""config.pbtxt's `dims` are what requests and replies have; `reshape` maps them to the graph's shapes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from tests.server.graphs import write_styled


def save(
    repository: Path, name: str, graph_in: list[Any], graph_out: list[Any], config: str, nodes: Any = None
) -> None:
    """A graph x -> y, by default the identity, with its config."""
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, graph_in)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, graph_out)],
    )
    (repository / name / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, repository / name / "1" / "model.onnx")
    if config:
        (repository / name / "config.pbtxt").write_text(config)


def config(batch: int, x: str, y: str) -> str:
    return (
        f'max_batch_size: {batch} input {{ name: "x" data_type: TYPE_FP32 {x} }} '
        f'output {{ name: "y" data_type: TYPE_FP32 {y} }}'
    )


# The graph's axes of x and y; the config; what is sent; what comes back; the metadata's shapes.
Case = tuple[list[Any], list[Any], str, tuple[int, ...], tuple[int, ...], list[int], list[int]]
RESHAPED: dict[str, Case] = {
    "densenet's batch axis": (
        [1, 3, 4, 4], [1, 3, 4, 4],
        config(0, "dims: [3, 4, 4] reshape { shape: [1, 3, 4, 4] }", "dims: [48] reshape { shape: [1, 3, 4, 4] }"),
        (3, 4, 4), (48,), [3, 4, 4], [48],
    ),
    "a value per item": (
        ["n"], ["n"], config(8, "dims: [1] reshape { shape: [] }", "dims: [1] reshape { shape: [] }"),
        (5, 1), (5, 1), [-1, 1], [-1, 1],
    ),
    "a value per item in, as the graph has it out": (
        ["n", 1], ["n", 1], config(8, "dims: [1]", "dims: [1, 1] reshape { shape: [1] }"),
        (2, 1), (2, 1, 1), [-1, 1], [-1, 1, 1],
    ),
    "fixed sizes": (
        ["n", 4], ["n", 4],
        config(8, "dims: [2, 2] reshape { shape: [4] }", "dims: [4, 1] reshape { shape: [4] }"),
        (3, 2, 2), (3, 4, 1), [-1, 2, 2], [-1, 4, 1],
    ),
    "sizes that are free": (
        ["n", 2, "w", 1], ["n", 2, "w", 1],
        config(8, "dims: [1, 2, -1] reshape { shape: [2, -1, 1] }", "dims: [2, -1] reshape { shape: [2, -1, 1] }"),
        (2, 1, 2, 7), (2, 2, 7), [-1, 1, 2, -1], [-1, 2, -1],
    ),
    "two free sizes in another place": (
        ["n", "h", 6, "w"], ["n", "h", 6, "w"],
        config(8, "dims: [-1, 2, 3, -1] reshape { shape: [-1, 6, -1] }", "dims: [-1, 6, -1]"),
        (1, 4, 2, 3, 5), (1, 4, 6, 5), [-1, -1, 2, 3, -1], [-1, -1, 6, -1],
    ),
    "no config: a value per item is [1], as Triton completes it": (
        ["n"], ["n"], "", (3, 1), (3, 1), [-1, 1], [-1, 1],
    ),
    "no size in the config, any that the graph takes": (
        ["n", 4], ["n", 4], config(8, "dims: [-1]", "dims: [-1]"), (2, 4), (2, 4), [-1, -1], [-1, -1],
    ),
}  # fmt: skip


def filled(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def tensor(name: str, array: NDArray[Any], dtype: str = "FP32") -> triton.InferInput:
    found = triton.InferInput(name, list(array.shape), dtype)
    found.set_data_from_numpy(array)
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for index, (graph_in, graph_out, text, *_) in enumerate(RESHAPED.values()):
        save(root, f"m{index}", graph_in, graph_out, text)
    write_styled(root, "styled")
    two = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["hidden"])]
    save(root, "one_of_two", ["n", 4], ["n", 4], config(8, "dims: [4]", "dims: [4]"), two)
    path = root / "one_of_two" / "1" / "model.onnx"
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["n", 4]))
    onnx.save(model, path)
    return root


@pytest.mark.parametrize("index", range(len(RESHAPED)), ids=[*RESHAPED])
async def test_requests_and_replies_have_the_configs_dims(client: Any, index: int) -> None:
    *_, sent, returned, metadata_in, metadata_out = [*RESHAPED.values()][index]
    answer = await client.infer(f"m{index}", [tensor("x", filled(sent))])
    np.testing.assert_array_equal(answer.as_numpy("y"), filled(returned))
    metadata = await client.get_model_metadata(f"m{index}")
    assert [list(each.shape) for each in (*metadata.inputs, *metadata.outputs)] == [metadata_in, metadata_out]


async def test_the_graphs_own_shape_is_refused_where_the_config_has_another(client: Any) -> None:
    text = r"unexpected shape for input 'x' for model 'm3'. Expected \[-1,2,2\], got \[3,4\]"
    with pytest.raises(InferenceServerException, match=text) as caught:
        await client.infer("m3", [tensor("x", filled((3, 4)))])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_a_size_that_only_the_config_leaves_free_is_refused_by_the_graphs(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'x'") as caught:
        await client.infer(f"m{len(RESHAPED) - 1}", [tensor("x", filled((2, 5)))])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_axes_of_size_zero_are_accepted(client: Any) -> None:
    answer = await client.infer("m4", [tensor("x", filled((2, 1, 2, 0)))])
    assert list(answer.get_response().outputs[0].shape) == [2, 2, 0]
    assert list(answer.get_response().raw_output_contents) == [b""]


async def test_only_the_outputs_that_the_config_names_are_returned(client: Any) -> None:
    answer = await client.infer("one_of_two", [tensor("x", filled((1, 4)))])
    assert [output.name for output in answer.get_response().outputs] == ["y"]
    wanted = [triton.InferRequestedOutput("hidden")]
    with pytest.raises(InferenceServerException, match="unexpected inference output 'hidden' for model 'one_of_two'"):
        await client.infer("one_of_two", [tensor("x", filled((1, 4)))], outputs=wanted)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ("dims: [2, 3] reshape { shape: [4] }", "different size for dims [2, 3] and reshape [4]"),
        ("dims: [-1] reshape { shape: [4] }", "different size for dims [-1] and reshape [4]"),
        ("dims: [2, 2] reshape { shape: [2, 2] }", "has dims [2, 2], [4] in the graph"),
    ],
)
async def test_a_reshape_that_changes_the_number_of_values_is_reported(
    start: Any, repository: Path, x: str, reason: str
) -> None:
    save(repository, "bad", ["n", 4], ["n", 4], config(8, x, "dims: [4]"))
    running = await start()
    entries = {entry.name: entry for entry in running.server.repository.index()}
    assert (entries["bad"].state, reason in entries["bad"].reason) == ("UNAVAILABLE", True), entries["bad"].reason
    assert entries["m0"].state == "READY"


@pytest.mark.parametrize("shape", [(2, 1), (2,)], ids=["as the config has it", "as the graph has it"])
async def test_an_exported_label_is_one_value_per_item(client: Any, shape: tuple[int, ...]) -> None:
    metadata = await client.get_model_metadata("styled")
    shapes = {each.name: list(each.shape) for each in metadata.inputs}
    assert (shapes["label"], shapes["truncation_psi"], shapes["latent"]) == ([-1, 1], [-1, 1], [-1, 4])
    served = (await client.get_model_config("styled")).config
    entry = next(each for each in served.input if each.name == "label")
    assert (list(entry.dims), entry.HasField("reshape"), list(entry.reshape.shape)) == ([1], True, [])
    labels = np.array([0, 2]).reshape(shape)
    both = [tensor("latent", np.ones((2, 4), np.float32)), tensor("label", labels, "INT64")]
    images = (await client.infer("styled", both)).as_numpy("image")
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize("label", [3, -1, 1 << 40, -(1 << 63)])
async def test_a_label_that_is_no_class_is_refused_with_the_range(client: Any, label: int) -> None:
    both = [tensor("latent", np.ones((2, 4), np.float32)), tensor("label", np.array([[0], [label]]), "INT64")]
    with pytest.raises(InferenceServerException, match=f"input 'label': {label} is no class; must be 0..2") as caught:
        await client.infer("styled", both)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
