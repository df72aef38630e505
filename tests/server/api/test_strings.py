"""BYTES tensors over real sockets, through tritonclient and through the protocol's typed form."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

TEXTS = {
    "text": ["hello", "wörld", "日本語", "😀"],
    "empty": ["", "a", "", ""],
    "control characters": ["a\0b", "\0", "\n\r\t", "\x7f"],
    "long": ["x" * 70_000, "ü" * 35_000, "1", "2"],
    "what looks like Python": ["b'hello'", '"', "\\x00", "None"],
}


def save(repository: Path, name: str, nodes: list[Any], config: str, axes: list[Any], outputs: list[str]) -> None:
    """A graph of strings x [, x1] -> outputs of the same shape, with its config."""
    inputs = sorted({name for node in nodes for name in node.input if name.startswith("x")})
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(each, TensorProto.STRING, axes) for each in inputs],
        [helper.make_tensor_value_info(each, TensorProto.STRING, axes) for each in outputs],
    )
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    (repository / name / "config.pbtxt").write_text(config)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    save(root, "flat", identity, "max_batch_size: 0", ["n"], ["y"])
    save(root, "batched", identity, "max_batch_size: 8", ["n", "m"], ["y"])
    # Triton's simple_string: numbers as text, their sum and difference as text.
    nodes = [
        helper.make_node("Cast", ["x0"], ["a"], to=TensorProto.INT32),
        helper.make_node("Cast", ["x1"], ["b"], to=TensorProto.INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["y0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["y1"], to=TensorProto.STRING),
    ]
    tensors = "".join(f'input {{ name: "x{i}" data_type: TYPE_STRING dims: [ 4 ] }}' for i in (0, 1))
    outputs = "".join(f'output {{ name: "y{i}" data_type: TYPE_STRING dims: [ 4 ] }}' for i in (0, 1))
    config = f'platform: "onnxruntime_onnx" max_batch_size: 8 {tensors} {outputs}'
    save(root, "numbers", nodes, config, ["n", 4], ["y0", "y1"])
    # A value that is Latin-1, not UTF-8, out of the file.
    latin = helper.make_tensor("latin", TensorProto.STRING, [1], [b"caf\xe9"])  # type: ignore[list-item]
    nodes = [
        helper.make_node("Constant", [], ["c"], value=latin),
        helper.make_node("Concat", ["x", "c"], ["y"], axis=0),
    ]
    save(root, "latin", nodes, "max_batch_size: 0", ["n"], ["y"])
    return root


def strings(name: str, array: np.ndarray[Any, Any]) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array)
    return tensor


def decoded(array: np.ndarray[Any, Any]) -> list[Any]:
    values: list[Any] = np.vectorize(bytes.decode, otypes=[object])(array).tolist()
    return values


@pytest.mark.parametrize("model", ["flat", "batched"])
@pytest.mark.parametrize("kind", TEXTS)
async def test_text_comes_back_as_it_was_sent(client: Any, model: str, kind: str) -> None:
    array = np.array(TEXTS[kind], object)
    shaped = array if model == "flat" else array.reshape(2, 2)
    answer = await client.infer(model, [strings("x", shaped)])
    assert decoded(answer.as_numpy("y")) == shaped.tolist()
    as_bytes = np.array([text.encode() for text in TEXTS[kind]], object).reshape(shaped.shape)
    answer = await client.infer(model, [strings("x", as_bytes)])
    assert decoded(answer.as_numpy("y")) == shaped.tolist()


@pytest.mark.parametrize("kind", TEXTS)
async def test_typed_strings_are_read_too(start: Any, kind: str) -> None:
    running = await start()
    values = [text.encode() for text in TEXTS[kind]]
    tensor = {"name": "x", "datatype": "BYTES", "shape": [2, 2], "contents": {"bytes_contents": values}}
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = await stub.ModelInfer(service_pb2.ModelInferRequest(model_name="batched", inputs=[tensor]))
    expected = b"".join(len(value).to_bytes(4, "little") + value for value in values)
    assert answer.raw_output_contents[0] == expected
    assert list(answer.outputs[0].shape) == [2, 2]


async def test_many_strings_and_none_at_all_come_back(client: Any) -> None:
    many = np.array([str(i) for i in range(100_000)], object)
    assert decoded((await client.infer("flat", [strings("x", many)])).as_numpy("y")) == many.tolist()
    none = np.empty((2, 0), object)
    answer = (await client.infer("batched", [strings("x", none)])).get_response()
    assert (list(answer.outputs[0].shape), list(answer.raw_output_contents)) == ([2, 0], [b""])


async def test_a_model_of_numbers_as_text_loads_and_computes(client: Any) -> None:
    numbers = np.arange(8).reshape(2, 4)
    inputs = [strings(name, (numbers * times).astype(str).astype(object)) for name, times in (("x0", 3), ("x1", 5))]
    answer = await client.infer("numbers", inputs)
    assert decoded(answer.as_numpy("y0")) == (numbers * 8).astype(str).tolist()
    assert decoded(answer.as_numpy("y1")) == (numbers * -2).astype(str).tolist()
    metadata = await client.get_model_metadata("numbers")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        (f"x{i}", "BYTES", [-1, 4]) for i in (0, 1)
    ]


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", bytes(range(256))],
    ids=["no first byte", "Latin-1", "a surrogate", "an overlong form", "every byte"],
)
async def test_bytes_that_are_no_text_are_refused_and_never_changed(client: Any, data: bytes) -> None:
    array = np.array([b"text", data], object)
    with pytest.raises(
        InferenceServerException, match="input 'x' for model 'flat': element 1 is not UTF-8 at its byte"
    ) as caught:
        await client.infer("flat", [strings("x", array)])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_a_graph_whose_own_strings_are_no_text_says_so(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="returned a string that is not UTF-8") as caught:
        await client.infer("latin", [strings("x", np.array(["a"], object))])
    assert caught.value.status() == "StatusCode.INTERNAL"


def packed(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


BROKEN = {
    "too few": (packed(b"a"), "expected 2 string elements for inference input 'x' for model 'flat', got"),
    "too many": (packed(b"a", b"b", b"c"), "unexpected number of string elements for inference input 'x'"),
    "half a length": (packed(b"abcdef") + b"\1\0", "expected 2 string elements"),
    "a length beyond the end": (packed(b"a") + b"\xff\xff\xff\xff", "element 1 ends"),
    "nothing": (b"", "expected 2 string elements"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_raw_strings_that_do_not_add_up_are_refused(start: Any, case: str) -> None:
    raw, text = BROKEN[case]
    running = await start()
    tensor = {"name": "x", "datatype": "BYTES", "shape": [2]}
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(
                service_pb2.ModelInferRequest(model_name="flat", inputs=[tensor], raw_input_contents=[raw])
            )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in (caught.value.details() or "")


async def test_strings_that_take_more_memory_than_a_message_may_are_refused(start: Any) -> None:
    running = await start(max_message_bytes=1 << 20)
    async with triton.InferenceServerClient(running.target) as client:
        with pytest.raises(InferenceServerException, match=r"30000 strings become 2\d+ bytes.*\(max_message_bytes\)"):
            await client.infer("flat", [strings("x", np.array(["abcd"] * 30_000, object))])
