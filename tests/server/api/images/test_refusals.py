import re
from typing import Any

import grpc
import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from server.images import latents
from tests.server.api.images.conftest import Z

RAW = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
ONE = pb.Seeds(values=[1])


def black(height: int, width: int, channels: int = 3) -> Any:
    return np.zeros((height, width, channels), np.uint8)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.GenerateRequest(model="faces"), "set one of seeds, count, latents, ws"),
        (pb.GenerateRequest(model="faces", seeds=pb.Seeds()), "seeds: 0 images requested"),
        (pb.GenerateRequest(model="faces", count=0), "count: 0 images requested"),
        (
            pb.GenerateRequest(model="faces", count=4097),
            r"4097 images requested, at most 4096 .*max_images_per_call",
        ),
        (pb.GenerateRequest(model="faces", count=(1 << 32) - 1), "at most 4096"),
        (pb.GenerateRequest(model="faces", seeds=ONE, first_seed=3), "first_seed: 3 given without count"),
        (pb.GenerateRequest(model="faces", count=2, first_seed=(1 << 32) - 1), "leaves fewer than 2 seeds"),
        (pb.GenerateRequest(model="faces", latents=pb.Latents(data=bytes(31))), "31 bytes is not n x 32"),
        (pb.GenerateRequest(model="faces", latents=pb.Latents()), "0 bytes is not n x 32"),
        (pb.GenerateRequest(model="faces", seeds=ONE, labels=["x"]), "the model has no classes"),
        (pb.GenerateRequest(model="faces", seeds=ONE, truncations=[0.5]), "does not support it"),
        (pb.GenerateRequest(model="digits", seeds=ONE), "labels: missing"),
        (pb.GenerateRequest(model="digits", seeds=ONE, labels=["two"]), r"0\.\.1 or name \(zero, one\)"),
        (pb.GenerateRequest(model="faces", seeds=ONE, encoding=pb.Encoding(quality=10)), r"PNG accepts 0\.\.9"),
        (pb.GenerateRequest(model="big", seeds=ONE), "super-resolution: it takes an image; use Upscale"),
        (pb.GenerateRequest(model="floats", seeds=ONE), "tensors=float32.* use ModelInfer"),
        (pb.GenerateRequest(model="plain", seeds=ONE), "has no manifest.* use ModelInfer"),
    ],
)
async def test_a_wrong_request_is_rejected_with_what_to_change(
    world: Any, request_: pb.GenerateRequest, text: str
) -> None:
    assert re.search(text, await world.refusal(world.stub.Generate(request_)))
    assert re.search(text, await world.refusal(world.stub.GenerateStream(request_).read()))


async def test_an_unknown_format_is_rejected(world: Any) -> None:
    encoding = pb.Encoding.FromString(bytes([8, 9]))  # format: 9
    call = world.stub.Generate(pb.GenerateRequest(model="faces", seeds=ONE, encoding=encoding))
    assert "encoding.format: 9 is unknown" in await world.refusal(call)


async def test_an_unknown_model_is_not_found(world: Any) -> None:
    for call in (
        world.stub.Generate(pb.GenerateRequest(model="none", seeds=ONE)),
        world.stub.Upscale(pb.UpscaleRequest(model="none")),
    ):
        assert "Request for unknown model: 'none' is not found" in await world.refusal(call, grpc.StatusCode.NOT_FOUND)


async def test_an_image_for_a_generator_is_sent_to_generate(world: Any) -> None:
    call = world.stub.Upscale(pb.UpscaleRequest(model="faces", image=world.png(black(4, 4))))
    assert "unconditional: it takes seeds or latents; use Generate" in await world.refusal(call)


async def test_a_damaged_image_is_rejected_and_leaves_nothing_queued(world: Any) -> None:
    data = bytearray(world.png(np.arange(4800, dtype=np.uint8).reshape(40, 40, 3)))
    data[len(data) // 2] ^= 0xFF
    text = await world.refusal(world.stub.Upscale(pb.UpscaleRequest(model="big", image=bytes(data[:-40]))))
    assert text.startswith("image: damaged PNG")
    assert world.waiting("big") == 0


async def test_alpha_in_a_jpeg_is_rejected(world: Any) -> None:
    request = pb.UpscaleRequest(
        model="big", image=world.png(black(4, 4, 4)), encoding=pb.Encoding(format=pb.IMAGE_FORMAT_JPEG)
    )
    assert "or set alpha to DROP" in await world.refusal(world.stub.Upscale(request))
    request.alpha = pb.ALPHA_POLICY_DROP
    assert (await world.stub.Upscale(request)).image.channels == 3


async def test_one_raw_size_without_the_other_is_rejected(world: Any) -> None:
    request = pb.UpscaleRequest(model="big", image=bytes(12), raw_width=4)
    assert "raw_width, raw_height: 4 x 0" in await world.refusal(world.stub.Upscale(request))


async def test_images_above_the_pixel_limit_are_rejected_as_sent_and_as_enlarged(serve: Any) -> None:
    async with serve(max_image_px=400) as world:
        for side, text in ((21, "image: 21 x 21 = 441 px"), (11, "the returned image: 22 x 22 = 484 px")):
            call = world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(black(side, side))))
            assert text in await world.refusal(call)
        await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(black(10, 10))))


async def test_raw_replies_above_the_message_limit_are_rejected_before_the_work(serve: Any) -> None:
    async with serve(max_message_bytes=1 << 16) as world:
        request = pb.GenerateRequest(model="faces", count=700, encoding=RAW)
        text = await world.refusal(world.stub.Generate(request))
        assert "75600 bytes or more, at most 65536 (max_message_bytes); use GenerateStream" in text
        assert world.engine("faces").batches == []
        assert len([reply async for reply in world.stub.GenerateStream(request)]) == 700


async def test_encoded_replies_above_the_message_limit_stop_as_soon_as_they_are(serve: Any) -> None:
    async with serve(max_message_bytes=1 << 16) as world:
        text = await world.refusal(world.stub.Generate(pb.GenerateRequest(model="faces", count=4000)))
        assert "use GenerateStream" in text
        assert sum(world.engine("faces").batches) < 4000


async def test_images_that_others_memory_leaves_no_room_for_are_rejected_at_once(serve: Any) -> None:
    async with serve(max_held_bytes=20_000) as world:
        world.engine("big").gate.clear()
        request = pb.UpscaleRequest(model="big", image=world.png(black(30, 30)))
        first = world.stub.Upscale(request)
        await world.until(lambda: world.waiting("big") > 0)
        text = await world.refusal(world.stub.Upscale(request), grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert "limit 20000 (max_held_bytes)" in text
        world.engine("big").gate.set()
        await first
        await world.stub.Upscale(request)


@pytest.mark.parametrize("count", [2, 1000])
async def test_a_request_that_comes_too_late_for_the_queue_is_rejected_before_its_latents_are_made(
    world: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for cost in world.repository.get("faces").batcher.costs.values():
        cost.learn(items=1, nbytes=4 * Z, device_s=1.0)
    world.engine("faces").gate.clear()
    waiting = [world.stub.Generate(pb.GenerateRequest(model="faces", count=1), timeout=60)]
    await world.until(lambda: world.engine("faces").running)
    waiting.append(world.stub.Generate(pb.GenerateRequest(model="faces", count=1), timeout=60))
    await world.until(lambda: world.waiting("faces") > 0)
    with monkeypatch.context() as patched:
        patched.setattr(latents, "from_seeds", lambda *_: pytest.fail("latents were made"))
        for rpc in (world.stub.Generate, world.stub.GenerateStream):
            call = rpc(pb.GenerateRequest(model="faces", count=count), timeout=2)
            with pytest.raises(grpc.aio.AioRpcError, match="the deadline is in") as rejected:
                await (call.read() if rpc is world.stub.GenerateStream else call)
            assert rejected.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    world.engine("faces").gate.set()
    for call in waiting:
        await call


async def test_a_deadline_ends_the_wait_for_a_busy_engine(world: Any) -> None:
    world.engine("faces").gate.clear()
    call = world.stub.Generate(pb.GenerateRequest(model="faces", count=20), timeout=0.3)
    await world.refusal(call, grpc.StatusCode.DEADLINE_EXCEEDED)
    await world.until(lambda: world.waiting("faces") == 0)  # the server's clock may be the later one
    world.engine("faces").gate.set()
    assert sum(world.engine("faces").batches) <= 4


async def test_the_list_says_what_each_model_is(world: Any) -> None:
    models = {model.name: model for model in (await world.stub.ListModels(pb.ListModelsRequest())).models}
    assert {"faces", "digits", "big", "styled", "floats", "plain"} <= set(models)
    digits, big, plain = models["digits"], models["big"], models["plain"]
    assert (digits.version, digits.state, digits.task) == ("3", "READY", "class-conditional")
    assert (list(digits.labels), digits.latent_size, digits.truncation) == (["zero", "one"], 8, True)
    assert (digits.height, digits.width, digits.max_batch_size) == (6, 6, 4)
    assert (digits.licence, digits.source, digits.architecture) == ("MIT", "made up", "fake")
    assert (big.task, big.scale, big.truncation) == ("super-resolution", 2, False)
    assert (plain.task, plain.state) == ("", "READY")
