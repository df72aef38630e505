"""Images of 16 bits."""

import asyncio
from typing import Any

import numpy as np
import pytest

from ganserve.v1 import images_pb2 as pb
from tests.server.api.images.test_upscale import noise
from tests.server.images.png16 import read_png16, write_png16

STORED = pb.Encoding(format=pb.IMAGE_FORMAT_PNG, quality=0)


def deep(height: int, width: int, channels: int) -> Any:
    pixels = np.random.RandomState(channels).randint(0, 65536, (height, width, channels)).astype(np.uint16)
    if channels in (2, 4):
        pixels[..., -1] |= 0x8000  # no pixel is hidden
    return pixels


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
async def test_16_bits_stay_16_bits(world: Any, channels: int) -> None:
    sent = deep(20, 37, channels)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=write_png16(sent), encoding=STORED))
    assert (reply.image.bits, reply.image.channels, list(reply.warnings)) == (16, channels, [])
    found = read_png16(reply.image.data)
    # Grey comes back as the luma of three equal channels.
    assert np.abs(found.astype(int) - world.enlarge(sent)).max() <= (0 if channels >= 3 else 1)


@pytest.mark.parametrize("key", [(1, 2, 3), (40000, 7, 65535)])
async def test_a_transparent_colour_is_compared_with_all_16_bits(world: Any, key: tuple[int, int, int]) -> None:
    sent = deep(9, 12, 3)
    sent[2:5, 3:7] = key
    sent[6, 6] = (key[0], key[1], key[2] ^ 1)
    chunk = (b"tRNS", np.array(key, ">u2").tobytes())
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=write_png16(sent, chunk), encoding=STORED))
    alpha = read_png16(reply.image.data)[::2, ::2, 3]
    assert (alpha[3, 4:6] == 0).all()
    assert alpha[6, 6] == 65535


async def test_raw_pixels_of_16_bits_go_in_and_come_out(world: Any) -> None:
    sent = deep(19, 33, 3)
    raw = {"image": sent.astype("<u2").tobytes(), "raw_width": 33, "raw_height": 19, "raw_bits": 16}
    encoding = pb.Encoding(format=pb.IMAGE_FORMAT_RAW, bits=16)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", encoding=encoding, **raw))
    assert reply.image.data == world.enlarge(sent).astype("<u2").tobytes()
    encoding = pb.Encoding(format=pb.IMAGE_FORMAT_RAW)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", encoding=encoding, **raw))
    assert reply.image.data == world.enlarge((sent >> 8).astype(np.uint8)).tobytes()
    assert "encoding.bits was not set" in reply.warnings[0]


async def test_8_bits_become_16_where_asked(world: Any) -> None:
    sent = noise(20, 20, 4)
    encoding = pb.Encoding(format=pb.IMAGE_FORMAT_PNG, quality=0, bits=16)
    reply = await world.stub.Upscale(pb.UpscaleRequest(model="big", image=world.png(sent), encoding=encoding))
    assert np.array_equal(read_png16(reply.image.data), world.enlarge(sent).astype(int) * 257)
    assert not reply.warnings


async def test_another_size_keeps_16_bits(world: Any) -> None:
    ramp = np.linspace(0, 65535, 60).astype(np.uint16)[None, :, None].repeat(40, 0).repeat(3, 2)
    reply = await world.stub.Upscale(
        pb.UpscaleRequest(model="big", image=write_png16(ramp), encoding=STORED, scale=1.5)
    )
    found = read_png16(reply.image.data)
    assert found.shape == (60, 90, 3)
    assert len(np.unique(found[30, :, 0])) > 80


@pytest.mark.parametrize(
    ("model", "encoding", "text"),
    [
        ("big", {"format": pb.IMAGE_FORMAT_JPEG}, "JPEG has no more"),
        ("big", {"format": pb.IMAGE_FORMAT_WEBP}, "WebP has no more"),
        ("old", {}, "the model was exported for 8"),
        ("big", {"bits": 8}, ""),
        ("big", {"format": pb.IMAGE_FORMAT_JPEG, "bits": 8}, ""),
    ],
)
async def test_what_becomes_8_bits_is_said_unless_it_was_asked_for(
    world: Any, model: str, encoding: dict[str, Any], text: str
) -> None:
    sent = deep(20, 20, 3)
    request = pb.UpscaleRequest(model=model, image=write_png16(sent), encoding=pb.Encoding(**encoding))
    reply = await world.stub.Upscale(request)
    assert reply.image.bits == 8
    assert text in "".join(reply.warnings)
    assert bool(text) == bool(reply.warnings)
    if reply.image.format == pb.IMAGE_FORMAT_PNG:
        assert np.array_equal(world.pixels(reply.image), world.enlarge((sent >> 8).astype(np.uint8)))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": "old", "encoding": pb.Encoding(bits=16)}, "the model was exported for images of 8 bits"),
        ({"encoding": pb.Encoding(bits=16, format=pb.IMAGE_FORMAT_JPEG)}, "JPEG has 8 bits; use PNG or RAW"),
        ({"encoding": pb.Encoding(bits=12)}, "encoding.bits: 12; must be 8 or 16"),
        ({"raw_bits": 16}, "raw_bits: 16 given without raw_width and raw_height"),
        ({"raw_bits": 10, "raw_width": 2, "raw_height": 2}, "raw_bits: 10; must be 8 or 16"),
        ({"raw_bits": 16, "raw_width": 2, "raw_height": 2, "image": b"123"}, "channels of uint16"),
    ],
)
async def test_bits_that_cannot_be_are_refused(world: Any, fields: dict[str, Any], text: str) -> None:
    fields = {"model": "big", "image": world.png(noise(4, 4)), **fields}
    assert text in await world.refusal(world.stub.Upscale(pb.UpscaleRequest(**fields)))


async def test_generated_images_have_8_bits(world: Any) -> None:
    request = pb.GenerateRequest(model="faces", count=1, encoding=pb.Encoding(bits=16))
    assert "generated images have 8" in await world.refusal(world.stub.Generate(request))
    reply = await world.stub.Generate(pb.GenerateRequest(model="faces", count=1))
    assert reply.images[0].bits == 8


async def test_16_bits_and_8_do_not_share_a_batch(world: Any) -> None:
    engine = world.engine("big")
    engine.gate.clear()
    images = (world.png(noise(16, 16)), write_png16(deep(16, 16, 3)), world.png(noise(16, 16, 1)))
    calls = [asyncio.ensure_future(world.stub.Upscale(pb.UpscaleRequest(model="big", image=image))) for image in images]
    await world.until(lambda: world.waiting("big") >= 2)
    engine.gate.set()
    assert [(await call).image.bits for call in calls] == [8, 16, 8]
