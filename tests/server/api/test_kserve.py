import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from server.api.kserve import METHODS, SERVICE

Code = grpc.StatusCode
WEIGHT = np.arange(48, dtype=np.float32).reshape(4, 12)


def picture(latent: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.clip(latent @ WEIGHT, 0, 255).astype(np.uint8).reshape(-1, 2, 2, 3)


def latent_input(array: np.ndarray[Any, Any], dtype: str = "FP32") -> triton.InferInput:
    tensor = triton.InferInput("latent", list(array.shape), dtype)
    tensor.set_data_from_numpy(array)
    return tensor


@pytest.fixture
async def stub(running: Any) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(**changes: Any) -> service_pb2.ModelInferRequest:
    """A good request for `tiny`, with changes."""
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    fields: dict[str, Any] = {
        "model_name": "tiny",
        "inputs": [{**tensor, **changes.pop("tensor", {})}],
        "raw_input_contents": [np.ones(4, np.float32).tobytes()],
    }
    return service_pb2.ModelInferRequest(**{**fields, **changes})


async def test_tritonclient_gets_its_items(client: Any) -> None:
    latent = np.random.RandomState(0).randn(5, 4).astype(np.float32)
    answer = await client.infer("tiny", [latent_input(latent)], request_id="7")
    np.testing.assert_array_equal(answer.as_numpy("image"), picture(latent))
    assert answer.get_response().id == "7"
    assert answer.get_response().model_version == "1"


async def test_typed_contents_are_read_too(stub: Any) -> None:
    typed = request(raw_input_contents=[], tensor={"contents": {"fp32_contents": [1, 2, 3, 4]}})
    answer = await stub.ModelInfer(typed)
    expected = picture(np.array([[1, 2, 3, 4]], np.float32))
    assert answer.raw_output_contents[0] == expected.tobytes()


async def test_many_callers_share_batches_and_get_their_own_items(start: Any, repository: Any) -> None:
    delay = "dynamic_batching { max_queue_delay_microseconds: 100000 }"  # callers surely meet
    (repository / "tiny" / "config.pbtxt").write_text(f'backend: "onnxruntime" max_batch_size: 8 {delay}')
    running = await start()
    latents = [np.random.RandomState(i).randn(1, 4).astype(np.float32) for i in range(64)]
    async with triton.InferenceServerClient(running.target) as client:
        answers = await asyncio.gather(*(client.infer("tiny", [latent_input(latent)]) for latent in latents))
        statistics = (await client.get_inference_statistics("tiny")).model_stats[0]
    for latent, answer in zip(latents, answers, strict=True):
        np.testing.assert_array_equal(answer.as_numpy("image"), picture(latent))
    assert statistics.inference_count == 64
    assert statistics.execution_count < 64
    assert statistics.inference_stats.queue.count == 64


async def test_models_without_a_config_or_a_batch_axis_are_served(client: Any) -> None:
    latent = np.ones((1, 4), np.float32)
    answer = await client.infer("auto", [latent_input(latent)])
    np.testing.assert_array_equal(answer.as_numpy("image"), picture(latent))
    answer = await client.infer("single", [latent_input(latent[0])])
    np.testing.assert_array_equal(answer.as_numpy("image"), picture(latent)[0])


async def test_a_config_that_the_graph_contradicts_makes_the_model_unavailable(start: Any, repository: Any) -> None:
    config = repository / "tiny" / "config.pbtxt"
    for text, reason in {
        'backend: "python"': "backend 'python' is not supported",
        "max_batch_size: }": "config.pbtxt: 1:",
        'name: "other"': "differs from its folder",
        'max_batch_size: 8 input { name: "latent" data_type: TYPE_FP16 dims: 4 }': "is TYPE_FP16, TYPE_FP32 in",
        'max_batch_size: 8 input { name: "latent" data_type: TYPE_FP32 dims: 5 }': "has dims [5], [4] in the graph",
        'max_batch_size: 8 input { name: "z" data_type: TYPE_FP32 dims: 4 }': "'z' is not in the graph",
    }.items():
        config.write_text(text)
        running = await start()
        entry = next(entry for entry in running.server.repository.index() if entry.name == "tiny")
        assert reason in entry.reason
        await running.end()


async def test_a_config_may_reshape_as_triton_does(start: Any, repository: Any) -> None:
    tensor = 'name: "latent" data_type: TYPE_FP32 dims: [2, 2] reshape { shape: [4] }'
    (repository / "tiny" / "config.pbtxt").write_text(f"max_batch_size: 8 input {{ {tensor} }}")
    running = await start()
    assert running.server.repository.get("tiny").max_batch_size == 8


async def test_metadata_and_config_say_what_is_served(client: Any) -> None:
    metadata = await client.get_model_metadata("auto")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("latent", "FP32", [-1, 4])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("image", "UINT8", [-1, 2, 2, 3])]
    assert list(metadata.versions) == ["1"]
    assert (await client.get_model_config("auto")).config.max_batch_size == 4, "Triton's size for a config without one"
    assert "statistics" in (await client.get_server_metadata()).extensions
    assert await client.is_server_live()
    assert await client.is_model_ready("tiny")


async def test_the_index_says_why_a_model_is_unavailable(client: Any, running: Any) -> None:
    index = {model.name: model for model in (await client.get_model_repository_index()).models}
    assert index["tiny"].state == "READY"
    assert index["engine"].state == "UNAVAILABLE"
    assert "model.plan" in index["engine"].reason
    assert not await client.is_model_ready("engine")
    assert not await client.is_server_ready(), "as strict as Triton: a model that failed to load"

    def readyz() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{running.url}/readyz") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    code, text = await asyncio.to_thread(readyz)
    assert code == 503
    assert f"engine 1 UNAVAILABLE: {index['engine'].reason}" in text


async def test_a_model_can_be_unloaded_and_loaded_again(client: Any) -> None:
    await client.unload_model("tiny")
    assert not await client.is_model_ready("tiny")
    for version, text in (("", "has no available versions"), ("1", "version 1 is not at ready state")):
        with pytest.raises(InferenceServerException, match=f"'tiny' {text}: it is UNAVAILABLE: unloaded") as caught:
            await client.infer("tiny", [latent_input(np.ones((1, 4), np.float32))], version)
        assert caught.value.status() == "StatusCode.NOT_FOUND", "callers repeat UNAVAILABLE, in vain"
    await client.load_model("tiny")
    assert await client.is_model_ready("tiny")


async def test_to_unload_what_is_not_there_is_no_error(client: Any) -> None:
    await client.unload_model("nobody")
    assert "nobody" not in {model.name for model in (await client.get_model_repository_index()).models}
    with pytest.raises(InferenceServerException, match="failed to load 'nobody', failed to poll from model repository"):
        await client.load_model("nobody")


async def test_a_model_that_is_not_there_is_not_ready_which_is_no_error(client: Any) -> None:
    assert not await client.is_model_ready("nobody")
    assert not await client.is_model_ready("tiny", "9")
    assert not await client.is_model_ready("engine")
    with pytest.raises(InferenceServerException, match="'x' is not a positive integer") as caught:
        await client.is_model_ready("tiny", "x")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_the_servers_name_is_a_setting(start: Any, client: Any) -> None:
    assert (await client.get_server_metadata()).name == "ganserve"
    running = await start(server_name="triton")
    async with triton.InferenceServerClient(running.target) as other:
        assert (await other.get_server_metadata()).name == "triton"


@pytest.mark.parametrize("method", METHODS)
async def test_a_message_that_cannot_be_decoded_is_the_callers_fault(running: Any, method: str) -> None:
    async with grpc.aio.insecure_channel(running.target) as channel:
        path = f"/{SERVICE}/{method}"
        method_of: Any = channel.stream_unary if method == "ModelStreamInfer" else channel.unary_unary
        call = method_of(path)(iter([b"\xff\xff\xff"]) if method == "ModelStreamInfer" else b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert "3 bytes are not a inference." in (caught.value.details() or "")


async def test_a_reload_under_traffic_loses_nothing(client: Any) -> None:
    latent = np.ones((1, 4), np.float32)
    stop = asyncio.Event()

    async def caller() -> int:
        answered = 0
        while not stop.is_set():
            await client.infer("tiny", [latent_input(latent)])
            answered += 1
        return answered

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    for _ in range(3):
        await client.load_model("tiny")
    stop.set()
    assert min(await asyncio.gather(*callers)) > 0


async def test_a_stream_answers_in_request_and_survives_errors(client: Any) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for i in range(20):
            name = "missing" if i == 7 else "tiny"
            yield {
                "model_name": name,
                "inputs": [latent_input(np.full((1, 4), i, np.float32))],
                "request_id": str(i),
            }

    seen = []
    async for result, error in client.stream_infer(requests()):
        seen.append((result, error))
    assert len(seen) == 20
    assert "missing" in str(seen[7][1])
    for i, (result, _) in enumerate(seen):
        if i != 7:
            assert result.get_response().id == str(i)
            np.testing.assert_array_equal(result.as_numpy("image"), picture(np.full((1, 4), i, np.float32)))


ONES = np.ones(4, np.float32).tobytes()
REFUSED: dict[str, tuple[dict[str, Any], grpc.StatusCode, str]] = {
    "unknown model": ({"model_name": "nobody"}, Code.NOT_FOUND, "Request for unknown model: 'nobody' is not found"),
    "unknown version": (
        {"model_version": "9"},
        Code.NOT_FOUND,
        "Request for unknown model: 'tiny' version 9 is not found; the index has [1]",
    ),
    "version not a number": ({"model_version": "x"}, Code.INVALID_ARGUMENT, "'x' is not a positive integer"),
    "unavailable model": ({"model_name": "engine"}, Code.UNAVAILABLE, "model.plan"),
    "batch above the limit": (
        {"tensor": {"shape": [9, 4]}, "raw_input_contents": [ONES * 9]},
        Code.INVALID_ARGUMENT,
        "inference request batch-size must be <= 8 for 'tiny' and at least 1, but input 'latent' has batch 9",
    ),
    "wrong shape": (
        {"tensor": {"shape": [1, 5]}},
        Code.INVALID_ARGUMENT,
        "unexpected shape for input 'latent' for model 'tiny'. Expected [-1,4], got [1,5]",
    ),
    "negative axis": ({"tensor": {"shape": [-1, 4]}}, Code.INVALID_ARGUMENT, "batch -1"),
    "wrong dtype": (
        {"tensor": {"datatype": "FP16"}},
        Code.INVALID_ARGUMENT,
        "inference input 'latent' data-type is 'FP16', but model 'tiny' expects 'FP32'",
    ),
    "wrong byte size": (
        {"raw_input_contents": [ONES[:-1]]},
        Code.INVALID_ARGUMENT,
        "input byte size mismatch for input 'latent' for model 'tiny'. Expected 16, got 15",
    ),
    "raw and typed": (
        {"tensor": {"contents": {"fp32_contents": [1]}}},
        Code.INVALID_ARGUMENT,
        "contents field must not be specified when using raw_input_contents for 'latent' for model 'tiny'",
    ),
    "one raw entry too many": ({"raw_input_contents": [ONES, ONES]}, Code.INVALID_ARGUMENT, "1 inputs, 2 raw"),
    "unknown input": (
        {"tensor": {"name": "z"}},
        Code.INVALID_ARGUMENT,
        "unexpected inference input 'z' for model 'tiny'",
    ),
    "no input": (
        {"inputs": [], "raw_input_contents": []},
        Code.INVALID_ARGUMENT,
        "expected 1 inputs but got 0 inputs for model 'tiny'. Got input(s) [], but missing required input(s) "
        "['latent']. Please provide all required input(s).",
    ),
    "empty batch": (
        {"tensor": {"shape": [0, 4]}, "raw_input_contents": [b""]},
        Code.INVALID_ARGUMENT,
        "at least 1, but input 'latent' has batch 0 (max_batch_size)",
    ),
    "one output 6,000 times": (
        {"outputs": [{"name": "image"}] * 6000},
        Code.INVALID_ARGUMENT,
        "6000 outputs requested, 1 of them different",
    ),
    "unknown output": (
        {"outputs": [{"name": "mask"}]},
        Code.INVALID_ARGUMENT,
        "unexpected inference output 'mask' for model 'tiny'",
    ),
    "too few typed values": (
        {"raw_input_contents": [], "tensor": {"contents": {"fp32_contents": [1, 2]}}},
        Code.INVALID_ARGUMENT,
        "2 elements",
    ),
    "typed values of two types": (
        {"raw_input_contents": [], "tensor": {"contents": {"fp32_contents": [1, 2, 3, 4], "int_contents": [1]}}},
        Code.INVALID_ARGUMENT,
        "has int_contents; FP32 is in fp32_contents",
    ),
    "classification of none": (
        {"outputs": [{"name": "image", "parameters": {"classification": {"int64_param": 0}}}]},
        Code.INVALID_ARGUMENT,
        "classification: 0 classes requested, at least 1",
    ),
    "shared memory": (
        {"tensor": {"parameters": {"shared_memory_region": {"string_param": "r"}}}, "raw_input_contents": []},
        Code.UNIMPLEMENTED,
        "shared memory",
    ),
    "reserved parameter": ({"parameters": {"triton_x": {"bool_param": True}}}, Code.INVALID_ARGUMENT, "reserved"),
    "negative priority": (
        {"parameters": {"priority": {"int64_param": -1}}},
        Code.INVALID_ARGUMENT,
        "invalid value for 'priority', expected value >= 0",
    ),
    **{
        f"{key} as {kind}": (
            {"parameters": {key: {kind: value}}},
            Code.INVALID_ARGUMENT,
            f"invalid value type for '{key}' parameter, expected",
        )
        for key, kind, value in (
            ("timeout", "string_param", "5"),
            ("timeout", "uint64_param", 5),
            ("priority", "double_param", 1.0),
            ("sequence_id", "bool_param", True),
            ("sequence_start", "int64_param", 1),
            ("sequence_end", "string_param", "true"),
            ("triton_enable_empty_final_response", "int64_param", 1),
            ("colour", "uint64_param", 1),
        )
    },
    "a parameter without a value": (
        {"parameters": {"colour": {}}},
        Code.INVALID_ARGUMENT,
        "invalid value type for 'colour' parameter, expected int64_param, bool_param, string_param or double_param",
    ),
    "an output's parameter of another type": (
        {"outputs": [{"name": "image", "parameters": {"classification": {"string_param": "3"}}}]},
        Code.INVALID_ARGUMENT,
        "invalid value type for 'classification' parameter for tensor 'image', expected int64_param",
    ),
    "an input's parameter of another type": (
        {"tensor": {"parameters": {"shared_memory_region": {"int64_param": 3}}}, "raw_input_contents": []},
        Code.INVALID_ARGUMENT,
        "invalid value type for 'shared_memory_region' parameter for tensor 'latent', expected string_param",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_request_is_rejected_with_its_status_and_the_limit(stub: Any, case: str) -> None:
    changes, code, text = REFUSED[case]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request(**changes))
    assert (caught.value.code(), text in (caught.value.details() or "")) == (code, True), caught.value.details()


async def test_what_clients_always_send_is_accepted(stub: Any) -> None:
    common = {
        "triton_enable_empty_final_response": {"bool_param": True},
        "priority": {"uint64_param": 1},
        "timeout": {"int64_param": 1_000_000},
        "colour": {"string_param": "red"},
        "weight": {"double_param": 0.5},
        "sequence_id": {"string_param": "a"},
        "sequence_start": {"bool_param": True},
        "sequence_end": {"bool_param": True},
    }
    answer = await stub.ModelInfer(request(parameters=common))
    assert len(answer.raw_output_contents) == 1


async def test_a_full_queue_is_resource_exhausted(start: Any) -> None:
    running = await start(max_queue_rows=1)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        two = request(tensor={"shape": [2, 4]}, raw_input_contents=[ONES * 2])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(two)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert "limit 1 (max_queue_rows)" in (caught.value.details() or "")


async def test_model_control_can_be_switched_off(start: Any) -> None:
    running = await start(model_control="none")
    async with triton.InferenceServerClient(running.target) as client:
        text = "explicit model load / unload is not allowed: GANSERVE_MODEL_CONTROL is none"
        with pytest.raises(InferenceServerException, match=text) as caught:
            await client.unload_model("tiny")
        assert caught.value.status() == "StatusCode.UNAVAILABLE"


async def test_statistics_of_a_model_that_is_not_there_are_invalid(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        await client.get_inference_statistics("nobody")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    everything = await client.get_inference_statistics()
    assert {entry.name for entry in everything.model_stats} == {"auto", "single", "tiny"}
