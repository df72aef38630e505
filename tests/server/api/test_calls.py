"""A caller that left and one whose deadline passed are told apart, by both front ends."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from server.api.calls import Calls
from server.api.kserve_tensors import read_inputs
from server.api.native import NativeServer
from server.errors import in_step
from server.observability.metrics import Metrics
from server.repository.declared import DeclaredTensor

REQUEST = health_pb2.HealthCheckRequest()


class Endless:
    """A servicer that never finishes."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        self.entered.set()
        await asyncio.Event().wait()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield health_pb2.HealthCheckResponse()
        self.entered.set()
        await asyncio.Event().wait()


class Codes(Metrics):
    """Metrics that also keep the code of each call that has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: asyncio.Queue[str] = asyncio.Queue()

    def rpc_finished(self, rpc: str, model: str, code: str, seconds: float, trace_id: str = "") -> None:
        super().rpc_finished(rpc, model, code, seconds, trace_id)
        self.ended.put_nowait(code)


async def finish(call: Any) -> None:
    if isinstance(call, grpc.aio.UnaryUnaryCall):
        await call
    else:
        async for _ in call:
            pass


@pytest.mark.parametrize("frontend", ["grpcio", "native"])
@pytest.mark.parametrize("rpc", ["Check", "Watch"])
async def test_a_deadline_that_passes_is_no_cancellation(frontend: str, rpc: str) -> None:
    server = grpc.aio.server() if frontend == "grpcio" else NativeServer([], 1 << 20, 1 << 16)
    codes, endless = Codes(), Endless()
    wrapped = Calls(codes).wrap(endless, "grpc.health.v1.Health", ["Check", "Watch"])
    health_pb2_grpc.add_HealthServicer_to_server(wrapped, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = getattr(health_pb2_grpc.HealthStub(channel), rpc)
        for deadline_s, code in ((0.5, "DEADLINE_EXCEEDED"), (60, "CANCELLED"), (None, "CANCELLED")):
            endless.entered.clear()
            call = method(REQUEST, timeout=deadline_s)
            await asyncio.wait_for(endless.entered.wait(), 20)
            if code == "CANCELLED":
                call.cancel()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await finish(call)
            assert await asyncio.wait_for(codes.ended.get(), 20) == code
    await server.stop(None)


class Message:
    """A request that can be seen to be freed, with a number that is no UINT8."""

    raw_input_contents = ()
    model_name = "any"

    def __init__(self, _: bytes) -> None:
        tensor = service_pb2.ModelInferRequest.InferInputTensor(name="a", datatype="UINT8", shape=[1])
        tensor.contents.uint_contents.append(300)
        self.inputs = [tensor]


def reads_numbers(message: Message) -> None:
    read_inputs(message, [DeclaredTensor("a", "UINT8", (1,), (1,), (1,))], 0)


def names_the_step(message: Message) -> None:
    with in_step("step 1"):
        reads_numbers(message)


def has_a_bug(message: Message) -> None:
    raise ValueError


@pytest.mark.parametrize("frontend", ["grpcio", "native"])
@pytest.mark.parametrize("rpc", ["Check", "Watch"])
@pytest.mark.parametrize("work", [reads_numbers, names_the_step, has_a_bug])
async def test_the_message_of_a_failed_call_is_freed_at_once(
    frontend: str, rpc: str, work: Callable[[Message], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.calls.log.disabled", True)  # pytest keeps what is logged, the traceback with it
    seen: list[weakref.ref[Message]] = []

    class Failing:
        async def Check(self, message: Message, context: Any) -> Any:
            seen.append(weakref.ref(message))
            work(message)

        async def Watch(self, message: Message, context: Any) -> AsyncIterator[Any]:
            await self.Check(message, context)
            yield

    server = grpc.aio.server() if frontend == "grpcio" else NativeServer([], 1 << 20, 1 << 16)
    method = getattr(Calls(Metrics()).wrap(Failing(), "test.Service", [rpc]), rpc)
    make = grpc.unary_unary_rpc_method_handler if rpc == "Check" else grpc.unary_stream_rpc_method_handler
    server.add_registered_method_handlers("test.Service", {rpc: make(method, Message, bytes)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.disable()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary if rpc == "Check" else channel.unary_stream
            with pytest.raises(grpc.aio.AioRpcError):
                await finish(call(f"/test.Service/{rpc}", bytes, bytes)(b""))
        async with asyncio.timeout(10):
            while seen[0]() is not None:  # the client may have the status before the call has ended
                await asyncio.to_thread(threading.Event().wait, 0.01)
    finally:
        gc.enable()
        await server.stop(None)
