"""Generate with further steps: every image through other networks before it is encoded, nothing leaving the server."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from server.api.steps import MAX_STEPS

Code = grpc.StatusCode
RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)


def request(*then: str, seeds: Any = (1,), model: str = "faces", **fields: Any) -> pb.GenerateRequest:
    steps = [pb.Step(model=name) for name in then]
    return pb.GenerateRequest(model=model, seeds=pb.Seeds(values=seeds), then=steps, **fields)


async def all_at_once(stub: Any, request: pb.GenerateRequest) -> tuple[list[Any], Any]:
    reply = await stub.Generate(request)
    return list(reply.images), reply


async def as_they_come(stub: Any, request: pb.GenerateRequest) -> tuple[list[Any], Any]:
    replies = sorted([reply async for reply in stub.GenerateStream(request)], key=lambda reply: reply.index)
    return [reply.image for reply in replies], replies[-1]


@pytest.mark.parametrize("ask", [all_at_once, as_they_come])
async def test_each_image_is_enlarged_before_it_is_encoded(world: Any, ask: Callable[..., Any]) -> None:
    images, reply = await ask(world.stub, request("big", seeds=range(9)))
    for seed, image in enumerate(images):
        assert np.array_equal(world.pixels(image), world.enlarge(world.face(seed)))
        assert (image.seed, image.height, image.width, image.channels) == (seed, 12, 12, 3)
    step = reply.then[0]
    assert (reply.model, step.model, step.version, step.tiles) == ("faces", "big", "3", 1)
    assert 1 <= step.largest_batch <= 4
    assert world.statistics("faces").inference_count == world.statistics("big").inference_count == 9


async def test_steps_are_made_in_order_and_large_images_in_tiles(world: Any) -> None:
    reply = await world.stub.Generate(request("big", "big", "big", "styled"))
    face = world.face(1)
    for _ in range(3):
        face = world.enlarge(face)
    assert np.array_equal(world.pixels(reply.images[0]), face)
    assert [(step.model, step.tiles) for step in reply.then] == [("big", 1), ("big", 1), ("big", 4), ("styled", 1)]


async def test_the_image_is_the_one_that_two_calls_give(world: Any) -> None:
    together = await world.stub.Generate(request("big", "big", "big"))
    image = (await world.stub.Generate(request())).images[0].data
    for _ in range(3):
        image = (await world.stub.Upscale(pb.UpscaleRequest(model="big", image=image))).image.data
    assert together.images[0].data == image


async def test_images_of_one_request_share_batches_in_every_step(world: Any) -> None:
    world.engine("big").gate.clear()
    call = world.stub.Generate(request("big", seeds=range(12)))
    await world.until(lambda: world.queued("big") >= 8)
    world.engine("big").gate.set()
    assert (await call).then[0].largest_batch == 4


async def test_grey_images_stay_grey(world: Any) -> None:
    reply = await world.stub.Generate(request("sketched", "big", "coloured"))
    assert [(image.height, image.channels) for image in reply.images] == [(12, 3)]
    text = await world.refusal(world.stub.Generate(request("coloured")))
    assert text.startswith("step 2 (model 'coloured'): image: it has colours")


async def test_a_version_may_be_named(world: Any) -> None:
    steps = [pb.Step(model="big", version="3"), pb.Step(model="big", version="4")]
    await world.stub.Generate(pb.GenerateRequest(model="faces", count=1, then=steps[:1]))
    call = world.stub.Generate(pb.GenerateRequest(model="faces", count=1, then=steps))
    text = await world.refusal(call, Code.NOT_FOUND)
    assert text.startswith("step 3 (model 'big'): ")
    assert "version 4 is not found" in text


@pytest.mark.parametrize(
    ("then", "code", "text"),
    [
        (["nobody"], Code.NOT_FOUND, "step 2 (model 'nobody'): Request for unknown model: 'nobody' is not found"),
        (["big", ""], Code.NOT_FOUND, "step 3 (model ''): Request for unknown model"),
        (["faces"], Code.INVALID_ARGUMENT, "step 2 (model 'faces'): model 'faces' is unconditional"),
        (["plain"], Code.INVALID_ARGUMENT, "step 2 (model 'plain'): model 'plain' has no manifest"),
        (["deep"], Code.INVALID_ARGUMENT, "step 2 (model 'deep'): model: it takes 5 channels"),
        (["styled"] * (MAX_STEPS + 1), Code.INVALID_ARGUMENT, f"then: 9 steps, at most {MAX_STEPS}"),
        (["big"] * 1000, Code.INVALID_ARGUMENT, f"then: 1000 steps, at most {MAX_STEPS}"),
    ],
)
async def test_steps_that_cannot_be_made_are_refused_before_any_work(
    world: Any, then: list[str], code: grpc.StatusCode, text: str
) -> None:
    assert (await world.refusal(world.stub.Generate(request(*then)), code)).startswith(text)
    assert not world.engine("faces").batches


async def test_images_of_five_channels_go_through_nothing(world: Any) -> None:
    text = await world.refusal(world.stub.Generate(request("big", model="layered")))
    assert text == "step 2 (model 'big'): images of 5 channels come in; a network takes 1 to 4"


async def test_the_limits_hold_for_every_step_before_any_work(serve: Any) -> None:
    async with serve(max_image_px=24 * 24, max_whole_px=12 * 12) as world:
        await world.stub.Generate(request("styled", "big", "styled", "big"))
        done = len(world.engine("faces").batches)
        text = await world.refusal(world.stub.Generate(request("big", "big", "big")))
        assert text.startswith("step 4 (model 'big'): the returned image: 48 x 48 = 2304 px, at most 576")
        assert "max_image_px" in text
        text = await world.refusal(world.stub.Generate(request("big", "big", "styled")))
        assert text.startswith("step 4 (model 'styled'): image, in one piece: 24 x 24 = 576 px, at most 144")
        assert len(world.engine("faces").batches) == done


async def test_the_reply_is_limited_by_its_final_size(serve: Any) -> None:
    async with serve(max_message_bytes=1 << 16) as world:
        text = await world.refusal(world.stub.Generate(request(*["big"] * 5, encoding=RAW)))
        assert text.startswith("the reply is 110592 bytes or more, at most 65536 (max_message_bytes)")
        assert not world.engine("faces").batches


async def test_memory_of_every_step_is_counted_before_any_work(serve: Any) -> None:
    async with serve(max_held_bytes=1) as world:
        world.engine("faces").gate.clear()
        first = world.stub.Generate(request(*["big"] * 7))
        await world.until(lambda: world.engine("faces").running)
        for call in (world.stub.Generate, as_stream(world)):
            text = await world.refusal(call(request(*["big"] * 7)), Code.RESOURCE_EXHAUSTED)
            assert "max_held_bytes" in text
        world.engine("faces").gate.set()
        assert (await first).images[0].height == 6 * 2**7
        await world.stub.Generate(request(*["big"] * 7))


def as_stream(world: Any) -> Callable[[Any], Any]:
    return lambda request: as_they_come(world.stub, request)


@pytest.mark.parametrize("ask", [all_at_once, as_they_come])
async def test_leaving_in_the_middle_drops_what_waits(world: Any, ask: Callable[..., Any]) -> None:
    world.engine("big").gate.clear()
    call = asyncio.create_task(ask(world.stub, request("big", seeds=range(40))))
    await world.until(lambda: world.engine("big").running and world.queued("big") > 1)
    call.cancel()
    await world.until(lambda: world.waiting("big") == world.waiting("faces") == 0)
    world.engine("big").gate.set()
    await world.until(lambda: world.statistics("big").failures["CANCELED"] == 1)
    assert (await world.stub.Generate(request("big"))).images[0].height == 12


async def test_a_step_that_fails_is_named_and_the_next_call_is_answered(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ArithmeticError("secret")

    with monkeypatch.context() as patched:
        patched.setattr(world.engine("big"), "run", fail)
        text = await world.refusal(world.stub.Generate(request("big", seeds=range(6))), Code.INTERNAL)
        assert text.startswith("step 2 (model 'big'): inference failed")
        assert "secret" not in text
    assert (await world.stub.Generate(request("big"))).images[0].height == 12


async def test_a_model_that_is_unloaded_in_the_middle_answers_what_was_accepted(world: Any) -> None:
    world.engine("faces").gate.clear()
    call = world.stub.Generate(request("big"))
    await world.until(lambda: world.engine("faces").running)
    draining = asyncio.create_task(world.repository.get("big").batcher.drain())
    await world.refusal(world.stub.Generate(request("big")), Code.UNAVAILABLE)
    world.engine("faces").gate.set()
    assert np.array_equal(world.pixels((await call).images[0]), world.enlarge(world.face(1)))
    await draining
