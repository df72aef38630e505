import asyncio
import contextlib
import re
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from ganserve.v1 import images_pb2
from server.api import incoming
from server.api.wire import MAX_FIELDS, MAX_TEXT_BYTES, check_size
from server.errors import ImageTooLarge, InvalidRequest
from tests.server.api.raw_http2 import message, raw_connection

Code = grpc.StatusCode
INFER = "/inference.GRPCInferenceService/ModelInfer"
KIND = pb.ModelInferRequest.DESCRIPTOR
ONES = np.ones(4, np.float32).tobytes()
GOOD = pb.ModelInferRequest(
    model_name="tiny", inputs=[{"name": "latent", "datatype": "FP32", "shape": [1, 4]}], raw_input_contents=[ONES]
)


async def status(channel: grpc.aio.Channel, path: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    """How a call ends whose message is `data`."""
    try:
        method: Any = channel.unary_unary(path)
        await method(data)
    except grpc.aio.AioRpcError as error:
        return error.code(), str(error.details())
    return Code.OK, ""


def typed(field: str, values: int) -> bytes:
    request = pb.ModelInferRequest(model_name="tiny")
    getattr(request.inputs.add(name="latent").contents, field).extend([1] * values)
    return bytes(request.SerializeToString())


async def test_messages_that_become_much_larger_are_refused_before_they_are_read(start: Any) -> None:
    running = await start(max_message_bytes=4 << 20)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(running.target, options=options) as channel:
        code, text = await status(channel, INFER, b"\x2a\0" * 1_000_000)
        assert (code, text) == (Code.INVALID_ARGUMENT, "message: 2000000 bytes with more than 16384 fields, the limit")
        code, text = await status(channel, INFER, typed("int64_contents", 1_000_000))
        assert code is Code.INVALID_ARGUMENT
        assert "become 80000" in text
        assert "at most 4194304 (max_message_bytes); send tensors as raw_input_contents" in text
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(GOOD)
        stream: Any = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        with pytest.raises(grpc.aio.AioRpcError, match="more than 16384 fields"):
            async for _ in stream(iter([b"\x2a\0" * 1_000_000])):
                pass


def test_only_what_grows_is_counted() -> None:
    request = pb.ModelInferRequest(raw_input_contents=[bytes(900_000)])
    check_size(request.SerializeToString(), KIND, 1_000_000)
    check_size(typed("fp32_contents", 200_000), KIND, 1_000_000)
    with pytest.raises(ImageTooLarge):
        check_size(typed("uint_contents", 300_000), KIND, 1_000_000)
    labels = images_pb2.GenerateRequest(model="m", labels=["a label"] * 8192)
    check_size(labels.SerializeToString(), images_pb2.GenerateRequest.DESCRIPTOR, 1_000_000)
    with pytest.raises(InvalidRequest):
        check_size(b"\x0a\0" * (MAX_FIELDS + 40_000), images_pb2.GenerateRequest.DESCRIPTOR, 1_000_000)


def test_a_text_has_a_length_that_an_error_may_quote() -> None:
    name = "\u202e" * MAX_TEXT_BYTES
    for request in (
        images_pb2.GenerateRequest(model=name),
        images_pb2.GenerateRequest(labels=["0", name]),
        images_pb2.GenerateRequest(edits=[images_pb2.Edit(without=[name])]),
        pb.ModelInferRequest(parameters={name: pb.InferParameter(bool_param=True)}),
        pb.RepositoryModelLoadRequest(parameters={name: pb.ModelRepositoryParameter()}),
    ):
        with pytest.raises(InvalidRequest, match="a text of 196608 bytes, at most 65536"):
            check_size(request.SerializeToString(), request.DESCRIPTOR, 1 << 20)
    config = pb.RepositoryModelLoadRequest(parameters={"config": pb.ModelRepositoryParameter(string_param=name)})
    check_size(config.SerializeToString(), config.DESCRIPTOR, 1 << 20)


def test_damaged_messages_are_left_to_the_parser() -> None:
    random = np.random.RandomState(0)
    for _ in range(50):
        with contextlib.suppress(InvalidRequest, ImageTooLarge):
            check_size(random.bytes(100_000), KIND, 1 << 20)
    check_size(b"\xff" * 70_000, KIND, 1 << 20)


@pytest.mark.parametrize("frontend", ["grpcio"])  # the native front end hands out whole messages only
async def test_a_message_that_does_not_arrive_is_ended(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "SLOW_S", 0.05)
    running = await start(message_timeout_s=0.2)
    async with raw_connection(running.target) as connection:
        stream = connection.begin(INFER, message(b"", claimed_bytes=100 << 20))
        answer = await connection.until_closed(stream)
    assert b"limit 0.2 s (message_timeout_s)" in answer


@pytest.mark.parametrize("frontend", ["grpcio"])
async def test_of_many_slow_messages_the_slowest_end(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "SLOW_S", 0.05)
    running = await start(max_slow_messages=2)
    async with raw_connection(running.target) as connection:
        data = message(GOOD.SerializeToString())
        streams = [connection.begin(INFER, data[:-1]) for _ in range(5)]
        for stream in streams[:3]:
            answer = await connection.until_closed(stream)
            assert re.search(rb"[345] take more than 0.05 s, limit 2 \(max_slow_messages\)", answer), answer
        for stream in streams[3:]:
            connection.send(stream, data[-1:], ends=True)
            assert b"image" in await connection.until_closed(stream), "the others may go on"


@pytest.mark.parametrize("frontend", ["grpcio"])
async def test_a_call_without_a_message_is_answered(start: Any) -> None:
    running = await start()
    async with raw_connection(running.target) as connection:
        stream = connection.begin(INFER, b"", ends=True)
        assert b"the call has no message" in await connection.until_closed(stream)


async def test_a_caller_that_leaves_before_its_message_has_arrived_is_forgotten(start: Any) -> None:
    running = await start()
    for _ in range(3):
        async with raw_connection(running.target) as connection:
            connection.begin(INFER, message(b"", claimed_bytes=1000))
            await asyncio.sleep(0.05)
    async with grpc.aio.insecure_channel(running.target) as channel:
        await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(GOOD)
