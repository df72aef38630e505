"""Triton's classification extension, through tritonclient's `class_count`."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

VALUES = np.array([[0.5, -2, 3.25, 3.25, np.nan], [1e-9, 1e9, 0, np.inf, -np.inf]], np.float32)


def save(repository: Path, name: str, kind: int, shape: list[Any], config: str) -> None:
    """The identity x -> y of that type."""
    node = helper.make_node("Identity", ["x"], ["y"])
    tensors = [helper.make_tensor_value_info(each, kind, shape) for each in ("x", "y")]
    graph = helper.make_graph([node], name, tensors[:1], tensors[1:])
    (repository / name / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, repository / name / "1" / "model.onnx")
    (repository / name / "config.pbtxt").write_text(config)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    output = 'output { name: "y" data_type: TYPE_FP32 dims: 5 label_filename: "labels.txt" }'
    save(root, "labelled", TensorProto.FLOAT, ["n", 5], f"max_batch_size: 8 {output}")
    (root / "labelled" / "labels.txt").write_bytes("\ufeffcat\r\ndog\r\n\r\nüber\r\n".encode())
    save(root, "plain", TensorProto.FLOAT, ["a", "b"], "max_batch_size: 0")
    save(root, "numbers", TensorProto.UINT8, ["n", "m"], "max_batch_size: 8")
    save(root, "text", TensorProto.STRING, ["n", "m"], "max_batch_size: 8")
    return root


async def classes(client: Any, model: str, values: NDArray[Any], count: int, dtype: str = "FP32") -> Any:
    tensor = triton.InferInput("x", list(values.shape), dtype)
    tensor.set_data_from_numpy(values)
    wanted = [triton.InferRequestedOutput("y", class_count=count)]
    answer = await client.infer(model, [tensor], outputs=wanted)
    assert answer.get_output("y").datatype == "BYTES"
    return np.vectorize(bytes.decode, otypes=[object])(answer.as_numpy("y")).tolist()


async def test_the_largest_values_come_first_with_their_labels(client: Any) -> None:
    assert await classes(client, "labelled", VALUES, 3) == [
        ["3.250000:2", "3.250000:3:über", "0.500000:0:cat"],
        ["inf:3:über", "1000000000.000000:1:dog", "0.000000:0:cat"],
    ]


async def test_more_classes_than_values_are_all_values(client: Any) -> None:
    (found,) = await classes(client, "labelled", VALUES[:1], 100)
    assert found[-2:] == ["-2.000000:1:dog", "nan:4"]
    assert len(found) == 5


async def test_without_a_batch_axis_all_values_are_one_item(client: Any) -> None:
    assert await classes(client, "plain", np.array([[1, 5], [7, 2]], np.float32), 2) == ["7.000000:2", "5.000000:1"]


async def test_whole_numbers_are_written_as_such(client: Any) -> None:
    assert await classes(client, "numbers", np.array([[7, 255, 0]], np.uint8), 2, "UINT8") == [["255:1", "7:0"]]


async def test_what_has_no_order_or_takes_too_much_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="unsupported type 'BYTES'"):
        await classes(client, "text", np.array([["a"]], object), 1, "BYTES")
    with pytest.raises(InferenceServerException, match="classification output tensor too large: 1000001 values"):
        await classes(client, "numbers", np.zeros((1, 1_000_001), np.uint8), 1, "UINT8")
    with pytest.raises(InferenceServerException, match=r"3000000 classes.*request fewer classes"):
        await classes(client, "numbers", np.zeros((3, 1_000_000), np.uint8), 3_000_000, "UINT8")


async def test_the_server_says_that_it_classifies(client: Any) -> None:
    assert "classification" in (await client.get_server_metadata()).extensions
