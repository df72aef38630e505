"""Callers that do not read what they asked for."""

import asyncio
import threading
from typing import Any

import grpc
import pytest

from ganserve.v1 import images_pb2 as pb
from server.api.transport import GRPCIO, NATIVE
from tests.server.api.raw_http2 import message, raw_connection

GENERATE_STREAM = "/ganserve.v1.ImageService/GenerateStream"
RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
MANY = message(pb.GenerateRequest(model="faces", count=4000, encoding=RAW).SerializeToString())


async def streams(world: Any, number: int) -> None:
    """Returns once so many streams are open."""
    line = f'ganserve_requests_in_flight{{rpc="GenerateStream"}} {number}\n'.encode()
    await world.until(lambda: line in world.metrics.render())


both = pytest.mark.parametrize("frontend", [GRPCIO, NATIVE])


@both
async def test_a_stream_that_nobody_reads_is_ended_and_its_images_are_not_computed(serve: Any, frontend: str) -> None:
    async with serve(frontend, stream_idle_s=0.2) as world, raw_connection(world.target, window=0) as connection:
        stream = connection.begin(GENERATE_STREAM, MANY, ends=True)
        await streams(world, 1)
        await streams(world, 0)
        assert sum(world.engine("faces").batches) < 100
        assert world.waiting("faces") == 0
        connection.open_window(stream, 1 << 20)
        answer = await connection.until_closed(stream)
        if frontend == GRPCIO:
            assert b"the client took no message for 0.2 s, the limit (stream_idle_s)" in answer
        assert b'code="RESOURCE_EXHAUSTED"' in world.metrics.render()
        assert len(connection.closed) == 1
        await world.stub.Generate(pb.GenerateRequest(model="faces", count=1))


@both
async def test_streams_that_nobody_reads_hold_up_nobody_else(serve: Any, frontend: str) -> None:
    async with serve(frontend) as world, raw_connection(world.target, window=0) as connection:
        for _ in range(40):
            connection.begin(GENERATE_STREAM, MANY, ends=True)
        await streams(world, 40)
        async with asyncio.timeout(5):
            call = world.stub.GenerateStream(pb.GenerateRequest(model="faces", count=500, encoding=RAW))
            assert len([reply async for reply in call]) == 500


@both
async def test_streams_that_were_ended_keep_no_thread(serve: Any, frontend: str) -> None:
    async with serve(frontend, stream_idle_s=0.2) as world, raw_connection(world.target, window=0) as connection:
        await world.stub.Generate(pb.GenerateRequest(model="faces", count=20))  # threads that stay have begun
        before = threading.active_count()
        for _ in range(8):
            connection.begin(GENERATE_STREAM, MANY, ends=True)
        await world.until(lambda: b'code="RESOURCE_EXHAUSTED"} 8\n' in world.metrics.render())
        assert threading.active_count() < before + 8


@both
async def test_only_so_many_streams_may_be_open(serve: Any, frontend: str) -> None:
    async with serve(frontend, max_streams=2) as world, raw_connection(world.target, window=0) as connection:
        for _ in range(2):
            connection.begin(GENERATE_STREAM, MANY, ends=True)
        await streams(world, 2)
        text = await world.refusal(
            world.stub.GenerateStream(pb.GenerateRequest(model="faces", count=2)).read(),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )
        assert text == "2 streams are open, limit 2 (max_streams)"
