"""Requests that found a model before another version took its place are answered by it."""

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.batching.visitors import Visitors
from tests.server.conftest import Start

CALLERS, RELOADS = 16, 20


@pytest.mark.parametrize("frontend", ["native", "grpcio"])
async def test_no_request_is_lost_when_a_model_is_loaded_again(start: Start, repository: Path, frontend: str) -> None:
    # with the cache there is a wait between finding the model and being admitted to its queue
    (repository / "tiny" / "config.pbtxt").write_text("max_batch_size: 8 response_cache { enable: true }")
    running = await start(frontend=frontend, response_cache_bytes=1 << 20)
    answered, failed, ended = 0, [], False

    async def call_on(stub: service_pb2_grpc.GRPCInferenceServiceStub, seed: int) -> None:
        nonlocal answered
        random = np.random.RandomState(seed)
        while not ended:
            request = service_pb2.ModelInferRequest(model_name="tiny")
            request.inputs.add(name="latent", datatype="FP32", shape=[1, 4])
            request.raw_input_contents.append(random.randn(1, 4).astype(np.float32).tobytes())
            try:
                await stub.ModelInfer(request)
                answered += 1
            except grpc.aio.AioRpcError as error:
                failed.append((error.code(), error.details()))

    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        callers = [asyncio.create_task(call_on(stub, seed)) for seed in range(CALLERS)]
        for _ in range(RELOADS):
            await running.server.repository.load("tiny")
        ended = True
        await asyncio.gather(*callers)
    assert not failed
    assert answered


async def test_a_model_closes_when_all_who_found_it_are_gone() -> None:
    visitors = Visitors()
    await visitors.gone()
    with visitors:
        closing = asyncio.create_task(visitors.gone())
        with visitors:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not closing.done()
    await closing
