"""A caller that left and one whose deadline passed are told apart, by both front ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.api.calls import Calls
from server.api.native import NativeServer
from server.observability.metrics import Metrics

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
