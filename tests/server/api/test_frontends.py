"""What both front ends take of any gRPC client: compressed messages, much metadata, connections that grow old."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.api import kserve
from server.api.transport import MAX_METADATA_BYTES
from tests.server.api.raw_http2 import message, raw_connection
from tests.server.api.rest.test_threads import LOOP, OTHER, watch
from tests.server.conftest import Start

Code = grpc.StatusCode
PATH = "/inference.GRPCInferenceService/"
LATENT = np.ones((4, 4), np.float32)


def request() -> pb.ModelInferRequest:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [4, 4]}
    return pb.ModelInferRequest(model_name="tiny", inputs=[tensor], raw_input_contents=[LATENT.tobytes()])


@pytest.fixture
async def stub(start: Start) -> AsyncIterator[Any]:
    running = await start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(running.target, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def first_of_a_stream(stub: Any, **options: Any) -> Any:
    call = stub.ModelStreamInfer(iter([request()]), **options)
    answer = await call.read()
    assert answer.error_message == ""
    return answer.infer_response


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_requests_may_be_compressed(stub: Any, frontend: str, compression: grpc.Compression) -> None:
    plain = (await stub.ModelInfer(request())).raw_output_contents
    assert (await first_of_a_stream(stub, compression=compression)).raw_output_contents == plain
    if frontend == "native" and compression == grpc.Compression.Deflate:
        # Its library inflates gzip alone, and rejects the rest before it hands out a call (docs/triton.md).
        with pytest.raises(grpc.aio.AioRpcError, match="`deflate` which isn't supported") as caught:
            await stub.ModelInfer(request(), compression=compression)
        assert caught.value.code() is Code.UNIMPLEMENTED
        return
    assert (await stub.ModelInfer(request(), compression=compression)).raw_output_contents == plain


async def test_a_call_may_have_as_much_metadata_as_proxies_add(stub: Any) -> None:
    much = [(f"x-{number}", "a" * 5_000) for number in range(10)]
    assert (await stub.ServerLive(pb.ServerLiveRequest(), metadata=much)).live
    assert await first_of_a_stream(stub, metadata=much)


@pytest.mark.parametrize("nbytes", [MAX_METADATA_BYTES, 3 * MAX_METADATA_BYTES, 7 * MAX_METADATA_BYTES])
async def test_more_metadata_is_the_calls_error_and_not_the_connections(stub: Any, nbytes: int) -> None:
    neighbour = stub.ModelStreamInfer()
    await neighbour.write(request())
    assert await neighbour.read()
    with pytest.raises(grpc.aio.AioRpcError, match="received metadata size exceeds hard limit") as caught:
        await stub.ServerLive(pb.ServerLiveRequest(), metadata=[("x-much", "a" * nbytes)])
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    await neighbour.write(request())
    assert await neighbour.read()
    await neighbour.done_writing()


async def test_many_typed_values_are_converted_in_another_thread(
    start: Start, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "tiny" / "config.pbtxt").write_text('backend: "onnxruntime" max_batch_size: 8192')
    running = await start()
    threads = watch(monkeypatch, kserve, "read_inputs")
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for items in (4, 8192):
            message = request()
            del message.raw_input_contents[:]
            message.inputs[0].shape[0] = items
            message.inputs[0].contents.fp32_contents.extend([1.0] * 4 * items)
            assert len((await stub.ModelInfer(message)).raw_output_contents[0]) == 12 * items
    assert threads == [LOOP, OTHER]


@pytest.mark.parametrize("frontend", ["grpcio"])
async def test_a_stream_goes_on_when_its_connection_has_grown_old(start: Start) -> None:
    running = await start(max_connection_age_s=0.5)
    data = message(request().SerializeToString())
    async with raw_connection(running.target) as connection:
        stream = connection.begin(PATH + "ModelStreamInfer", data)
        for _ in range(200):
            if connection.farewell:
                break
            await asyncio.sleep(0.05)
        assert connection.farewell == b"max_age"
        before = len(connection.received[stream])
        connection.send(stream, data, ends=True)
        assert len(await connection.until_closed(stream)) > before
        assert b"grpc-status\x010" in connection.received[stream]
