"""Overload and fairness as callers meet them, over real sockets on both front ends."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.server.conftest import Running, Start


class Held:
    """The engine of `tiny`, which waits at a gate; `batches`: the first value of each item that it ran. A context, so
    that a test that fails lets the server stop."""

    def __init__(self, running: Running) -> None:
        engine: Any = running.server.repository.get_model("tiny").engine
        self._run = engine.run
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[float]] = []
        engine.run = self.run

    def run(self, arrays: Any, whole_device: bool) -> Any:
        self.entered.release()
        assert self.gate.wait(30)
        self.batches.append(arrays["latent"][:, 0].tolist())
        return self._run(arrays, whole_device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Any]:
    """A stub on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(running.target, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def asking(value: float, items: int = 1) -> Any:
    request = service_pb2.ModelInferRequest(model_name="tiny")
    request.inputs.add(name="latent", datatype="FP32", shape=[items, 4])
    request.raw_input_contents.append(np.full((items, 4), value, np.float32).tobytes())
    return request


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_one_stall_does_not_make_every_later_call_late(start: Start) -> None:
    running = await start(threads=1)
    with Held(running) as held:
        async with connected(running) as stub:
            first = asyncio.ensure_future(stub.ModelInfer(asking(0)))
            await held.busy()
            threading.Timer(1.2, held.gate.set).start()
            await first
            for value in range(10):
                await stub.ModelInfer(asking(value), timeout=1.0)


async def test_without_a_deadline_a_call_beyond_the_target_is_rejected_and_told_when_to_come_back(
    start: Start, frontend: str
) -> None:
    running = await start(threads=1, queue_target_s=0.12)
    batcher = running.server.repository.get_model("tiny").batcher
    (cost,) = batcher.costs.values()
    for _ in range(20):
        cost.learn(items=1, nbytes=16, device_s=0.02)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(stub.ModelInfer(asking(value))) for value in range(1, 3)]
            await until(lambda: batcher.waiting_items == 2)
            with pytest.raises(grpc.aio.AioRpcError) as rejected:
                await stub.ModelInfer(asking(9))
            held.gate.set()
            await asyncio.gather(*calls)
    assert rejected.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 items wait; the answer would take about 0.080 s" in str(rejected.value.details())
    assert "queue_target_s" in str(rejected.value.details())
    trailers = dict(rejected.value.trailing_metadata() or ())
    if frontend == "grpcio":  # the other cannot send a key of this prefix
        assert 0 < int(trailers["grpc-retry-pushback-ms"]) < 100


async def test_the_target_is_off_at_zero(start: Start) -> None:
    running = await start(threads=1, queue_target_s=0)
    batcher = running.server.repository.get_model("tiny").batcher
    (cost,) = batcher.costs.values()
    cost.learn(items=1, nbytes=16, device_s=100.0)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(stub.ModelInfer(asking(value))) for value in range(30)]
            await until(lambda: batcher.waiting_items == 30)
            held.gate.set()
            await asyncio.gather(*calls)


async def test_a_client_with_many_requests_does_not_keep_another_waiting(start: Start) -> None:
    running = await start(threads=1)
    batcher = running.server.repository.get_model("tiny").batcher
    with Held(running) as held:
        async with connected(running) as greedy, connected(running) as other:
            calls = [asyncio.ensure_future(greedy.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(greedy.ModelInfer(asking(value, items=2))) for value in range(1, 60)]
            await until(lambda: batcher.waiting_items == 118)
            calls.append(asyncio.ensure_future(other.ModelInfer(asking(-1))))
            await until(lambda: batcher.waiting_items == 119)
            held.gate.set()
            await asyncio.gather(*calls)
    assert any(-1.0 in batch for batch in held.batches[1:3]), "within two batches"
