"""Every element type that an ONNX graph may have: served as it was sent, or that model alone is reported."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.server.conftest import Running, write_tiny

ONNX_TYPES = sorted(set(TensorProto.DataType.keys()) - {"UNDEFINED"})
SERVED = {
    "BOOL": np.array([[True, False]]),
    **{name: np.array([[0, 7]], name.lower()) for name in ("UINT8", "UINT16", "UINT32", "UINT64")},
    **{name: np.array([[-7, 7]], name.lower()) for name in ("INT8", "INT16", "INT32", "INT64", "FLOAT16")},
    "FLOAT": np.array([[-0.5, np.nan]], np.float32),
    "DOUBLE": np.array([[-0.5, np.inf]]),
    "STRING": np.array([["-0.5", "ü"]], object),
}


def save(folder: Path, kind: str) -> None:
    """The identity of that type: x (N, 2) -> y (N, 2)."""
    number = TensorProto.DataType.Value(kind)
    node = helper.make_node("Identity", ["x"], ["y"])
    shapes = [helper.make_tensor_value_info(name, number, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([node], kind, shapes[:1], shapes[1:])
    (folder / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (folder / "1" / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "config.pbtxt").write_text("max_batch_size: 8")


def save_bfloat16(folder: Path) -> None:
    """x (N, 2) bfloat16, doubled in float32 -> y bfloat16, beside an output in float32."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "wide"], ["z"]),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.BFLOAT16),
    ]
    kinds = {"x": TensorProto.BFLOAT16, "y": TensorProto.BFLOAT16, "z": TensorProto.FLOAT}
    shapes = [helper.make_tensor_value_info(name, kind, ["n", 2]) for name, kind in kinds.items()]
    graph = helper.make_graph(nodes, "bfloat16", shapes[:1], shapes[1:])
    (folder / "1").mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "1/model.onnx"
    )
    (folder / "config.pbtxt").write_text("max_batch_size: 8 dynamic_batching {}")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_tiny(root, "tiny")
    for kind in ONNX_TYPES:
        save(root / kind, kind)
    save_bfloat16(root / "doubled")
    return root


@pytest.fixture
async def running(start: Any) -> Running:
    running: Running = await start()
    return running


@pytest.fixture
async def stub(running: Running) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def test_each_type_is_served_as_it_was_sent_or_reported(running: Running, client: Any) -> None:
    entries = {entry.name: entry for entry in running.server.repository.index()}
    assert set(entries) == {*ONNX_TYPES, "tiny", "doubled"}
    for kind, array in SERVED.items():
        tensor = triton.InferInput("x", [1, 2], np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        answer = (await client.infer(kind, [tensor])).as_numpy("y")
        if kind == "STRING":
            assert [text.decode() for text in answer[0]] == array[0].tolist()
        else:
            np.testing.assert_array_equal(answer, array)
    for kind in set(ONNX_TYPES) - {*SERVED, "BFLOAT16"}:
        assert (entries[kind].state, len(entries[kind].reason) > 10) == ("UNAVAILABLE", True), entries[kind]
        with pytest.raises(InferenceServerException, match="has no available versions: it is UNAVAILABLE: "):
            await client.infer(kind, [tensor])
    assert await client.is_model_ready("tiny")


def bits(values: NDArray[np.float32]) -> bytes:
    """Values that bfloat16 has exactly, as raw bfloat16."""
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()


@pytest.mark.parametrize("items", [1, 3])
async def test_bfloat16_travels_raw(stub: Any, items: int) -> None:
    values = np.array([1, -2.5, 2.0**126, 2.0**-130, 0, np.nan][: 2 * items], np.float32)
    tensor = {"name": "x", "datatype": "BF16", "shape": [items, 2]}
    request = service_pb2.ModelInferRequest(model_name="doubled", inputs=[tensor], raw_input_contents=[bits(values)])
    answer = await stub.ModelInfer(request)
    assert [(each.name, each.datatype) for each in answer.outputs] == [("y", "BF16"), ("z", "FP32")]
    assert answer.raw_output_contents[0] == bits(values * 2)
    np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[1], np.float32), values * 2)


async def test_typed_bfloat16_is_refused(stub: Any) -> None:
    tensor = {"name": "x", "datatype": "BF16", "shape": [1, 2], "contents": {"fp32_contents": [1, 2]}}
    with pytest.raises(grpc.aio.AioRpcError, match="BF16 travels only as raw_input_contents"):
        await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="doubled", inputs=[tensor]))
