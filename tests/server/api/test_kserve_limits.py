import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.api.kserve_tensors import read_inputs
from tests.server.graphs import LAYERS, Z, write_styled, write_translator, write_upscaler

Code = grpc.StatusCode
INPUTS: dict[str, Any] = {
    "latent": np.ones((1, Z), np.float32),
    "label": np.zeros(1, np.int64),
    "noise": np.zeros((1, Z), np.float32),
    "truncation_psi": np.ones(1, np.float32),
    "w": np.zeros((1, LAYERS, Z), np.float32),
    "w_given": np.zeros(1, np.float32),
}
DTYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}
FIELDS = {"FP32": "fp32_contents", "INT64": "int64_contents", "UINT8": "uint_contents"}


def infer_request(model: str, arrays: dict[str, Any], typed: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        datatype = DTYPES[str(array.dtype)]
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if typed:
            getattr(tensor.contents, FIELDS[datatype]).extend(array.ravel().tolist())
        else:
            request.raw_input_contents.append(array.tobytes())
    return request


def image(height: int, width: int) -> dict[str, Any]:
    return {"image": np.zeros((1, height, width, 3), np.uint8)}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_styled(root, "styled")
    write_upscaler(root, "up")
    write_translator(root, "translate", multiple_px=4)
    write_upscaler(root, "bare")
    for path in (root / "bare" / "1" / "manifest.json", root / "bare" / "config.pbtxt"):
        path.unlink()
    return root


class Caller:
    def __init__(self, channel: grpc.aio.Channel, server: Any, target: str) -> None:
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.channel = channel
        self.server = server
        self.target = target

    async def refusal(self, request: pb.ModelInferRequest, code: grpc.StatusCode = Code.INVALID_ARGUMENT) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stub.ModelInfer(request)
        assert caught.value.code() is code
        return str(caught.value.details())

    def runs(self, model: str) -> int:
        return int(self.server.repository.get(model).statistics.execution_count)


@pytest.fixture
async def call(start: Any) -> AsyncIterator[Any]:
    """`await call(setting=value, ...)`: a server and its caller."""
    channels: list[grpc.aio.Channel] = []

    async def make(**settings: Any) -> Caller:
        running = await start(**settings)
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channels.append(grpc.aio.insecure_channel(running.target, options=options))
        return Caller(channels[-1], running.server, running.target)

    yield make
    for channel in channels:
        await channel.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
async def test_inputs_that_are_not_finite_are_rejected_as_in_the_image_api(
    call: Any, value: float, typed: bool
) -> None:
    caller = await call()
    for name in ("latent", "noise", "truncation_psi", "w"):
        bad = INPUTS[name].copy()
        bad.flat[-1] = value
        text = await caller.refusal(infer_request("styled", {**INPUTS, name: bad}, typed))
        assert text == f"input {name!r}: contains values that are not finite"
    await caller.stub.ModelInfer(infer_request("styled", INPUTS, typed))


async def test_pixels_obey_the_limits_of_images_as_sent_and_as_returned(call: Any) -> None:
    caller = await call(max_whole_px=400, max_image_px=800)
    limited = "at most 400 (max_whole_px)"
    text = await caller.refusal(infer_request("up", image(21, 20)))
    assert text == f"input 'image', in one piece: 20 x 21 = 420 px, {limited}"
    text = await caller.refusal(infer_request("up", image(11, 10)))
    assert text == f"the output for input 'image', in one piece: 20 x 22 = 440 px, {limited}"
    text = await caller.refusal(infer_request("bare", image(21, 20)))
    assert limited in text, "also for a model without a manifest"
    text = await caller.refusal(infer_request("up", image(30, 30)))
    assert text == "input 'image': 30 x 30 = 900 px, at most 800 (max_image_px)"
    assert (caller.runs("up"), caller.runs("bare")) == (0, 0)
    await caller.stub.ModelInfer(infer_request("up", image(10, 10)))


async def test_sides_that_the_network_cannot_have_are_rejected_before_it_runs(call: Any) -> None:
    caller = await call()
    for height, width in ((6, 8), (8, 7), (1, 4)):
        text = await caller.refusal(infer_request("translate", image(height, width)))
        assert text == f"input 'image': image of {width}x{height} px, sides must be multiples of 4 from 4 on"
    assert caller.runs("translate") == 0
    await caller.stub.ModelInfer(infer_request("translate", image(4, 8)))


async def test_replies_above_the_message_limit_are_rejected_before_the_work_if_the_shape_says_so(call: Any) -> None:
    caller = await call(max_message_bytes=1 << 16)
    text = await caller.refusal(infer_request("up", image(80, 80)))
    assert "76800 bytes or more, at most 65536 (max_message_bytes)" in text
    assert caller.runs("up") == 0
    text = await caller.refusal(infer_request("bare", image(80, 80)))  # only the graph knows how much larger it gets
    assert "76800 bytes or more, at most 65536 (max_message_bytes)" in text


async def test_replies_are_counted_before_they_are_held(call: Any) -> None:
    caller = await call(max_held_bytes=8 << 20)
    request = infer_request("up", image(500, 500))
    answers = await asyncio.gather(*(caller.stub.ModelInfer(request) for _ in range(6)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < 6
    assert {error.code() for error in refused} == {Code.RESOURCE_EXHAUSTED}
    assert "the call needs 12000000 bytes of memory, others hold 12000000, limit 8388608 (max_held_bytes)" in {
        error.details() for error in refused
    }
    await caller.stub.ModelInfer(request), "whoever is alone fits, and what was held is given back"


async def test_a_large_typed_request_is_not_read_on_the_loop(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def read(*arguments: Any) -> Any:
        readers.append(threading.current_thread())
        return read_inputs(*arguments)

    monkeypatch.setattr("server.api.kserve.read_inputs", read)
    caller = await call(max_whole_px=1000)  # it is read, and then refused
    infer: Any = caller.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for side in (1000, 20):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await infer(infer_request("up", image(side, side), typed=True).SerializeToString())
    assert [reader is threading.main_thread() for reader in readers] == [False, True]


async def test_answers_that_nobody_reads_are_bounded_and_their_stream_ends(call: Any) -> None:
    caller = await call(stream_idle_s=0.3)
    stream = caller.stub.ModelStreamInfer()

    async def write() -> None:
        for _ in range(800):
            await stream.write(infer_request("up", image(60, 60)))

    writing = asyncio.create_task(write())
    statistics = caller.server.repository.get("up").statistics
    async with asyncio.timeout(10):
        while caller.server._calls._open["streams"] or not statistics.inference_count:
            await asyncio.to_thread(time.sleep, 0.01)
    assert statistics.inference_count < 400
    assert b'{rpc="ModelStreamInfer",model="",code="RESOURCE_EXHAUSTED"} 1\n' in caller.server._metrics.render()
    writing.cancel()
    stream.cancel()
