"""UpscaleStream."""

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from server.api import pieces
from tests.server.api.images.test_upscale import noise


async def received(world: Any, request: pb.UpscaleRequest) -> tuple[list[pb.UpscaleStreamReply], bytes]:
    replies = [reply async for reply in world.stub.UpscaleStream(request)]
    assert [reply.HasField("result") for reply in replies] == [False] * (len(replies) - 1) + [True]
    done = [reply.tiles_done for reply in replies]
    assert done == sorted(done)
    return replies, b"".join(reply.data for reply in replies)


@pytest.mark.parametrize("format", [pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG, pb.IMAGE_FORMAT_RAW])
@pytest.mark.parametrize("scale", [0, 3])
async def test_the_pieces_are_the_image_that_upscale_replies(world: Any, format: Any, scale: float) -> None:
    fields = {"image": world.png(noise(60, 90)), "scale": scale, "encoding": pb.Encoding(format=format)}
    request = pb.UpscaleRequest(model="big", **fields)
    expected = await world.stub.Upscale(request)
    replies, data = await received(world, request)
    assert data == expected.image.data
    result = replies[-1].result
    assert (result.image.width, result.image.height) == (expected.image.width, expected.image.height)
    assert (result.tiles, result.model, result.image.data) == (expected.tiles, "big", b"")
    assert replies[-1].tiles_done == replies[-1].tiles == expected.tiles


async def test_an_image_may_be_longer_than_a_message(serve: Any) -> None:
    async with serve(max_message_bytes=1 << 20) as world:
        sent = np.random.RandomState(0).randint(0, 256, (400, 700, 3)).astype(np.uint8)
        request = pb.UpscaleRequest(model="big", image=world.png(sent), encoding=pb.Encoding(quality=0))
        assert "use UpscaleStream" in await world.refusal(world.stub.Upscale(request))
        replies, data = await received(world, request)
        image = replies[-1].result.image
        image.data = data
        assert np.array_equal(world.pixels(image), world.enlarge(sent))
        assert all(len(reply.data) <= pieces.PIECE_BYTES for reply in replies)


async def test_cancelling_ends_the_work(world: Any) -> None:
    engine = world.engine("big")
    engine.gate.clear()
    call = world.stub.UpscaleStream(pb.UpscaleRequest(model="big", image=world.png(noise(200, 200))))
    reading = asyncio.ensure_future(call.read())
    await world.until(lambda: engine.running)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await world.until(lambda: world.waiting("big") == 0)
    engine.gate.set()
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(noise(8, 8))))
    assert reply.tiles == 1


async def test_what_is_refused_is_refused_before_anything_is_sent(world: Any) -> None:
    call = world.stub.UpscaleStream(pb.UpscaleRequest(model="big", image=b"GIF89a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
